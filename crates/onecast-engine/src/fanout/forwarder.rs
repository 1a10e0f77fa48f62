//! How one viewer is sent one track: where it starts, its numbering, its payload type. A plain value.
//!
//! Nonce rule (docs/ARCHITECTURE.md): for one viewer, one packet index of the media SSRC always stands for the same bytes. The
//! window fixes packet and padding. The forwarder fixes the rest from one start to the next: `base`, payload type, frame numbers, and
//! the timestamps of what was sent of the past. A start, be it the first, after a change of codec or a repetition, goes on with numbers
//! that were never used, and nothing from before it is sent again.

use std::time::Instant;

use super::catch_up::{CatchUp, LiveClock, Stamping};
use super::formats::{ViewerFormat, ViewerLine};
use super::frame_numbers::FrameNumbers;
use super::pacer::Volume;
use super::repairs::Repairs;
use crate::media::Packet;
use crate::media::continuity::REORDER_MAX;
use crate::media::window::StartPoint;
use onecast_rtc::rtp::{Codec, Kind, Pt, RtpTime};

/// One viewer's view of one track.
#[derive(Debug)]
pub struct Forwarder {
    line: ViewerLine,
    codec: Option<Codec>,
    format: Option<ViewerFormat>,
    state: State,
    /// The rest of the newest packet's frame is given up.
    skipping: bool,
    /// The track's index that this viewer sees as packet index 0. Wraps: repeated starts may take more numbers than the track has.
    base: u64,
    /// The start: older packets are not sent.
    first: u64,
    /// The newest packet that was let through since the start.
    newest: Newest,
    /// The highest timestamp that the viewer saw; `None` before the first packet of all.
    highest: Option<RtpTime>,
    /// From here on timestamps are the track's own; before it `past` knows them.
    true_from: u64,
    past: Option<Box<CatchUp>>,
    frames: FrameNumbers,
    rtx_next: u64,
    /// What it was sent again; `None` while it asks for nothing.
    pub(super) repairs: Option<Box<Repairs>>,
    /// RTP packets sent before the last start.
    packets_before: u32,
    /// RTP packets sent, for sender reports. Wraps.
    pub packets: u32,
    /// Payload bytes sent, for sender reports. Wraps.
    pub octets: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For a place to start.
    Waiting,
    /// On the way to the live edge.
    CatchingUp,
    /// Level with the track.
    Live,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    index: u64,
    /// Its timestamp on the track.
    own: RtpTime,
    /// Its frame goes on after it.
    open: bool,
}

/// Header fields of a packet as one viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Payload type.
    pub payload_type: Pt,
    /// SRTP packet index: roll-over counter and sequence number.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: RtpTime,
    /// To be added to the frame number of its dependency descriptor.
    pub frames_ahead: u16,
}

/// Why a packet is not for this viewer, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The viewer waits for a keyframe, or has not caught up with this packet yet.
    Waiting,
    /// Older than what the viewer started with.
    BeforeStart,
    /// The viewer cannot take this codec.
    Codec,
    /// The rest of a frame of which a packet was lost on the way out.
    RestOfFrame,
}

impl Forwarder {
    /// Sequence numbers start below this: a receiver that misses the first packets then still guesses roll-over counter 0.
    const START_SEQUENCE_MAX: u64 = 0x7fff;

    /// A forwarder that waits for a place to start.
    pub fn new(line: ViewerLine) -> Forwarder {
        Forwarder {
            line,
            codec: None,
            format: None,
            state: State::Waiting,
            skipping: false,
            base: 0,
            first: 0,
            newest: Newest {
                index: 0,
                own: RtpTime(0),
                open: false,
            },
            highest: None,
            true_from: 0,
            past: None,
            frames: FrameNumbers::default(),
            rtx_next: 0,
            repairs: None,
            packets_before: 0,
            packets: 0,
            octets: 0,
        }
    }

    /// The negotiated line.
    pub fn line(&self) -> &ViewerLine {
        &self.line
    }

    /// Starts at a keyframe of the past or of this moment, the first time or again; from there [`next`](Self::next) leads to the live
    /// edge.
    ///
    /// # Errors
    /// [`Skip::Codec`] when the viewer cannot take the codec: it goes on waiting.
    pub fn start(&mut self, point: StartPoint, (codec, profile): (Codec, u8), stamping: Stamping) -> Result<(), Skip> {
        self.codec = Some(codec);
        self.format = self.line.format(codec, profile);
        if self.format.is_none() {
            self.state = State::Waiting;
            return Err(Skip::Codec);
        }
        let sets = u64::from(point.parameter_sets.is_some());
        let next = self.next_number(point.index);
        self.begin(point.index, next + sets);
        self.frames.begin_start();
        let way = CatchUp::new(point, stamping);
        self.past = Some(Box::new(way));
        self.true_from = u64::MAX;
        self.state = State::CatchingUp;
        self.packets_before = self.packets;
        if let Some(repairs) = &mut self.repairs {
            repairs.begin_start();
        }
        Ok(())
    }

    /// The next packet of the live track.
    pub fn admit(&mut self, packet: &Packet, profile: u8) -> Result<Rewrite, Skip> {
        if self.state == State::Waiting && packet.codec.kind() == Kind::Audio {
            self.start_audio(packet, profile)?;
        }
        if self.state == State::Waiting {
            let lacks_codec = self.codec == Some(packet.codec) && self.format.is_none();
            return Err(if lacks_codec { Skip::Codec } else { Skip::Waiting });
        }
        if packet.index < self.first {
            return Err(Skip::BeforeStart);
        }
        if self.codec != Some(packet.codec) {
            self.state = State::Waiting;
            return Err(Skip::Waiting);
        }
        if self.cursor().is_some_and(|cursor| packet.index >= cursor) {
            return Err(Skip::Waiting);
        }
        let timestamp = match &mut self.past {
            Some(way) if packet.index >= self.true_from => way.stamp_late(packet),
            _ => self.timestamp(packet).ok_or(Skip::BeforeStart)?,
        };
        self.pass(packet, timestamp)
    }

    /// The newest packet that was sent since the last start.
    pub(super) fn newest_sent(&self) -> Option<u64> {
        (self.highest.is_some() && self.newest.index >= self.first).then_some(self.newest.index)
    }

    /// The last packet that was sent, if it ended a picture and the viewer is level with the track.
    pub(super) fn ended_picture(&self) -> Option<u64> {
        let is_level = self.state == State::Live && self.is_true() && !self.skipping;
        (is_level && !self.newest.open && self.highest.is_some()).then_some(self.newest.index)
    }

    /// The newest packet that was sent, while others of its picture are to follow.
    pub(super) fn open_picture(&self) -> Option<u64> {
        let is_open = self.state == State::Live && self.newest.open && !self.skipping;
        is_open.then_some(self.newest.index)
    }

    /// Goes on with the packet `first` of another numbering of the same pictures.
    pub(super) fn go_on_at(&mut self, first: u64) {
        self.begin(first, self.next_number(first));
        self.past = None;
        self.true_from = 0;
    }

    /// The number to be sent next while the viewer catches up; `None` when it does not.
    pub fn cursor(&self) -> Option<u64> {
        let way = self.past.as_ref().filter(|_| self.state == State::CatchingUp)?;
        Some(way.cursor)
    }

    /// Whether the packet at the cursor begins a frame.
    pub fn begins_frame(&self, packet: &Packet) -> bool {
        self.past.as_ref().is_none_or(|way| way.begins_frame(packet))
    }

    /// The packet at the cursor goes out, or is given up with the rest of its frame. The cursor moves on.
    pub fn next(&mut self, now: Instant, packet: &Packet, live: LiveClock) -> Result<Rewrite, Skip> {
        if self.codec != Some(packet.codec) {
            self.state = State::Waiting;
            return Err(Skip::Waiting);
        }
        let highest = self.highest;
        let Some(way) = &mut self.past else {
            return Err(Skip::Waiting);
        };
        let timestamp = way.stamp_next(now, packet, live, highest);
        way.cursor = packet.index + 1;
        self.true_from = way.own_since().unwrap_or(u64::MAX);
        self.pass(packet, timestamp)
    }

    /// Whether timestamps are the track's own already: then late packets of any frame are let through.
    pub fn is_true(&self) -> bool {
        self.past.as_ref().is_none_or(|way| way.own_since().is_some())
    }

    /// The packet at the cursor has not come: the viewer asks for it if it misses it.
    pub fn pass_over(&mut self) {
        if let Some(way) = &mut self.past {
            way.cursor += 1;
        }
    }

    /// Nothing is left at the cursor. True when the viewer is level with the track from now on; else it waits for the next frame.
    pub fn reach_edge(&mut self, now: Instant) -> bool {
        let Some(way) = self.past.as_mut().filter(|way| way.own_since().is_some()) else {
            return false;
        };
        way.arrive(now);
        self.state = State::Live;
        true
    }

    /// Whether the viewer is sent the past.
    pub fn is_catching_up(&self) -> bool {
        self.state == State::CatchingUp && self.past.is_some()
    }

    /// Whether a packet that arrived at `at` was sent at once, and not on the way to the live edge.
    pub(super) fn was_live(&self, at: Instant) -> bool {
        let level_at = self.past.as_ref().map(|way| way.level_at);
        self.state == State::Live && level_at.is_none_or(|level_at| level_at.is_some_and(|level_at| at >= level_at))
    }

    /// Frees what was kept of the past when it cannot be asked for any more. True if it did.
    pub fn forget_past(&mut self, now: Instant) -> bool {
        let Some(way) = &self.past else { return false };
        let is_over = self.state != State::CatchingUp && way.level_at.is_some_and(|at| now >= at + CatchUp::KEPT);
        if is_over {
            self.first = self.first.max(way.all_own_from());
            self.past = None;
            self.true_from = 0;
        }
        is_over
    }

    /// Parameter sets, and how they go out in front of the first packet.
    pub fn parameter_sets(&mut self) -> Option<(std::sync::Arc<Packet>, Rewrite)> {
        let sets = self.past.as_ref()?.parameter_sets()?.clone();
        let rewrite = Rewrite {
            payload_type: self.format?.payload_type,
            index: self.number(self.first).wrapping_sub(1),
            timestamp: self.past.as_ref()?.first_stamp()?,
            frames_ahead: self.frames.ahead(),
        };
        Some((sets, rewrite))
    }

    /// A packet that was sent before and is asked for again. `None` if it was not, or not since the last start.
    pub fn readmit(&self, packet: &Packet) -> Option<Rewrite> {
        let format = self.format.filter(|_| self.codec == Some(packet.codec))?;
        let sent = packet.index >= self.first && packet.index <= self.newest.index && self.highest.is_some();
        let timestamp = self.timestamp(packet).filter(|_| sent)?;
        Some(Rewrite {
            payload_type: format.payload_type,
            index: self.number(packet.index),
            timestamp,
            frames_ahead: self.frames.ahead(),
        })
    }

    /// The next retransmission, of what was first sent like this, if RTX was negotiated.
    pub fn retransmission(&mut self, original: &Rewrite) -> Option<Rewrite> {
        let payload_type = self.format?.rtx?;
        let index = self.rtx_next;
        self.rtx_next += 1;
        Some(Rewrite {
            payload_type,
            index,
            ..*original
        })
    }

    /// Whether RTX was negotiated.
    pub fn has_rtx(&self) -> bool {
        self.format.is_some_and(|format| format.rtx.is_some())
    }

    /// A packet that is sent again now finds a receiver that remembers its number: the smallest replay windows have 64 (Pion), and 16
    /// packets may be on their way.
    pub fn is_recent(&self, index: u64) -> bool {
        self.newest.index.saturating_sub(index) < 48
    }

    /// What the viewer was sent, and the size of a keyframe of the track.
    pub(super) fn volume(&self, keyframe: u32) -> Volume {
        Volume {
            packets: self.packets,
            octets: self.octets,
            keyframe,
        }
    }

    /// RTP packets sent since the last start.
    pub fn sent_since_start(&self) -> u32 {
        self.packets.wrapping_sub(self.packets_before)
    }

    /// The track's index for a sequence number that the viewer names.
    pub fn track_index(&self, sequence: u16) -> Option<u64> {
        self.highest?;
        let behind = (self.number(self.newest.index) as u16).wrapping_sub(sequence);
        let index = self.newest.index.checked_sub(u64::from(behind))?;
        // Parameter sets have the number before the first.
        let sets = self.past.as_ref().is_some_and(|way| way.parameter_sets().is_some());
        (index >= self.first - u64::from(sets)).then_some(index)
    }

    /// The number before the first, under which parameter sets went out.
    pub fn is_parameter_sets(&self, index: u64) -> bool {
        index.wrapping_add(1) == self.first
    }

    /// Another line was negotiated. Where packets would look different by it, nothing from before is sent again: it has to start
    /// again, with numbers that were never used.
    pub fn change_line(&mut self, line: ViewerLine) {
        let same_format = self
            .format
            .is_none_or(|format| line.formats().any(|known| known == format));
        if !same_format || line.extensions != self.line.extensions {
            self.close();
        }
        if self.format.is_none() {
            // It may have the codec now.
            self.codec = None;
        }
        self.line = line;
    }

    /// Nothing is sent until the next start, and nothing from before it ever again.
    pub fn close(&mut self) {
        self.state = State::Waiting;
        self.first = u64::MAX;
        self.skipping = false;
        self.repairs = None;
    }

    /// The publisher left: the next one starts with a keyframe.
    pub fn await_keyframe(&mut self) {
        self.state = State::Waiting;
    }

    /// A packet could not be sent: the rest of its frame, if there is any, is skipped.
    pub fn skip_rest_of_frame(&mut self) {
        self.skipping |= self.newest.open;
    }

    /// Whether it waits for a place to start.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether it is level with the track.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    fn start_audio(&mut self, packet: &Packet, profile: u8) -> Result<(), Skip> {
        self.codec = Some(packet.codec);
        self.format = self.line.format(packet.codec, profile);
        if self.format.is_none() {
            return Err(Skip::Codec);
        }
        self.begin(packet.index, self.next_number(packet.index));
        self.true_from = 0;
        self.state = State::Live;
        Ok(())
    }

    /// From the packet `first` on, which has this number.
    fn begin(&mut self, first: u64, number: u64) {
        self.base = first.wrapping_sub(number);
        self.first = first;
        self.newest.index = first.wrapping_sub(1);
        self.newest.open = false;
        self.skipping = false;
    }

    /// A number that was not used: the one after the newest. At the very start the track's own low bits, where possible, so that
    /// most viewers share sequence numbers.
    fn next_number(&self, index: u64) -> u64 {
        if self.highest.is_some() {
            return self.number(self.newest.index).wrapping_add(1);
        }
        index & Forwarder::START_SEQUENCE_MAX
    }

    /// Under which timestamp a packet goes out again.
    fn timestamp(&self, packet: &Packet) -> Option<RtpTime> {
        match &self.past {
            Some(way) => way.stamp_of(packet),
            None => (packet.index >= self.true_from).then_some(packet.timestamp),
        }
    }

    fn pass(&mut self, packet: &Packet, timestamp: RtpTime) -> Result<Rewrite, Skip> {
        let format = self.format.ok_or(Skip::Codec)?;
        if self.skipping {
            // Some senders mark no ends.
            let goes_on = packet.timestamp == self.newest.own;
            self.skipping = goes_on && !packet.marker;
            if goes_on {
                return Err(Skip::RestOfFrame);
            }
        }
        if packet.index.wrapping_add(1) > self.newest.index.wrapping_add(1) {
            self.newest = Newest {
                index: packet.index,
                own: packet.timestamp,
                open: !packet.marker,
            };
        }
        // A frame that is shown earlier than others that were sent before it; or the clock was set back.
        let is_highest = |highest: RtpTime| {
            let behind = highest.since(timestamp);
            !(0..=REORDER_MAX).contains(&behind)
        };
        if self.highest.is_none_or(is_highest) {
            self.highest = Some(timestamp);
        }
        if self.line.extensions.dependency_descriptor.is_some()
            && let Some(number) = packet.extensions.frame_number()
        {
            self.frames.pass(number);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        Ok(Rewrite {
            payload_type: format.payload_type,
            index: self.number(packet.index),
            timestamp,
            frames_ahead: self.frames.ahead(),
        })
    }

    /// The viewer's number for a packet; its low 16 bits are the sequence number.
    pub(super) fn number(&self, index: u64) -> u64 {
        index.wrapping_sub(self.base)
    }
}

#[cfg(test)]
mod tests;
