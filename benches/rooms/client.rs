//! Clients that send, are sent, or both, over one finished session each.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use onecast_clients::load::publisher::Publisher;
use onecast_clients::load::session::{Incoming, Protected, Session};
use onecast_clients::load::stamp::Stamp;
use onecast_clients::load::viewers::drop_rtp_in_kernel;
use onecast_clients::load::workload::{AUDIO_BYTES, AUDIO_RATE, Video};
use onecast_rtc::rtp::Kind;
use onecast_rtc::rtp::header::{HeaderOut, RtpHeader};
use onecast_rtc::srtp::{Opener, Sealer, SrtpKeys};
use onecast_udp::clock;

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
            drop_rtp_in_kernel(&session.socket)?;
        }
        Ok(Client {
            session,
            sending: None,
            ledger,
        })
    }

    /// From now on it has something to send, as `number` among those who do.
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

    /// Keeps the consent, and opens what came if it is to be opened.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<()> {
        let Client { session, ledger, .. } = self;
        session.turn(now, &mut |incoming| {
            if let Some(ledger) = ledger.as_mut().filter(|_| incoming.kind == Protected::Media) {
                ledger.handle(incoming);
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
    /// Frames and audio packets, and packets of each.
    frames: u64,
    since_keyframe: u64,
    /// Frames that count as sent after the first keyframe: those of different clients are spread over their interval.
    shift: u64,
    timestamp: u32,
    packets: [u64; 2],
    next: [Instant; 2],
    /// The longest that something went out after it was due.
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
            video: Publisher::W1,
            frames: 0,
            since_keyframe: 0,
            shift: 0,
            timestamp: 0,
            packets: [0; 2],
            next: [now; 2],
            latest: Duration::ZERO,
        }
    }

    /// Begins with a keyframe, each of `of` clients at its own moment: people do not move in step.
    pub(crate) fn begin(&mut self, now: Instant, of: u32, video: Video) {
        self.video = video;
        let share = f64::from(self.number % of) / f64::from(of);
        self.next[Kind::Video as usize] = now + self.frame_interval().mul_f64(share);
        // Not at the same moment as the video.
        self.next[Kind::Audio as usize] = now + AUDIO_INTERVAL.mul_f64((share + 0.5).fract());
        self.since_keyframe = 0;
        self.shift = (share * video.keyframe_interval as f64) as u64;
        self.latest = Duration::ZERO;
    }

    pub(crate) fn next(&self) -> Instant {
        self.next[0].min(self.next[1])
    }

    /// The last stamp of a kind.
    pub(crate) fn last(&self, kind: Kind) -> Option<u64> {
        let sent = match kind {
            Kind::Audio => self.packets[Kind::Audio as usize],
            Kind::Video => self.frames,
        };
        Some(stamp_of(self.number, kind, sent.checked_sub(1)?))
    }

    fn frame_interval(&self) -> Duration {
        Duration::from_secs(1) / self.video.rate
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
            self.next[Kind::Video as usize] += self.frame_interval();
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
        let mut buffer = [0x55; Publisher::DATAGRAM_BYTES];
        let index = self.packets[kind as usize];
        let bytes = match kind {
            Kind::Audio => AUDIO_BYTES,
            Kind::Video => Publisher::DATAGRAM_BYTES,
        };
        let level = [self.level | VOICE];
        let extension = self.level_id.map(|id| (id, &level[..]));
        let extensions = extension.as_slice();
        let header = HeaderOut {
            marker: kind == Kind::Video && last,
            padding: false,
            payload_type: PAYLOAD_TYPES[kind as usize],
            sequence: index as u16,
            timestamp: match kind {
                Kind::Audio => (index * u64::from(AUDIO_CLOCK / AUDIO_RATE)) as u32,
                Kind::Video => self.timestamp,
            },
            ssrc: SSRC + 2 * self.number + kind as u32,
        };
        let header_len = header.write(&mut buffer, if kind == Kind::Audio { extensions } else { &[] });
        let payload = &mut buffer[header_len..bytes];
        if kind == Kind::Video {
            // As `Publisher` of the load has it.
            payload[0] = if first { 0x10 } else { 0 };
            payload[1] = u8::from(!keyframe);
            if first && keyframe {
                payload[4..11].copy_from_slice(&PICTURE_HEADER);
            }
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

/// Who sent it, what it is, and its number.
fn stamp_of(sender: u32, kind: Kind, number: u64) -> u64 {
    u64::from(sender) << 40 | (kind as u64) << 39 | number & ((1 << 39) - 1)
}

/// What a client that opens every packet has.
pub(crate) struct Ledger {
    keys: SrtpKeys,
    /// By SSRC. Each has an opener of its own: one takes no more SSRCs than publishers have.
    tracks: HashMap<u32, Track>,
    pub(crate) opened: u64,
    /// Numbers left out, and packets that could not be opened.
    pub(crate) lost: u64,
}

/// One track that a client opens.
struct Track {
    opener: Opener,
    next: Option<u16>,
    /// The stamp of the newest frame that is complete.
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

    /// Of these stamps it has so many as the newest of a track.
    pub(crate) fn has(&self, newest: &[u64]) -> usize {
        let tracks = self.tracks.values();
        tracks.filter(|track| newest.contains(&track.newest)).count()
    }

    fn handle(&mut self, incoming: Incoming<'_>) {
        match self.open(incoming.datagram) {
            Some(gap) => {
                self.opened += 1;
                self.lost += gap;
            }
            None => self.lost += 1,
        }
    }

    /// How many packets are missing in front of it.
    fn open(&mut self, datagram: &mut [u8]) -> Option<u64> {
        let header = RtpHeader::parse(datagram).ok()?;
        let track = self.tracks.entry(header.ssrc).or_insert_with(|| Track {
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
        // A frame is there when its last packet is; audio has no marker.
        if header.marker || stamp & (1 << 39) == (Kind::Audio as u64) << 39 {
            track.newest = stamp;
        }
        Some(u64::from(gap))
    }
}

/// Of audio levels (RFC 6464).
pub(crate) const SILENCE: u8 = 127;
/// A voice near its microphone.
pub(crate) const SPEECH: u8 = 25;
const VOICE: u8 = 0x80;
const AUDIO_INTERVAL: Duration = Duration::from_millis(1_000 / AUDIO_RATE as u64);
const AUDIO_CLOCK: u32 = 48_000;
const VIDEO_CLOCK: u32 = 90_000;
const SSRC: u32 = 0x0c0f_0000;
/// Start code, 640, 360.
const PICTURE_HEADER: [u8; 7] = [0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
/// Opus and VP8 in our offers.
const PAYLOAD_TYPES: [u8; 2] = [111, 96];
