//! A viewer: repairs, asks for keyframes, and compares everything with what the publishers sent.

mod checks;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::dependency_descriptor::frame_number;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::rtp::{Codec, Kind, Pt, Ssrc, keyframe};
use onecast_rtc::srtp::{Opener, SrtpKeys};

use crate::client::Clear;
use crate::habits::{Asking, Habit, Reception};
use crate::publisher::{DESCRIPTOR_ID, Ledger};
use crate::world::{SSRCS, WALL};

pub(crate) struct Viewer {
    seed: u64,
    /// Of video, its retransmissions, and audio.
    pub(crate) ssrcs: [Ssrc; 3],
    pub(crate) video: Received,
    pub(crate) audio: Received,
    /// Does not ask for what is missing.
    pub(crate) lenient: bool,
    /// Asks for everything again and again.
    pub(crate) greedy: bool,
    /// Wants a keyframe all the time.
    pub(crate) impatient: bool,
    /// Its first packet need not start a keyframe.
    pub(crate) undemanding: bool,
    /// Its receiver is not ready for so long after the handshake: what comes is lost.
    pub(crate) blind_for: Duration,
    pub(crate) report_interval: Duration,
    /// It negotiates dependency descriptors.
    pub(crate) described: bool,
    /// Asks for what it misses as a certain receiver does.
    pub(crate) asking: Option<Asking>,
    is_pion: bool,
    /// The beginning of a keyframe has come.
    has_head: bool,
    reception: Reception,
    began: Option<Instant>,
    keys: Option<SrtpKeys>,
    first_checked: bool,
    pli_at: Instant,
    report_at: Instant,
    greedy_at: Instant,
    /// Latest sender report of audio, of video: NTP time as seconds, and whether by the publisher's clock.
    reports: [Option<(f64, bool)>; 2],
    /// Reports by the publisher's clock: NTP time and timestamp, and how many publishers there had been.
    mapped: Vec<(Kind, u64, u32, usize)>,
    pub(crate) by_rtx: usize,
    /// NACKs sent by habit.
    pub(crate) requests: usize,
    /// Requests for a keyframe.
    pub(crate) plis: usize,
}

/// One source as the viewer sees it.
#[derive(Default)]
pub(crate) struct Received {
    extender: SequenceExtender,
    /// Parameter sets by extended sequence number, which came in packets of their own or with a frame.
    pub(crate) sets: BTreeMap<u64, Vec<u8>>,
    /// By extended sequence number.
    pub(crate) packets: BTreeMap<u64, Got>,
    missing: BTreeMap<u64, (Instant, u32)>,
    /// Something is missing that was asked for often enough.
    given_up: bool,
    /// A start need not be at a keyframe.
    pub(crate) undemanding: bool,
}

/// Which publisher's packet, where in its list, and under which timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) publisher: usize,
    pub(crate) position: usize,
    pub(crate) timestamp: u32,
    pub(crate) at: Option<Instant>,
    /// Frame number of its dependency descriptor.
    frame: Option<u16>,
    marker: bool,
}

impl Got {
    /// It follows `before` as it did at the publisher, some missing in between perhaps.
    fn goes_on(&self, index: u64, (before_index, before): (u64, &Got)) -> bool {
        self.publisher == before.publisher
            && index - before_index == (self.position as u64).wrapping_sub(before.position as u64)
    }
}

const FIRST_NACK: Duration = Duration::from_millis(20);
const NEXT_NACK: Duration = Duration::from_millis(60);
const NACKS: u32 = 10;
const FIRST_PLI: Duration = Duration::from_millis(100);
const ROUND_TRIP: Duration = Duration::from_millis(20);

impl Viewer {
    pub(crate) fn new(seed: u64) -> Viewer {
        let now = onecast_udp::clock::now();
        Viewer {
            seed,
            ssrcs: SSRCS,
            video: Received::default(),
            audio: Received::default(),
            lenient: false,
            greedy: false,
            impatient: false,
            undemanding: false,
            blind_for: Duration::ZERO,
            report_interval: Duration::from_secs(1),
            described: false,
            asking: None,
            is_pion: false,
            has_head: false,
            reception: Reception::default(),
            began: None,
            keys: None,
            first_checked: false,
            pli_at: now,
            report_at: now,
            greedy_at: now,
            reports: [None; 2],
            mapped: Vec::new(),
            by_rtx: 0,
            requests: 0,
            plis: 0,
        }
    }

    pub(crate) fn begin(&mut self, now: Instant, keys: SrtpKeys) {
        self.keys = Some(keys);
        self.began = Some(now);
        self.report_at = now;
        // A receiver that comes to life asks, and is sent nothing before it has.
        self.pli_at = now + FIRST_PLI.max(self.blind_for.saturating_sub(ROUND_TRIP));
        self.greedy_at = now;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let nack = self.video.missing.values().map(|(at, _)| *at).min();
        let pli = self.wants_keyframe().then_some(self.pli_at);
        let greedy = self.greedy.then_some(self.greedy_at);
        let asking = self.asking.as_ref().and_then(Asking::poll_timeout);
        nack.into_iter()
            .chain(pli)
            .chain(greedy)
            .chain(asking)
            .chain([self.report_at])
            .min()
    }

    /// It asks for what it misses as such a receiver does.
    pub(crate) fn accustomed(&mut self, habit: Habit) {
        self.asking = Some(Asking::new(habit));
        self.is_pion = habit == Habit::Pion;
    }

    fn wants_keyframe(&self) -> bool {
        let has_something = self.has_head || self.asking.is_none() && !self.video.packets.is_empty();
        self.impatient || !(self.is_pion || has_something) || self.video.given_up
    }

    fn report(&mut self, now: Instant, bytes: &mut [u8]) -> usize {
        let block = self
            .reception
            .block(now, self.ssrcs[0])
            .filter(|_| self.asking.is_some());
        match block {
            Some(block) => rtcp::write_receiver_report(bytes, Ssrc(5), &[block]),
            None => rtcp::write_receiver_report_empty(bytes, Ssrc(5)),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Clear>) {
        let mut bytes = vec![0; 1_000];
        let [video, ..] = self.ssrcs;
        if self.report_at <= now {
            self.report_at = now + self.report_interval;
            push(out, &bytes.clone(), |bytes| self.report(now, bytes));
        }
        let (asked, given_up) = self.asking.as_mut().map(|asking| asking.poll(now)).unwrap_or_default();
        self.video.given_up |= given_up;
        if !asked.is_empty() {
            self.requests += 1;
            push(out, &bytes, |bytes| {
                rtcp::write_nack(bytes, Ssrc(5), video, asked.iter().map(|&index| index as u16))
            });
        }
        if self.wants_keyframe() && self.pli_at <= now {
            self.pli_at = now + Duration::from_millis(if self.impatient { 30 } else { 500 });
            self.video.given_up = false;
            self.plis += 1;
            push(out, &bytes, |bytes| rtcp::write_pli(bytes, Ssrc(5), video));
        }
        let due = self.video.due(now);
        if !due.is_empty() {
            push(out, &bytes, |bytes| {
                rtcp::write_nack(bytes, Ssrc(5), video, due.iter().map(|&index| index as u16))
            });
        }
        if self.greedy && self.greedy_at <= now {
            self.greedy_at = now + Duration::from_millis(20);
            let newest = self.video.extender.highest().unwrap_or_default().0;
            let all = (newest.saturating_sub(200)..=newest).map(|index| index as u16);
            push(out, &std::mem::take(&mut bytes), |bytes| {
                rtcp::write_nack(bytes, Ssrc(5), video, all)
            });
        }
    }

    /// The first video datagram that the server sent starts a keyframe, whether or not it arrived.
    pub(crate) fn check_first_video(&mut self, datagram: Option<&[u8]>) {
        let (Some(keys), Some(datagram), false) = (&self.keys, datagram, self.first_checked) else {
            return;
        };
        let mut datagram = datagram.to_vec();
        let header = RtpHeader::parse(&datagram).unwrap();
        let mut opener = Opener::new(keys);
        let len = opener
            .open_rtp(&mut datagram, header.len, header.ssrc, header.sequence)
            .unwrap();
        let payload = header.payload(&datagram[..len]).unwrap();
        assert!(
            self.undemanding || keyframe::starts_keyframe(codec(header.payload_type.0), payload),
            "seed {}",
            self.seed
        );
        self.first_checked = true;
    }

    pub(crate) fn handle_rtp(&mut self, now: Instant, clear: &[u8], ledgers: &[Ledger]) {
        let header = RtpHeader::parse(clear).unwrap();
        if self.began.is_some_and(|began| now < began + self.blind_for) {
            return;
        }
        let payload = header.payload(clear).unwrap();
        let seed = self.seed;
        let (kind, sequence, payload, payload_type) = match header.ssrc {
            ssrc if ssrc == self.ssrcs[2] => (Kind::Audio, header.sequence, payload, header.payload_type),
            ssrc if ssrc == self.ssrcs[0] => (Kind::Video, header.sequence, payload, header.payload_type),
            ssrc if ssrc == self.ssrcs[1] => {
                self.by_rtx += 1;
                let (sequence, payload) = payload.split_first_chunk().unwrap();
                (
                    Kind::Video,
                    u16::from_be_bytes(*sequence),
                    payload,
                    Pt(header.payload_type.0 - 1),
                )
            }
            other => panic!("seed {seed}: unannounced {other:x}"),
        };
        let received = match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        let index = received.extender.extend(sequence).0;
        let by_rtx = header.ssrc == self.ssrcs[1];
        if let Some(asking) = self.asking.as_mut().filter(|_| kind == Kind::Video) {
            if asking.refuses(index, by_rtx) {
                return;
            }
            asking.arrived(now, index, by_rtx);
        }
        if header.ssrc == self.ssrcs[0] {
            self.reception.note(index);
        }
        if codec_of(kind, payload_type.0) == Some(Codec::H264) && is_parameter_sets(payload) {
            received.missing.remove(&index);
            received.sets.insert(index, payload.to_vec());
            return;
        }
        let (publisher, position) = find(ledgers, kind, payload)
            .unwrap_or_else(|| panic!("seed {seed}: {kind:?} {index} is nothing that was sent"));
        let ledger = &ledgers[publisher];
        let sent = &ledger.of(kind)[position];
        if kind == Kind::Video {
            assert_eq!(Some(codec(payload_type.0)), ledger.codec, "seed {seed}");
        }
        self.has_head |= kind == Kind::Video && sent.keyframe;
        assert!(
            sent.marker == header.marker || sent.may_end && header.marker,
            "seed {seed}: marker of {kind:?} {index}"
        );
        let descriptor = header.extensions(clear).find(|(id, _)| *id == DESCRIPTOR_ID);
        let got = Got {
            publisher,
            position,
            timestamp: header.timestamp.0,
            at: None,
            frame: descriptor.and_then(|(_, value)| frame_number(value)),
            marker: header.marker,
        };
        let before = received.packets.get(&index).map(|before| Got { at: None, ..*before });
        assert!(
            before.is_none_or(|before| before == got),
            "seed {seed}: {kind:?} {index} is {before:?} and {got:?}"
        );
        received.packets.entry(index).or_insert(Got { at: Some(now), ..got });
        received.brings_sets(index, payload);
        received.note(now, index, self.lenient || self.asking.is_some() || kind == Kind::Audio);
    }

    pub(crate) fn handle_rtcp(&mut self, now: Instant, clear: &[u8], ledgers: &[Ledger]) {
        rtcp::parse(clear, |report| {
            if let Report::SenderReport { ssrc, ntp, rtp, .. } = report {
                if ssrc == self.ssrcs[0] {
                    self.reception.sender_report = Some(((ntp >> 16) as u32, now));
                }
                self.note_report(ssrc, ntp, rtp.0, ledgers);
            }
        })
        .unwrap();
    }

    /// Audio and video are never told by different clocks.
    fn note_report(&mut self, ssrc: Ssrc, ntp: u64, rtp: u32, ledgers: &[Ledger]) {
        let kind = if ssrc == self.ssrcs[2] {
            Kind::Audio
        } else {
            Kind::Video
        };
        let seconds = |ntp: u64| ntp as f64 / (1u64 << 32) as f64;
        let by_publisher = seconds(ntp) < WALL as f64 - 1_000.0;
        self.reports[kind as usize] = Some((seconds(ntp), by_publisher));
        if let [Some(audio), Some(video)] = self.reports
            && (audio.0 - video.0).abs() < 0.000_1
        {
            assert_eq!(
                audio.1, video.1,
                "seed {}: audio and video by different clocks",
                self.seed
            );
        }
        if by_publisher {
            self.mapped.push((kind, ntp, rtp, ledgers.len()));
        }
    }

    /// The SSRC is one of those that it expects.
    pub(crate) fn knows(&self, ssrc: Ssrc) -> bool {
        self.ssrcs.contains(&ssrc)
    }

    /// When it had its keys.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// How many sender reports were by the publisher's clock.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped.len()
    }
}

impl Received {
    /// A frame's first packet has its parameter sets with it.
    fn brings_sets(&mut self, index: u64, payload: &[u8]) {
        let mut sets = vec![0x78];
        keyframe::parameter_sets(Codec::H264, payload, |set| {
            sets.extend((set.nal.len() as u16).to_be_bytes());
            sets.extend(set.nal);
        });
        if payload.first() == Some(&0x78) && sets.len() > 1 {
            self.sets.insert(index, sets);
        }
    }

    /// The parameter sets that hold for the first packet of a publisher.
    pub(crate) fn sets_for(&self, publisher: usize) -> Option<&[u8]> {
        let (first, _) = self.packets.iter().find(|(_, got)| got.publisher == publisher)?;
        let (_, sets) = self.sets.range(..=first).next_back()?;
        Some(sets)
    }

    /// How often it was started, and how many packets carried a timestamp of the past.
    pub(crate) fn starts(&self) -> usize {
        let mut before: Option<(u64, &Got)> = None;
        let mut starts = 0;
        for (&index, got) in &self.packets {
            starts += usize::from(!before.is_some_and(|before| got.goes_on(index, before)));
            before = Some((index, got));
        }
        starts
    }

    fn note(&mut self, now: Instant, index: u64, lenient: bool) {
        self.missing.remove(&index);
        if lenient {
            return;
        }
        let before = self.packets.range(..index).next_back().map(|(&before, _)| before);
        let after = self.packets.range(index + 1..).next().map(|(&after, _)| after);
        let gap = match (before, after) {
            (Some(before), None) => before + 1..index,
            (None, Some(after)) => index + 1..after,
            _ => return,
        };
        self.missing.extend(gap.map(|index| (index, (now + FIRST_NACK, 0))));
    }

    fn due(&mut self, now: Instant) -> Vec<u64> {
        self.missing.retain(|index, _| !self.sets.contains_key(index));
        let before = self.missing.len();
        self.missing.retain(|_, (at, asked)| *at > now || *asked < NACKS);
        self.given_up |= self.missing.len() < before;
        let due = self.missing.iter_mut().filter(|(_, (at, _))| *at <= now);
        due.map(|(&index, (at, asked))| {
            *at = now + NEXT_NACK;
            *asked += 1;
            index
        })
        .collect()
    }

    /// The first number that did not come between the first and the last.
    pub(crate) fn gap(&self) -> Option<u64> {
        let (&first, _) = self.packets.first_key_value()?;
        self.gap_from(first)
    }

    /// The same since the last start.
    pub(crate) fn gap_since_start(&self) -> Option<u64> {
        let mut before: Option<(u64, &Got)> = None;
        let mut start = *self.packets.first_key_value()?.0;
        for (&index, got) in &self.packets {
            if before.is_some_and(|before| !got.goes_on(index, before)) {
                start = index;
            }
            before = Some((index, got));
        }
        self.gap_from(start)
    }

    fn gap_from(&self, first: u64) -> Option<u64> {
        let mut came: Vec<u64> = self.packets.range(first..).map(|(&index, _)| index).collect();
        came.extend(self.sets.range(first..).map(|(&index, _)| index));
        came.sort_unstable();
        came.dedup();
        let mut numbers = (first..).zip(came);
        numbers.find_map(|(expected, index)| (expected != index).then_some(expected))
    }

    /// Positions in a publisher's list: first and last that came.
    pub(crate) fn span(&self, publisher: usize) -> Option<(usize, usize)> {
        let mut of = self
            .packets
            .values()
            .filter(|got| got.publisher == publisher)
            .map(|got| got.position);
        let first = of.next()?;
        Some((first, of.next_back().unwrap_or(first)))
    }
}

fn find(ledgers: &[Ledger], kind: Kind, payload: &[u8]) -> Option<(usize, usize)> {
    ledgers.iter().enumerate().rev().find_map(|(publisher, ledger)| {
        let position = ledger.of(kind).iter().rposition(|sent| sent.payload == payload)?;
        Some((publisher, position))
    })
}

fn push(out: &mut Vec<Clear>, room: &[u8], write: impl FnOnce(&mut [u8]) -> usize) {
    let mut bytes = room.to_vec();
    let len = write(&mut bytes);
    if len > 0 {
        bytes.truncate(len);
        out.push(Clear::Rtcp(bytes));
    }
}

fn codec(payload_type: u8) -> Codec {
    match payload_type {
        96 => Codec::Vp8,
        98 => Codec::Vp9,
        102 => Codec::H264,
        other => panic!("payload type {other} was not agreed on"),
    }
}

fn codec_of(kind: Kind, payload_type: u8) -> Option<Codec> {
    (kind == Kind::Video).then(|| codec(payload_type))
}

/// A packet of nothing else, which no publisher here sends.
fn is_parameter_sets(payload: &[u8]) -> bool {
    let mut len = 1;
    keyframe::parameter_sets(Codec::H264, payload, |set| len += 2 + set.nal.len());
    payload.first() == Some(&0x78) && len == payload.len()
}
