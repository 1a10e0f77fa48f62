//! A publisher as browsers are: frames of a few packets whose sizes differ by one, audio, repair, sender reports.

mod frames;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::header::{HeaderOut, RtpHeader};
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::rtp::{Codec, Kind, Pt, RtpTime, Ssrc};

pub(crate) use frames::parameter_sets;

use crate::client::Clear;
use crate::network::Random;

/// Everything that one publisher sent, for the viewers to compare with.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) video: Vec<Sent>,
    pub(crate) audio: Vec<Sent>,
    /// NTP time and RTP timestamps (audio, video) of its beginning.
    pub(crate) epoch: (u64, [u32; 2]),
    pub(crate) codec: Option<Codec>,
}

/// One packet that was sent.
pub(crate) struct Sent {
    pub(crate) payload: Vec<u8>,
    pub(crate) marker: bool,
    /// The last packet of a spatial layer, which may be the last that a viewer gets of the picture.
    pub(crate) may_end: bool,
    pub(crate) keyframe: bool,
    pub(crate) timestamp: u32,
    /// Number of its frame, as in the dependency descriptor of a publisher with layers. Of audio it means nothing.
    pub(crate) frame: u16,
}

impl Ledger {
    pub(crate) fn of(&self, kind: Kind) -> &[Sent] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }
}

pub(crate) struct Publisher {
    ledger: usize,
    codec: Codec,
    rtx: bool,
    reports: bool,
    pub(crate) ssrcs: [Ssrc; 2],
    /// Packet indices of the first packets of audio and video, or what would be it if there had been no jump since.
    pub(crate) firsts: [u64; 2],
    /// Indices of video packets that are lost on the way when they are sent first.
    pub(crate) lost: Range<u64>,
    /// Until when it sends.
    sends_for: Duration,
    random: Random,
    began: Option<Instant>,
    frame_at: Instant,
    audio_at: Instant,
    report_at: Instant,
    keyframe_at: Instant,
    keyframe_wanted: bool,
    transport: u16,
    pub(crate) rtx_next: u64,
    pub(crate) shape: Shape,
    frames: u64,
    /// Packets that wait for their turn, because no publisher sends thousands at once.
    outbox: VecDeque<Clear>,
    outbox_at: Instant,
    /// Video packets in clear, and how long their headers are.
    kept: Vec<(Vec<u8>, usize)>,
    /// Until then it repairs nothing.
    pub(crate) repairs_from: Option<Instant>,
    /// When it was asked for keyframes.
    pub(crate) plis: Vec<Instant>,
    /// Its camera is off.
    pub(crate) audio_only: bool,
    /// Its camera and its microphone are off; its reports go on.
    pub(crate) muted: bool,
    /// What its audio packets say of their loudness.
    pub(crate) level: Option<u8>,
    /// It sends no audio.
    pub(crate) video_only: bool,
    /// It is one layer of a publisher with several.
    pub(crate) layer: Option<Layer>,
}

/// What is different for one of several layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    /// Its packets name it until they are reported on.
    pub(crate) rid: &'static str,
    pub(crate) size: (u16, u16),
    /// Added to its timestamps.
    pub(crate) clock: u32,
    /// When its frame of a picture is encoded, of those of all layers: they are numbered together.
    pub(crate) order: u16,
    pub(crate) reported: bool,
}

/// How a publisher's video differs from what is usual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) keyframes: Duration,
    /// Does not answer requests for keyframes.
    pub(crate) deaf: bool,
    /// Its first frame is no keyframe, and none that follows.
    pub(crate) keyless: bool,
    /// Every frame is a keyframe.
    pub(crate) keyframes_only: bool,
    /// Packets of a keyframe; 0 for as many as other frames have.
    pub(crate) keyframe_packets: usize,
    /// Payload bytes of a packet; 0 for what is usual.
    pub(crate) payload: usize,
    /// Sets no marker bit.
    pub(crate) unmarked: bool,
    /// Every 20th frame its clock jumps by this many ticks.
    pub(crate) jump: u32,
    /// Frames are shown in another order than they are sent in.
    pub(crate) bidirectional: bool,
    /// Every so many frames a recovery point, which takes ten; 0 for none. Of H264 only.
    pub(crate) recovery: u64,
    /// H264 without parameter sets: they are in the offer.
    pub(crate) bare: bool,
    /// Spatial layers inside, of VP9; 0 for none.
    pub(crate) spatial: u8,
}

impl Shape {
    pub(crate) const USUAL: Shape = Shape {
        keyframes: KEYFRAMES,
        deaf: false,
        keyless: false,
        keyframes_only: false,
        keyframe_packets: 0,
        payload: 0,
        unmarked: false,
        jump: 0,
        bidirectional: false,
        recovery: 0,
        bare: false,
        spatial: 0,
    };
    /// Like OBS: a keyframe every 10 s, whatever is requested.
    pub(crate) const DEAF: Shape = Shape {
        keyframes: Duration::from_secs(10),
        deaf: true,
        ..Shape::USUAL
    };
}

/// Ids of the rid of media and of RTX, in the offer of a browser.
pub(crate) const RID_ID: u8 = 10;
const REPAIRED_RID_ID: u8 = 11;
/// Id of the dependency descriptor.
pub(crate) const DESCRIPTOR_ID: u8 = 12;
/// Layers of a publisher that has several.
pub(crate) const LAYERS: usize = 3;
/// Id of the audio level.
pub(crate) const LEVEL_ID: u8 = 5;
pub(crate) const NTP: u64 = 1_000 << 32;
/// Packets that leave in a millisecond.
const OUTBOX_SLICE: usize = 100;
const FRAME: Duration = Duration::from_micros(33_333);
const AUDIO: Duration = Duration::from_millis(20);
const KEYFRAMES: Duration = Duration::from_secs(2);

impl Publisher {
    pub(crate) fn new(
        ledger: usize,
        seed: u64,
        codec: Codec,
        rtx: bool,
        reports: bool,
        sends_for: Duration,
    ) -> Publisher {
        let mut random = Random::new(seed ^ 0xabcd);
        let now = onecast_udp::clock::now();
        let ssrc = 0x7000_0000 + 16 * ledger as u32;
        // Some cross the wrap of their sequence numbers soon.
        let first = if random.below(2) == 0 {
            65_536 - 150
        } else {
            random.below(30_000)
        };
        Publisher {
            ledger,
            codec,
            rtx,
            reports,
            ssrcs: [Ssrc(ssrc), Ssrc(ssrc + 1)],
            firsts: [first; 2],
            lost: 0..0,
            sends_for,
            random,
            began: None,
            frame_at: now,
            audio_at: now,
            report_at: now,
            keyframe_at: now,
            keyframe_wanted: true,
            transport: 0,
            rtx_next: 7,
            shape: Shape::USUAL,
            frames: 0,
            outbox: VecDeque::new(),
            outbox_at: now,
            kept: Vec::new(),
            repairs_from: None,
            plis: Vec::new(),
            audio_only: false,
            muted: false,
            level: None,
            video_only: false,
            layer: None,
        }
    }

    pub(crate) fn shaped(mut self, shape: Shape) -> Publisher {
        self.keyframe_wanted = !shape.keyless;
        self.shape = shape;
        self
    }

    /// When it began to send.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
        (self.frame_at, self.audio_at, self.keyframe_at) = (now, now, now);
        self.report_at = now + Duration::from_millis(200);
    }

    fn is_sending(&self) -> bool {
        self.began.is_some_and(|began| self.frame_at < began + self.sends_for)
    }

    /// Other sources from now on, with numbers of their own, as some cameras begin with each group of pictures.
    pub(crate) fn change_sources(&mut self, ledger: &Ledger) {
        self.ssrcs = self.ssrcs.map(|ssrc| Ssrc(ssrc.0 + 4));
        for kind in [Kind::Audio, Kind::Video] {
            let next = self.random.below(65_536);
            self.firsts[kind as usize] = next.wrapping_sub(ledger.of(kind).len() as u64);
        }
        self.rtx_next = self.random.below(65_536);
        self.keyframe_wanted = true;
    }

    pub(crate) fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    pub(crate) fn stop(&mut self) {
        self.sends_for = Duration::ZERO;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let outbox = (!self.outbox.is_empty()).then_some(self.outbox_at);
        let next = self.frame_at.min(self.audio_at).min(self.report_at);
        self.is_sending().then_some(next).into_iter().chain(outbox).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, ledgers: &mut [Ledger], out: &mut Vec<Clear>) {
        if self.outbox_at <= now {
            self.outbox_at = now + Duration::from_millis(1);
            let len = self.outbox.len().min(OUTBOX_SLICE);
            out.extend(self.outbox.drain(..len));
        }
        let Some(began) = self.began.filter(|_| self.is_sending()) else {
            return;
        };
        let ledger = &mut ledgers[self.ledger];
        let clock = self.layer.map_or(0, |layer| layer.clock);
        ledger.epoch = (NTP, [0xffff_0000, 0x00ff_0000u32.wrapping_add(clock)]);
        ledger.codec = Some(self.codec);
        let ticks = |rate: u128| ((now - began).as_nanos() * rate / 1_000_000_000) as u32;
        let timestamps = [
            ledger.epoch.1[0].wrapping_add(ticks(48_000)),
            ledger.epoch.1[1].wrapping_add(ticks(90_000)),
        ];
        if self.frame_at <= now && (self.audio_only || self.muted) {
            self.frame_at = now + FRAME;
        } else if self.frame_at <= now {
            self.frame_at = now + FRAME;
            let timestamp = timestamps[1].wrapping_add(self.shift());
            let mut frame = Vec::new();
            self.send_frame(now, timestamp, ledger, &mut frame);
            self.frames += 1;
            self.outbox.extend(frame);
            let len = self.outbox.len().min(OUTBOX_SLICE);
            out.extend(self.outbox.drain(..len));
            self.outbox_at = now + Duration::from_millis(1);
        }
        if self.audio_at <= now {
            self.audio_at = now + AUDIO;
            if !self.muted && !self.video_only {
                let len = 60 + self.random.below(40) as usize;
                let payload = self.fill(vec![0x78], len);
                self.send_packet(Kind::Audio, payload, false, false, timestamps[0], ledger, out);
            }
        }
        if self.report_at <= now {
            self.report_at = now + Duration::from_millis(700);
            let counts = [ledger.audio.len() as u32, ledger.video.len() as u32];
            self.send_reports(now - began, timestamps, counts, out);
        }
    }

    fn fill(&mut self, mut payload: Vec<u8>, len: usize) -> Vec<u8> {
        while payload.len() < len {
            payload.extend(self.random.next().to_be_bytes());
        }
        payload.truncate(len);
        payload
    }

    /// What the shape does to timestamps.
    fn shift(&self) -> u32 {
        let jumps = (self.frames / 20) as u32;
        // Sent I P B B P B B: each P is shown after the two that follow it.
        let order = match self.frames % 3 {
            1 if self.shape.bidirectional => 2 * 3_000,
            _ if self.shape.bidirectional => 0u32.wrapping_sub(3_000),
            _ => 0,
        };
        jumps.wrapping_mul(self.shape.jump).wrapping_add(order)
    }

    /// Of the frame that is sent: browsers number the frames of all layers together.
    fn frame_number(&self) -> u16 {
        let order = self.layer.map_or(0, |layer| layer.order);
        (self.frames as u16 * LAYERS as u16).wrapping_add(order)
    }

    #[expect(clippy::too_many_arguments, reason = "a packet has that many parts")]
    fn send_packet(
        &mut self,
        kind: Kind,
        payload: Vec<u8>,
        marker: bool,
        keyframe: bool,
        timestamp: u32,
        ledger: &mut Ledger,
        out: &mut Vec<Clear>,
    ) {
        let list = match kind {
            Kind::Audio => &mut ledger.audio,
            Kind::Video => &mut ledger.video,
        };
        let index = self.firsts[kind as usize].wrapping_add(list.len() as u64);
        let video = kind == Kind::Video;
        let (payload_type, ssrc) = match (kind, self.codec) {
            (Kind::Audio, _) => (111, self.ssrcs[0]),
            (_, Codec::Vp8) => (96, self.ssrcs[1]),
            (_, Codec::H264) => (102, self.ssrcs[1]),
            _ => (98, self.ssrcs[1]),
        };
        let mut bytes = vec![0; 12 + 12 + payload.len()];
        let header = HeaderOut {
            marker,
            padding: false,
            payload_type: Pt(payload_type),
            sequence: index as u16,
            timestamp: RtpTime(timestamp),
            ssrc,
        };
        self.transport = self.transport.wrapping_add(u16::from(video));
        let transport = self.transport.to_be_bytes();
        let level = self.level.map(|level| [level]);
        let frame = self.frame_number();
        let [high, low] = frame.to_be_bytes();
        let descriptor = (DESCRIPTOR_ID, &[u8::from(marker) << 6, high, low][..]);
        let extensions: &[(u8, &[u8])] = match (&level, self.layer) {
            (_, Some(layer)) if video && !layer.reported => &[(RID_ID, layer.rid.as_bytes()), descriptor],
            (_, Some(_)) if video => &[descriptor],
            _ if video => &[(3, &transport)],
            (Some(level), _) => &[(LEVEL_ID, level)],
            (None, _) => &[],
        };
        let header_len = header.write(&mut bytes, extensions);
        bytes.truncate(header_len);
        bytes.extend(&payload);
        list.push(Sent {
            may_end: self.shape.spatial > 0 && video && payload[0] & 0x04 != 0,
            payload,
            marker,
            keyframe,
            timestamp,
            frame,
        });
        if video {
            self.kept.push((bytes.clone(), header_len));
        }
        if video && self.lost.contains(&index) {
            return;
        }
        out.push(Clear::Rtp {
            bytes,
            header_len,
            index,
        });
    }

    fn send_reports(&mut self, elapsed: Duration, timestamps: [u32; 2], counts: [u32; 2], out: &mut Vec<Clear>) {
        if !self.reports {
            return;
        }
        let ntp = NTP + ((elapsed.as_nanos() << 32) / 1_000_000_000) as u64;
        for ((ssrc, timestamp), packets) in self.ssrcs.into_iter().zip(timestamps).zip(counts) {
            if packets == 0 && self.video_only {
                continue;
            }
            let mut bytes = vec![0; 100];
            let len = rtcp::write_sender_report(&mut bytes, ssrc, ntp, RtpTime(timestamp), packets, 1, "publisher");
            bytes.truncate(len);
            out.push(Clear::Rtcp(bytes));
        }
    }

    pub(crate) fn handle_rtcp(&mut self, now: Instant, clear: &[u8], out: &mut Vec<Clear>) {
        let mut asked = Vec::new();
        rtcp::parse(clear, |report| match report {
            Report::Nack { about, sequences } if about == self.ssrcs[1] => asked.extend(sequences),
            Report::ReceiverReport { about, .. } if about == self.ssrcs[1] => {
                if let Some(layer) = &mut self.layer {
                    layer.reported = true;
                }
            }
            Report::Pli { about } if about == self.ssrcs[1] => {
                self.plis.push(now);
                self.keyframe_wanted |= !self.shape.deaf;
            }
            _ => {}
        })
        .unwrap();
        if self.repairs_from.is_some_and(|from| now < from) {
            return;
        }
        for sequence in asked {
            self.resend(sequence, out);
        }
    }

    /// Sends a packet again: as RTX (RFC 4588), or exactly as it was.
    fn resend(&mut self, sequence: u16, out: &mut Vec<Clear>) {
        let first = self.firsts[Kind::Video as usize];
        let position = usize::from(sequence.wrapping_sub(first as u16));
        let Some((bytes, header_len)) = self.kept.get(position).cloned() else {
            return;
        };
        if !self.rtx {
            let index = first.wrapping_add(position as u64);
            out.push(Clear::Rtp {
                bytes,
                header_len,
                index,
            });
            return;
        }
        let index = self.rtx_next;
        self.rtx_next += 1;
        let original = RtpHeader::parse(&bytes).unwrap();
        let header = HeaderOut {
            marker: original.marker,
            padding: false,
            payload_type: Pt(original.payload_type.0 + 1),
            sequence: index as u16,
            timestamp: original.timestamp,
            ssrc: Ssrc(self.ssrcs[1].0 + 1),
        };
        let mut again = vec![0; 12 + 12];
        let descriptor = original.extensions(&bytes).find(|(id, _)| *id == DESCRIPTOR_ID);
        let name = self.layer.map(|layer| (REPAIRED_RID_ID, layer.rid.as_bytes()));
        let extensions: Vec<_> = name.into_iter().chain(descriptor).collect();
        let len = header.write(&mut again, &extensions);
        again.truncate(len);
        again.extend(sequence.to_be_bytes());
        again.extend(&bytes[header_len..]);
        out.push(Clear::Rtp {
            bytes: again,
            header_len: len,
            index,
        });
    }
}
