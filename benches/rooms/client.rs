//! Clients that send, receive, or both, over one connected session each.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use onecast_clients::load::kernel::drop_rtp;
use onecast_clients::load::stamp::Stamp;
use onecast_clients::load::workload::{AUDIO_BYTES, AUDIO_RATE, VIDEO_BYTES, Video, write_vp8};
use onecast_rtc::rtp::header::{HeaderOut, RtpHeader};
use onecast_rtc::rtp::{Kind, Pt, RtpTime, Ssrc};
use onecast_rtc::srtp::{Opener, Sealer, SrtpKeys};
use onecast_udp::clock;

use crate::session::Session;

/// One client.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) sending: Option<Sending>,
    /// `None`: the kernel drops and counts its RTP.
    pub(crate) ledger: Option<Ledger>,
}

impl Client {
    pub(crate) fn new(session: Session, verified: bool) -> io::Result<Client> {
        session.report()?;
        let ledger = verified.then(|| Ledger::new(session.keys.clone()));
        if !verified {
            drop_rtp(&session.socket)?;
        }
        Ok(Client {
            session,
            sending: None,
            ledger,
        })
    }

    /// Makes it a sender, with `number` among all senders.
    pub(crate) fn with_sending(mut self, number: u32, audio_level: Option<u8>) -> Client {
        self.sending = Some(Sending::new(Sealer::new(&self.session.keys), number, audio_level));
        self
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.session.socket.local_addr()?.port())
    }

    /// Sends what is due.
    pub(crate) fn pump(&mut self, now: Instant) -> io::Result<()> {
        let Client { session, sending, .. } = self;
        match sending {
            Some(sending) => sending.pump(now, session),
            None => Ok(()),
        }
    }

    /// Keeps the consent, and decrypts what arrived if it has a ledger.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<()> {
        let Client { session, ledger, .. } = self;
        session.turn(now, &mut |datagram| {
            if let Some(ledger) = ledger {
                ledger.handle(datagram);
            }
        })
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.ledger.is_some() || self.session.is_due(now)
    }
}

/// Video that looks like VP8, and Opus.
pub(crate) struct Sending {
    sealer: Sealer,
    number: u32,
    level_id: Option<u8>,
    /// -dBov of the next packets.
    pub(crate) level: u8,
    pub(crate) video: Video,
    /// Video frames sent.
    frames: u64,
    since_keyframe: u64,
    /// Frames to skip after the first keyframe, so that the keyframes of different clients are spread over the interval.
    shift: u64,
    timestamp: u32,
    packets: [u64; 2],
    next: [Instant; 2],
    /// The longest delay of a packet after its due time.
    pub(crate) latest: Duration,
}

impl Sending {
    fn new(sealer: Sealer, number: u32, level_id: Option<u8>) -> Sending {
        let now = clock::now();
        Sending {
            sealer,
            number,
            level_id,
            level: SILENCE,
            video: Video::W1,
            frames: 0,
            since_keyframe: 0,
            shift: 0,
            timestamp: 0,
            packets: [0; 2],
            next: [now; 2],
            latest: Duration::ZERO,
        }
    }

    /// Starts with a keyframe, each of `of` clients at its own moment, as independent senders do.
    pub(crate) fn begin(&mut self, now: Instant, of: u32, video: Video) {
        self.video = video;
        let share = f64::from(self.number % of) / f64::from(of);
        self.next[Kind::Video as usize] = now + self.video.frame_interval().mul_f64(share);
        // Not at the same moment as video.
        self.next[Kind::Audio as usize] = now + AUDIO_INTERVAL.mul_f64((share + 0.5).fract());
        self.since_keyframe = 0;
        self.shift = (share * video.keyframe_interval as f64) as u64;
        self.latest = Duration::ZERO;
    }

    pub(crate) fn next(&self) -> Instant {
        self.next[0].min(self.next[1])
    }

    /// The last stamp sent of a kind.
    pub(crate) fn last(&self, kind: Kind) -> Option<u64> {
        let sent = match kind {
            Kind::Audio => self.packets[Kind::Audio as usize],
            Kind::Video => self.frames,
        };
        Some(stamp_of(self.number, kind, sent.checked_sub(1)?))
    }

    fn pump(&mut self, now: Instant, session: &Session) -> io::Result<()> {
        if self.next[Kind::Audio as usize] <= now {
            self.latest = self.latest.max(now - self.next[Kind::Audio as usize]);
            self.next[Kind::Audio as usize] += AUDIO_INTERVAL;
            let number = self.packets[Kind::Audio as usize];
            self.send(session, Kind::Audio, number, (false, true), false)?;
        }
        if self.next[Kind::Video as usize] <= now {
            self.latest = self.latest.max(now - self.next[Kind::Video as usize]);
            self.next[Kind::Video as usize] += self.video.frame_interval();
            self.send_frame(session)?;
        }
        Ok(())
    }

    fn send_frame(&mut self, session: &Session) -> io::Result<()> {
        let keyframe = self.since_keyframe == 0;
        let packets = if keyframe {
            self.video.keyframe_packets
        } else {
            self.video.frame_packets
        };
        for position in 0..packets {
            let ends = (position == 0, position + 1 == packets);
            self.send(session, Kind::Video, self.frames, ends, keyframe)?;
        }
        self.frames += 1;
        self.timestamp = self.timestamp.wrapping_add(VIDEO_CLOCK / self.video.rate);
        self.since_keyframe =
            (self.since_keyframe + 1 + std::mem::take(&mut self.shift)) % self.video.keyframe_interval;
        Ok(())
    }

    fn send(
        &mut self,
        session: &Session,
        kind: Kind,
        number: u64,
        (first, last): (bool, bool),
        keyframe: bool,
    ) -> io::Result<()> {
        let mut buffer = [0x55; VIDEO_BYTES];
        let index = self.packets[kind as usize];
        let bytes = match kind {
            Kind::Audio => AUDIO_BYTES,
            Kind::Video => VIDEO_BYTES,
        };
        let level = [self.level | VOICE];
        let extension = self.level_id.map(|id| (id, &level[..]));
        let extensions = extension.as_slice();
        let header = HeaderOut {
            marker: kind == Kind::Video && last,
            padding: false,
            payload_type: Pt(PAYLOAD_TYPES[kind as usize]),
            sequence: index as u16,
            timestamp: match kind {
                Kind::Audio => RtpTime((index * u64::from(AUDIO_CLOCK / AUDIO_RATE)) as u32),
                Kind::Video => RtpTime(self.timestamp),
            },
            ssrc: Ssrc(SSRC + 2 * self.number + kind as u32),
        };
        let header_len = header.write(&mut buffer, if kind == Kind::Audio { extensions } else { &[] });
        let payload = &mut buffer[header_len..bytes];
        if kind == Kind::Video {
            write_vp8(keyframe, first, payload);
        }
        let stamp = Stamp {
            frame: stamp_of(self.number, kind, number),
            sent: clock::unix_time(),
        };
        stamp.write(payload);
        let clear = bytes - self.sealer.overhead();
        let len = self.sealer.seal_rtp(&mut buffer, header_len, clear, index);
        self.packets[kind as usize] += 1;
        session.socket.send(&buffer[..len]).map(drop)
    }
}

/// Sender, kind and number in one stamp.
fn stamp_of(sender: u32, kind: Kind, number: u64) -> u64 {
    u64::from(sender) << 40 | (kind as u64) << 39 | number & ((1 << 39) - 1)
}

/// What a decrypting client has received.
pub(crate) struct Ledger {
    keys: SrtpKeys,
    /// By SSRC. Each has its own opener, because one opener accepts only as many SSRCs as a publisher has.
    tracks: HashMap<u32, Track>,
    pub(crate) opened: u64,
    /// Missing sequence numbers, and packets that could not be decrypted.
    pub(crate) lost: u64,
}

/// One track that a client decrypts.
struct Track {
    opener: Opener,
    next: Option<u16>,
    /// Stamp of the newest complete frame.
    newest: u64,
}

impl Ledger {
    fn new(keys: SrtpKeys) -> Ledger {
        Ledger {
            keys,
            tracks: HashMap::new(),
            opened: 0,
            lost: 0,
        }
    }

    /// How many of these stamps are the newest of a track.
    pub(crate) fn has(&self, newest: &[u64]) -> usize {
        let tracks = self.tracks.values();
        tracks.filter(|track| newest.contains(&track.newest)).count()
    }

    fn handle(&mut self, datagram: &mut [u8]) {
        match self.open(datagram) {
            Some(gap) => {
                self.opened += 1;
                self.lost += gap;
            }
            None => self.lost += 1,
        }
    }

    /// Decrypts a packet. Returns how many are missing before it.
    fn open(&mut self, datagram: &mut [u8]) -> Option<u64> {
        let header = RtpHeader::parse(datagram).ok()?;
        let track = self.tracks.entry(header.ssrc.0).or_insert_with(|| Track {
            opener: Opener::new(&self.keys),
            next: None,
            newest: 0,
        });
        let opener = &mut track.opener;
        let len = opener.open_rtp(datagram, header.len, header.ssrc, header.sequence);
        let payload = header.payload(&datagram[..len.ok()?]).ok()?;
        let Stamp { frame: stamp, .. } = Stamp::read(payload)?;
        let gap = header.sequence.wrapping_sub(track.next.unwrap_or(header.sequence));
        track.next = Some(header.sequence.wrapping_add(1));
        // A frame is complete with its last packet. Audio packets have no marker.
        if header.marker || stamp & (1 << 39) == (Kind::Audio as u64) << 39 {
            track.newest = stamp;
        }
        Some(u64::from(gap))
    }
}

/// Audio level of silence (RFC 6464).
pub(crate) const SILENCE: u8 = 127;
/// Audio level of a voice near its microphone.
pub(crate) const SPEECH: u8 = 25;
const VOICE: u8 = 0x80;
const AUDIO_INTERVAL: Duration = Duration::from_millis(1_000 / AUDIO_RATE as u64);
const AUDIO_CLOCK: u32 = 48_000;
const VIDEO_CLOCK: u32 = 90_000;
const SSRC: u32 = 0x0c0f_0000;
/// Opus and VP8 in the offers.
const PAYLOAD_TYPES: [u8; 2] = [111, 96];
