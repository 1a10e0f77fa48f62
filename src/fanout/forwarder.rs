//! What one viewer needs to be sent one track: where it starts, its numbering, its payload type. A plain value.
//!
//! Nonce rule (docs/ARCHITECTURE.md): for one viewer, one packet index of the media SSRC always stands for the same bytes. The
//! window fixes packet and padding, the forwarder fixes numbering (`base` never changes) and payload type (`format_from` only
//! grows, and nothing older than it is sent or sent again).

use super::formats::{ViewerFormat, ViewerLine};
use crate::media::Packet;
use crate::rtp::Codec;

/// One viewer's view of one track.
#[derive(Debug)]
pub struct Forwarder {
    line: ViewerLine,
    codec: Option<Codec>,
    format: Option<ViewerFormat>,
    /// Track index from which `format` holds.
    format_from: u64,
    /// The track's index that this viewer sees as packet index 0. Set with the first packet.
    base: Option<u64>,
    /// Not before this index: what came before the start is not sent.
    first: u64,
    waiting: bool,
    skipping: bool,
    /// The newest packet that was let through, and whether its frame goes on after it.
    newest: (u64, bool),
    rtx_next: u64,
    /// RTP packets sent, for sender reports. Wraps.
    pub packets: u32,
    /// Payload bytes sent, for sender reports. Wraps.
    pub octets: u32,
}

/// How a packet goes out to one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Payload type.
    pub payload_type: u8,
    /// SRTP packet index: roll-over counter and sequence number.
    pub index: u64,
}

/// Why a packet is not for this viewer, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Waits for a keyframe.
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

    /// A forwarder that waits for a keyframe.
    pub fn new(line: ViewerLine) -> Forwarder {
        Forwarder {
            line,
            codec: None,
            format: None,
            format_from: 0,
            base: None,
            first: 0,
            waiting: true,
            skipping: false,
            newest: (0, false),
            rtx_next: 0,
            packets: 0,
            octets: 0,
        }
    }

    /// The negotiated line.
    pub fn line(&self) -> &ViewerLine {
        &self.line
    }

    /// The next packet of the live track.
    pub fn admit(&mut self, packet: &Packet, profile: u8) -> Result<Route, Skip> {
        if self.codec != Some(packet.codec) {
            self.change_codec(packet, profile)?;
        }
        let format = self.format.ok_or(Skip::Codec)?;
        // Before anything starts: a keyframe that is not sent itself must not let what follows it through.
        if packet.index < self.first.max(self.format_from) {
            return Err(Skip::BeforeStart);
        }
        if self.waiting {
            self.start(packet)?;
        }
        if self.skipping {
            self.skipping = !packet.marker;
            return Err(Skip::RestOfFrame);
        }
        self.newest = self.newest.max((packet.index, !packet.marker));
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        Ok(Route {
            payload_type: format.payload_type,
            index: self.number(packet.index),
        })
    }

    /// A packet that was sent before and is asked for again. `None` if it was not, or not in today's format.
    pub fn readmit(&self, packet: &Packet) -> Option<Route> {
        let format = self.format.filter(|_| self.codec == Some(packet.codec))?;
        let sent = self.base.is_some() && packet.index >= self.first.max(self.format_from);
        sent.then(|| Route {
            payload_type: format.payload_type,
            index: self.number(packet.index),
        })
    }

    /// The payload type and packet index of the next retransmission, if RTX was negotiated.
    pub fn retransmission(&mut self) -> Option<Route> {
        let payload_type = self.format?.rtx?;
        let index = self.rtx_next;
        self.rtx_next += 1;
        Some(Route { payload_type, index })
    }

    /// The track's index for a sequence number that the viewer names, given the track's newest.
    pub fn track_index(&self, sequence: u16, newest: u64) -> Option<u64> {
        let newest_seen = newest.checked_sub(self.base?)?;
        let behind = (newest_seen as u16).wrapping_sub(sequence);
        Some(newest.checked_sub(u64::from(behind))?).filter(|&index| index >= self.first)
    }

    /// The publisher left: what comes next starts with a keyframe again.
    pub fn await_keyframe(&mut self) {
        self.waiting = true;
    }

    /// A packet could not be sent: the rest of its frame, if there is any, is of no use.
    pub fn skip_rest_of_frame(&mut self) {
        self.skipping |= self.newest.1;
    }

    /// Waits for a keyframe.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    fn change_codec(&mut self, packet: &Packet, profile: u8) -> Result<(), Skip> {
        if packet.index < self.format_from {
            return Err(Skip::BeforeStart);
        }
        // Nothing went out yet: a keyframe whose start was overtaken may still be the first.
        if self.base.is_some() {
            self.format_from = packet.index;
        }
        self.codec = Some(packet.codec);
        self.format = self.line.format(packet.codec, profile);
        self.waiting = true;
        Ok(())
    }

    fn start(&mut self, packet: &Packet) -> Result<(), Skip> {
        if !packet.keyframe {
            return Err(Skip::Waiting);
        }
        self.waiting = false;
        self.skipping = false;
        self.first = self.first.max(packet.index);
        if self.base.is_none() {
            // Keep the track's own low bits where possible, so that most viewers share sequence numbers.
            let sequence = packet.index & 0xffff;
            let shift = if sequence > Forwarder::START_SEQUENCE_MAX {
                Forwarder::START_SEQUENCE_MAX + 1
            } else {
                0
            };
            self.base = Some(packet.index - sequence + shift);
            self.format_from = packet.index;
        }
        Ok(())
    }

    fn number(&self, index: u64) -> u64 {
        index - self.base.expect("set when the forwarder started")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;
    use crate::peer::sdp::{ExtensionIds, Format, MediaLine};
    use crate::rtp::Kind;

    fn format(codec: Codec, payload_type: u8) -> Format {
        Format {
            codec,
            payload_type,
            rtx: Some(payload_type + 1),
            fmtp: "".into(),
            nack: true,
            pli: true,
            transport_cc: false,
        }
    }

    fn forwarder() -> Forwarder {
        Forwarder::new(ViewerLine::new(&MediaLine {
            kind: Kind::Video,
            mid: "1".into(),
            formats: vec![format(Codec::Vp8, 96), format(Codec::Av1, 45)],
            extensions: ExtensionIds::default(),
            ssrc: None,
            rtx_ssrc: None,
        }))
    }

    fn route(payload_type: u8, index: u64) -> Result<Route, Skip> {
        Ok(Route { payload_type, index })
    }

    #[test]
    fn a_viewer_starts_at_a_keyframe_with_roll_over_counter_0() {
        let mut forwarder = forwarder();
        let start = 7 * 65_536 + 1_000;
        assert_eq!(forwarder.admit(&packet(start - 1).build(), 0), Err(Skip::Waiting));
        assert_eq!(forwarder.admit(&packet(start).keyframe().build(), 0), route(96, 1_000));
        assert_eq!(forwarder.admit(&packet(start + 1).build(), 0), route(96, 1_001));
        assert_eq!(forwarder.admit(&packet(start - 1).build(), 0), Err(Skip::BeforeStart));
    }

    #[test]
    fn a_start_near_the_wrap_is_moved_so_that_losing_it_does_no_harm() {
        let mut forwarder = forwarder();
        let start = 3 * 65_536 - 1;
        assert_eq!(forwarder.admit(&packet(start).keyframe().build(), 0), route(96, 0x7fff));
        assert_eq!(forwarder.admit(&packet(start + 1).build(), 0), route(96, 0x8000));
    }

    #[test]
    fn sequence_numbers_named_by_the_viewer_are_found_across_the_wrap() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(65_536 + 5).keyframe().build(), 0).unwrap();
        let newest = 65_536 + 5 + 70_000;
        for index in [newest, newest - 1, newest - 5_000] {
            let sequence = (index - 65_536) as u16;
            assert_eq!(forwarder.track_index(sequence, newest), Some(index));
        }
        assert_eq!(forwarder.track_index(4, 65_536 + 10), None, "before the start");
    }

    #[test]
    fn a_codec_change_waits_for_its_keyframe_and_closes_the_past() {
        let mut forwarder = forwarder();
        let old = packet(100).keyframe().build();
        forwarder.admit(&old, 0).unwrap();
        assert!(forwarder.readmit(&old).is_some());
        assert_eq!(
            forwarder.admit(&packet(101).codec(Codec::Av1).build(), 0),
            Err(Skip::Waiting)
        );
        let new = packet(102).codec(Codec::Av1).keyframe().build();
        assert_eq!(forwarder.admit(&new, 0), route(45, 102));
        assert_eq!(forwarder.admit(&packet(99).build(), 0), Err(Skip::BeforeStart));
        assert_eq!(
            forwarder.readmit(&old),
            None,
            "another payload type under the same index would reuse a nonce"
        );
    }

    #[test]
    fn a_keyframe_whose_start_was_overtaken_is_still_sent_from_its_start() {
        let mut forwarder = forwarder();
        assert_eq!(forwarder.admit(&packet(11).build(), 0), Err(Skip::Waiting));
        assert_eq!(forwarder.admit(&packet(10).keyframe().build(), 0), route(96, 10));
        assert_eq!(forwarder.readmit(&packet(11).build()), route(96, 11).ok());
    }

    #[test]
    fn after_a_change_of_codec_a_late_keyframe_does_not_start_the_viewer() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(10).keyframe().build(), 0).unwrap();
        let new = |index| packet(index).codec(Codec::Av1);
        assert_eq!(forwarder.admit(&new(13).build(), 0), Err(Skip::Waiting));
        assert_eq!(forwarder.admit(&new(12).keyframe().build(), 0), Err(Skip::BeforeStart));
        assert_eq!(forwarder.admit(&new(14).build(), 0), Err(Skip::Waiting));
        assert_eq!(forwarder.admit(&new(15).keyframe().build(), 0), route(45, 15));
    }

    #[test]
    fn a_codec_the_viewer_lacks_is_skipped_until_another_comes() {
        let mut forwarder = forwarder();
        assert_eq!(
            forwarder.admit(&packet(1).codec(Codec::H265).keyframe().build(), 0),
            Err(Skip::Codec)
        );
        assert_eq!(forwarder.admit(&packet(2).keyframe().build(), 0), route(96, 2));
    }

    #[test]
    fn after_a_failed_send_the_rest_of_the_frame_is_given_up() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(1).keyframe().build(), 0).unwrap();
        forwarder.skip_rest_of_frame();
        assert_eq!(forwarder.admit(&packet(2).build(), 0), Err(Skip::RestOfFrame));
        assert_eq!(forwarder.admit(&packet(3).marker().build(), 0), Err(Skip::RestOfFrame));
        assert_eq!(forwarder.admit(&packet(4).build(), 0), route(96, 4));
    }

    #[test]
    fn after_a_failed_send_of_a_whole_frame_the_next_one_is_sent() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(1).keyframe().build(), 0).unwrap();
        forwarder.admit(&packet(2).marker().build(), 0).unwrap();
        forwarder.skip_rest_of_frame();
        assert_eq!(forwarder.admit(&packet(3).build(), 0), route(96, 3));
    }

    #[test]
    fn when_the_publisher_left_the_numbering_goes_on_from_the_next_keyframe() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(10).keyframe().build(), 0).unwrap();
        forwarder.await_keyframe();
        assert_eq!(forwarder.admit(&packet(11).build(), 0), Err(Skip::Waiting));
        assert_eq!(forwarder.admit(&packet(12).keyframe().build(), 0), route(96, 12));
    }

    #[test]
    fn retransmissions_have_their_own_numbering() {
        let mut forwarder = forwarder();
        forwarder.admit(&packet(10).keyframe().build(), 0).unwrap();
        let numbers: Vec<_> = (0..3)
            .filter_map(|_| forwarder.retransmission())
            .map(|route| route.index)
            .collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
}
