//! What a member of a conference sends and receives, cheap enough for a thousand conferences: small packets that name their sender
//! and which, repair with RTX, requests for keyframes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use onecast_rtc::rtp::header::{HeaderOut, RtpHeader};
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::rtp::{Kind, Pt, RtpTime, Ssrc};
use onecast_rtc::srtp::{Opener, SrtpKeys};

use crate::calls::Section;
use crate::client::Clear;
use crate::network::Random;

/// The media of one member.
pub(crate) struct Caller {
    seed: u64,
    random: Random,
    pub(crate) sources: Vec<Source>,
    pub(crate) tracks: Vec<Track>,
    /// The places of tracks by their SSRCs.
    by_ssrc: HashMap<Ssrc, usize>,
    keys: Option<SrtpKeys>,
    report_at: Instant,
}

/// A microphone, camera or screen, and everything that is known of what it sent.
pub(crate) struct Source {
    /// No other source of the conference has it.
    pub(crate) id: u32,
    kind: Kind,
    ssrc: Ssrc,
    mid: String,
    pub(crate) on: bool,
    next_at: Instant,
    began: Instant,
    index: u64,
    /// Packets so far.
    pub(crate) sent: u32,
    keyframe_wanted: bool,
    keyframe_at: Instant,
    kept: VecDeque<(u64, Vec<u8>, usize)>,
    rtx_next: u64,
    /// What it writes as its audio level.
    pub(crate) level: u8,
}

/// A track that the member receives.
pub(crate) struct Track {
    ssrc: Ssrc,
    pub(crate) kind: Kind,
    extender: SequenceExtender,
    /// By extended sequence number.
    pub(crate) got: BTreeMap<u64, Got>,
    missing: BTreeMap<u64, (Instant, u32)>,
    first_checked: bool,
    given_up: bool,
    pli_at: Instant,
}

/// Which packet of which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) source: u32,
    pub(crate) position: u32,
    /// It begins a keyframe.
    keyframe: bool,
}

impl Got {
    fn parse(kind: Kind, payload: &[u8]) -> Got {
        let number = |at: usize| u32::from_be_bytes(*payload[at..].first_chunk().unwrap());
        Got {
            source: number(2),
            position: number(6),
            keyframe: kind == Kind::Video && payload[..2] == [0x10, 0],
        }
    }
}

const FRAME: Duration = Duration::from_millis(125);
const AUDIO: Duration = Duration::from_millis(100);
const KEYFRAMES: Duration = Duration::from_secs(5);
const NACK: Duration = Duration::from_millis(50);
const NACKS: u32 = 10;
const PLI: Duration = Duration::from_millis(500);
const REPORT: Duration = Duration::from_secs(1);
/// Packets that a source repairs.
const KEPT: usize = 60;
const MID_ID: u8 = 4;
const LEVEL_ID: u8 = 1;

impl Caller {
    pub(crate) fn new(seed: u64, number: u32) -> Caller {
        let now = onecast_udp::clock::now();
        let mut random = Random::new(seed + u64::from(number) * 7_919);
        let sources = [Kind::Audio, Kind::Video, Kind::Video].into_iter().enumerate();
        let sources = sources.map(|(place, kind)| {
            let id = number * 8 + place as u32;
            Source {
                id,
                kind,
                ssrc: Ssrc(0x7000_0000 + 2 * id),
                mid: String::new(),
                on: false,
                next_at: now,
                began: now,
                // Some cross the wrap of their sequence numbers soon.
                index: [65_536 - 20, random.below(30_000)][random.below(2) as usize],
                sent: 0,
                keyframe_wanted: true,
                keyframe_at: now,
                kept: VecDeque::new(),
                rtx_next: 7,
                level: 90,
            }
        });
        let sources = sources.collect();
        Caller {
            seed,
            random,
            sources,
            tracks: Vec::new(),
            by_ssrc: HashMap::new(),
            keys: None,
            report_at: now,
        }
    }

    pub(crate) fn begin(&mut self, now: Instant, keys: SrtpKeys) {
        self.keys = Some(keys);
        self.report_at = now;
        for source in &mut self.sources {
            (source.next_at, source.began) = (now, now);
        }
    }

    /// What is agreed of a source: its line, and whether it sends.
    pub(crate) fn agree(&mut self, place: usize, mid: Option<&str>, on: bool, now: Instant) {
        let source = &mut self.sources[place];
        if on && !source.on {
            source.keyframe_wanted = true;
            source.next_at = source.next_at.max(now);
        }
        source.on = on;
        source.mid = mid.unwrap_or_default().to_owned();
    }

    /// Learns of a track from the m-section that offers it.
    pub(crate) fn expect(&mut self, now: Instant, section: &Section) {
        let ssrc = Ssrc(section.ssrcs[0]);
        if self.by_ssrc.contains_key(&ssrc) {
            return;
        }
        let kind = if section.is_video() { Kind::Video } else { Kind::Audio };
        for ssrc in &section.ssrcs {
            self.by_ssrc.insert(Ssrc(*ssrc), self.tracks.len());
        }
        self.tracks.push(Track {
            ssrc,
            kind,
            extender: SequenceExtender::default(),
            got: BTreeMap::new(),
            missing: BTreeMap::new(),
            first_checked: false,
            given_up: false,
            pli_at: now + PLI,
        });
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let sources = self.sources.iter().filter(|source| source.on);
        let missing = self.tracks.iter().flat_map(|track| track.missing.values());
        let plis = self.tracks.iter().filter(|track| track.wants_keyframe());
        sources
            .map(|source| source.next_at)
            .chain(missing.map(|(at, _)| *at))
            .chain(plis.map(|track| track.pli_at))
            .chain([self.report_at])
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Clear>) {
        for source in &mut self.sources {
            while source.on && source.next_at <= now {
                source.send(&mut self.random, out);
            }
        }
        for track in &mut self.tracks {
            track.ask(now, out);
        }
        if self.report_at <= now {
            self.report_at = now + REPORT;
            push(out, |bytes| rtcp::write_receiver_report_empty(bytes, Ssrc(5)));
        }
    }

    /// `first` are the first datagrams that the server sent of each SSRC, whether they came or not.
    pub(crate) fn handle_rtp(&mut self, now: Instant, clear: &[u8], first: impl Fn(Ssrc) -> Option<Vec<u8>>) {
        let seed = self.seed;
        let header = RtpHeader::parse(clear).unwrap();
        let place = self.by_ssrc.get(&header.ssrc);
        let place = *place.unwrap_or_else(|| panic!("seed {seed}: no track was announced for {:x}", header.ssrc));
        let track = &mut self.tracks[place];
        if !track.first_checked && track.kind == Kind::Video {
            let (keys, first) = (self.keys.as_ref().unwrap(), first(track.ssrc).unwrap());
            assert!(
                begins(keys, first),
                "seed {seed}: {:x} begins amid something",
                track.ssrc
            );
        }
        track.first_checked = true;
        let (mut sequence, mut payload) = (header.sequence, header.payload(clear).unwrap());
        if header.ssrc != track.ssrc {
            let (original, rest) = payload.split_first_chunk().unwrap();
            (sequence, payload) = (u16::from_be_bytes(*original), rest);
        }
        let got = Got::parse(track.kind, payload);
        let index = track.extender.extend(sequence);
        let before = *track.got.entry(index.0).or_insert(got);
        assert_eq!(before, got, "seed {seed}: {index} of {:x} is two packets", track.ssrc);
        track.note(now, index.0);
    }

    pub(crate) fn handle_rtcp(&mut self, clear: &[u8], out: &mut Vec<Clear>) {
        let mut asked = Vec::new();
        rtcp::parse(clear, |report| match report {
            Report::Nack { about, sequences } => asked.extend(sequences.map(|sequence| (about, sequence))),
            Report::Pli { about } => {
                if let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == about) {
                    source.keyframe_wanted = true;
                }
            }
            _ => {}
        })
        .unwrap();
        for (about, sequence) in asked {
            if let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == about) {
                source.resend(sequence, out);
            }
        }
    }

    /// The newest packet that it has of a source.
    pub(crate) fn newest(&self, source: u32) -> Option<u32> {
        let last = self.tracks.iter().filter_map(|track| track.got.last_key_value());
        last.filter(|(_, got)| got.source == source)
            .map(|(_, got)| got.position)
            .max()
    }

    /// What it has of each track is one source's, in its order, and whatever does not follow what is before it begins a keyframe.
    /// Where a network loses packets, those at which it goes on may be among the lost.
    pub(crate) fn check(&self, loses: bool) {
        let seed = self.seed;
        for track in &self.tracks {
            let pairs = track.got.iter().zip(track.got.iter().skip(1));
            for ((&before_index, before), (&index, got)) in pairs {
                assert_eq!(before.source, got.source, "seed {seed}: a track has one source");
                // What was switched off and on starts with the last keyframe, which it may have had before.
                let goes_on = u64::from(got.position.wrapping_sub(before.position)) == index - before_index;
                let is_lost = loses && index - before_index > 1;
                let may_begin = got.keyframe || track.kind == Kind::Audio || is_lost;
                assert!(
                    goes_on || may_begin,
                    "seed {seed}: {:x} goes on amid something: {before_index} {before:?}, {index} {got:?}",
                    track.ssrc
                );
            }
        }
    }
}

/// The datagram begins a keyframe.
fn begins(keys: &SrtpKeys, mut datagram: Vec<u8>) -> bool {
    let header = RtpHeader::parse(&datagram).unwrap();
    let opened = Opener::new(keys).open_rtp(&mut datagram, header.len, header.ssrc, header.sequence);
    let payload = header.payload(&datagram[..opened.unwrap()]).unwrap();
    Got::parse(Kind::Video, payload).keyframe
}

impl Source {
    /// A frame, of sound or video.
    fn send(&mut self, random: &mut Random, out: &mut Vec<Clear>) {
        let now = self.next_at;
        let (interval, packets) = match self.kind {
            Kind::Audio => (AUDIO, 1),
            Kind::Video => (FRAME, 1 + random.below(3)),
        };
        self.next_at += interval;
        let keyframe = self.keyframe_wanted || self.keyframe_at <= now;
        if keyframe {
            (self.keyframe_wanted, self.keyframe_at) = (false, now + KEYFRAMES);
        }
        for number in 0..packets {
            let head = match self.kind {
                Kind::Audio => [0x78, 0],
                Kind::Video if number == 0 => [0x10, u8::from(!keyframe)],
                Kind::Video => [0, 1],
            };
            let mut payload = head.to_vec();
            payload.extend(self.id.to_be_bytes());
            payload.extend(self.sent.to_be_bytes());
            payload.resize(20 + random.below(40) as usize, 0);
            self.packet(&payload, number + 1 == packets, out);
        }
    }

    fn packet(&mut self, payload: &[u8], last: bool, out: &mut Vec<Clear>) {
        let video = self.kind == Kind::Video;
        let rate = if video { 90 } else { 48 };
        let header = HeaderOut {
            marker: video && last,
            padding: false,
            payload_type: if video { Pt(96) } else { Pt(111) },
            sequence: self.index as u16,
            timestamp: RtpTime(((self.next_at - self.began).as_millis() as u32).wrapping_mul(rate)),
            ssrc: self.ssrc,
        };
        let level = [self.level];
        let extensions = [(MID_ID, self.mid.as_bytes()), (LEVEL_ID, &level[..])];
        let extensions = &extensions[..if video { 1 } else { 2 }];
        let mut bytes = vec![0; HeaderOut::len(extensions)];
        let header_len = header.write(&mut bytes, extensions);
        bytes.extend(payload);
        if video {
            self.kept.push_back((self.index, bytes.clone(), header_len));
            self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        }
        out.push(Clear::Rtp {
            bytes,
            header_len,
            index: self.index,
        });
        self.index += 1;
        self.sent += 1;
    }

    fn resend(&mut self, sequence: u16, out: &mut Vec<Clear>) {
        let mut kept = self.kept.iter();
        let Some((_, bytes, header_len)) = kept.find(|(index, ..)| *index as u16 == sequence) else {
            return;
        };
        let original = RtpHeader::parse(bytes).unwrap();
        let header = HeaderOut {
            marker: original.marker,
            padding: false,
            payload_type: Pt(97),
            sequence: self.rtx_next as u16,
            timestamp: original.timestamp,
            ssrc: Ssrc(self.ssrc.0 + 1),
        };
        // Only the MID and the repeated number show which track this RTX packet repairs.
        let extensions = [(MID_ID, self.mid.as_bytes())];
        let mut again = vec![0; HeaderOut::len(&extensions)];
        let len = header.write(&mut again, &extensions);
        again.extend(sequence.to_be_bytes());
        again.extend(&bytes[*header_len..]);
        out.push(Clear::Rtp {
            bytes: again,
            header_len: len,
            index: self.rtx_next,
        });
        self.rtx_next += 1;
    }
}

impl Track {
    fn wants_keyframe(&self) -> bool {
        self.kind == Kind::Video && (self.got.is_empty() || self.given_up)
    }

    fn note(&mut self, now: Instant, index: u64) {
        self.missing.remove(&index);
        let before = self.got.range(..index).next_back().map(|(&before, _)| before);
        if let Some(before) = before.filter(|_| self.kind == Kind::Video)
            && self.got.range(index + 1..).next().is_none()
        {
            self.missing
                .extend((before + 1..index).map(|index| (index, (now + NACK, 0))));
        }
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<Clear>) {
        let before = self.missing.len();
        self.missing.retain(|_, (at, asked)| *at > now || *asked < NACKS);
        self.given_up |= self.missing.len() < before;
        let mut due = Vec::new();
        for (&index, (at, asked)) in self.missing.iter_mut().filter(|(_, (at, _))| *at <= now) {
            (*at, *asked) = (now + NACK, *asked + 1);
            due.push(index as u16);
        }
        if !due.is_empty() {
            push(out, |bytes| rtcp::write_nack(bytes, Ssrc(5), self.ssrc, due));
        }
        if self.wants_keyframe() && self.pli_at <= now {
            (self.pli_at, self.given_up) = (now + PLI, false);
            push(out, |bytes| rtcp::write_pli(bytes, Ssrc(5), self.ssrc));
        }
    }
}

fn push(out: &mut Vec<Clear>, write: impl FnOnce(&mut [u8]) -> usize) {
    let mut bytes = vec![0; 1_000];
    let len = write(&mut bytes);
    bytes.truncate(len);
    out.push(Clear::Rtcp(bytes));
}
