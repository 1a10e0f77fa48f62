//! What comes from one client over SRTP: opened, counted, and watched for media that never opens.

use std::time::{Duration, Instant};

use super::published_stream::RtpOutcome;
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Opener, Profile, SrtpDrop};

/// What has come from one client, and whether it opens.
#[derive(Default)]
pub(super) struct Inbound {
    inflow: Inflow,
    /// When the newest authentic SRTCP came.
    heard: Option<Instant>,
    unreadable: Option<Box<Unreadable>>,
}

/// A client's authentic RTP so far, including packets that were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inflow {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Packets that are sent to viewers in datagrams of more than [`SendQueue::PATH_DATAGRAM_MAX`] bytes.
    pub large: u64,
    /// Length of the longest such datagram.
    pub longest: u64,
}

/// RTP comes from the client's address, and none of it is authentic.
///
/// Either the client's numbering has left every roll-over count that is tried (or its keys are others), and only a new session helps; or
/// another host sends from a forged address, and the client is silent. The client's authentic SRTCP tells the two apart: SRTCP
/// carries its index and opens in either case, and a sender report says how many packets were sent. A client that sends neither RTP nor SRTCP
/// cannot be told apart, and loses nothing on air with its session.
struct Unreadable {
    since: Instant,
    newest: Instant,
    packets: u32,
    /// SSRC and packet count of the first sender report since then.
    counts: Vec<(Ssrc, u32)>,
    /// By its sender reports it sends RTP.
    is_sending: bool,
}

impl Inbound {
    /// Opens an RTP datagram in place: its header, and its clear length.
    ///
    /// # Errors
    /// [`RtpOutcome::Dropped`] if it is not authentic or no RTP, [`RtpOutcome::Unreadable`] if none has been for too long.
    pub(super) fn open_rtp(
        &mut self,
        now: Instant,
        opener: &mut Opener,
        datagram: &mut [u8],
    ) -> Result<(RtpHeader, usize), RtpOutcome> {
        let header = RtpHeader::parse(datagram).map_err(|_| RtpOutcome::Dropped)?;
        match opener.open_rtp(datagram, header.len, header.ssrc, header.sequence) {
            Ok(len) => {
                self.unreadable = None;
                self.inflow.note(len);
                Ok((header, len))
            }
            Err(SrtpDrop::Truncated) => Err(RtpOutcome::Dropped),
            // A host that forges an address does not know the SSRCs, unless nothing was sent yet.
            Err(_) if opener.may_know(header.ssrc) => Err(self.note_unreadable(now)),
            Err(_) => Err(RtpOutcome::Dropped),
        }
    }

    /// Authentic RTCP has come.
    pub(super) fn note_rtcp(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The client has sent so many packets, as its sender report says.
    pub(super) fn note_sender_report(&mut self, ssrc: Ssrc, packets: u32) {
        let Some(unreadable) = &mut self.unreadable else { return };
        match unreadable.counts.iter().find(|(known, _)| *known == ssrc) {
            Some((_, before)) => unreadable.is_sending |= *before != packets,
            None if unreadable.counts.len() < Unreadable::COUNTS_MAX => unreadable.counts.push((ssrc, packets)),
            None => {}
        }
    }

    /// What was authentic so far.
    pub(super) fn inflow(&self) -> Inflow {
        self.inflow
    }

    fn note_unreadable(&mut self, now: Instant) -> RtpOutcome {
        let is_over = |before: &Unreadable| now > before.newest + Unreadable::PAUSE_MAX;
        if self.unreadable.as_deref().is_none_or(is_over) {
            self.unreadable = Some(Box::new(Unreadable::new(now)));
        }
        let Some(unreadable) = &mut self.unreadable else {
            return RtpOutcome::Dropped;
        };
        unreadable.newest = now;
        unreadable.packets = unreadable.packets.saturating_add(1);
        let is_heard = self.heard.is_some_and(|heard| now < heard + Unreadable::REPORTS_WITHIN);
        let is_proven = unreadable.is_sending || !is_heard;
        let is_long = now >= unreadable.since + Unreadable::TIME && unreadable.packets >= Unreadable::PACKETS;
        if is_proven && is_long {
            RtpOutcome::Unreadable
        } else {
            RtpOutcome::Dropped
        }
    }
}

impl Inflow {
    fn note(&mut self, len: usize) {
        self.bytes += len as u64;
        let datagram = len + Profile::AeadAes128Gcm.tag_len();
        if datagram > SendQueue::PATH_DATAGRAM_MAX {
            self.large += 1;
            self.longest = self.longest.max(datagram as u64);
        }
    }
}

impl Unreadable {
    /// Long enough for retransmissions and keyframes to be of no interest any more, short enough for a publisher to come back while its
    /// viewers still wait.
    const TIME: Duration = Duration::from_secs(5);
    /// A few bad packets in that time are no stream: the sparsest, Opus with DTX, has 12.
    const PACKETS: u32 = 10;
    /// After a longer pause between two bad packets, counting starts over.
    const PAUSE_MAX: Duration = Duration::from_secs(2);
    /// A client that sends reports at all sends one in this time (every 5 s on average, 7.5 s at most; RFC 3550 section 6.2) and one is lost.
    const REPORTS_WITHIN: Duration = Duration::from_secs(16);
    /// Sender reports that are compared: audio, and three layers of video.
    const COUNTS_MAX: usize = 4;

    fn new(now: Instant) -> Unreadable {
        Unreadable {
            since: now,
            newest: now,
            packets: 0,
            counts: Vec::new(),
            is_sending: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::header::HeaderOut;
    use onecast_rtc::rtp::{Pt, RtpTime};
    use onecast_rtc::{DtlsRole, Sealer, SrtpKeys};

    const PROFILE: Profile = Profile::AeadAes128Gcm;

    /// A client, and the server's end.
    struct World {
        sealer: Sealer,
        opener: Opener,
        inbound: Inbound,
        now: Instant,
    }

    impl World {
        fn new() -> World {
            let material: Vec<u8> = (0..PROFILE.keying_material_len()).map(|i| i as u8).collect();
            let keys = |role| SrtpKeys::from_keying_material(PROFILE, &material, role).unwrap();
            World {
                sealer: Sealer::new(&keys(DtlsRole::Client)),
                opener: Opener::new(&keys(DtlsRole::Server)),
                inbound: Inbound::default(),
                now: onecast_udp::clock::now(),
            }
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn sealed(&mut self, ssrc: Ssrc, index: u64, payload: usize) -> Vec<u8> {
            let mut bytes = vec![0; 12 + payload + 16];
            let header = HeaderOut {
                marker: false,
                padding: false,
                payload_type: Pt(96),
                sequence: index as u16,
                timestamp: RtpTime(0),
                ssrc,
            };
            header.write(&mut bytes, &[]);
            self.sealer.seal_rtp(&mut bytes, 12, 12 + payload, index);
            bytes
        }

        fn good(&mut self, ssrc: Ssrc, index: u64) -> bool {
            let mut datagram = self.sealed(ssrc, index, 20);
            self.inbound.open_rtp(self.now, &mut self.opener, &mut datagram).is_ok()
        }

        fn bad(&mut self, ssrc: Ssrc) -> RtpOutcome {
            let mut datagram = self.sealed(ssrc, 30_000, 20);
            datagram[20] ^= 1;
            self.inbound
                .open_rtp(self.now, &mut self.opener, &mut datagram)
                .unwrap_err()
        }

        /// An authentic report, which says that so many packets were sent.
        fn report(&mut self, packets: u32) {
            let mut bytes = vec![0x80, 200, 0, 6];
            bytes.extend([7_u32, 0, 0, 0, packets, 0].map(u32::to_be_bytes).concat());
            let len = bytes.len();
            bytes.resize(len + 20, 0);
            self.sealer.seal_rtcp(&mut bytes, len);
            self.opener.open_rtcp(&mut bytes).unwrap();
            self.inbound.note_rtcp(self.now);
            self.inbound.note_sender_report(Ssrc(7), packets);
        }

        /// Bad packets for so long; when they were too many, ms from now.
        fn endure(&mut self, ssrc: Ssrc, ms: u64, mut each: impl FnMut(&mut World, u64)) -> Option<u64> {
            (0..ms / 20).map(|step| step * 20).find(|&at| {
                self.pass(20);
                each(self, at);
                self.bad(ssrc) == RtpOutcome::Unreadable
            })
        }
    }

    #[test]
    fn media_of_which_nothing_is_authentic_is_unreadable_after_seconds() {
        let mut world = World::new();
        assert_eq!(
            world.endure(Ssrc(7), 60_000, |_, _| {}),
            Some(5_000),
            "from the beginning"
        );
        let mut world = World::new();
        assert!(world.good(Ssrc(7), 1));
        assert_eq!(world.endure(Ssrc(7), 60_000, |_, _| {}), Some(5_000), "amid the stream");
    }

    #[test]
    fn one_authentic_packet_in_that_time_is_enough() {
        let mut world = World::new();
        let mut index = 0;
        let each = |world: &mut World, at: u64| {
            if at.is_multiple_of(4_000) {
                index += 1;
                assert!(world.good(Ssrc(7), index));
            }
        };
        assert_eq!(world.endure(Ssrc(7), 60_000, each), None);
    }

    #[test]
    fn a_silent_client_that_sends_reports_is_not_ended_by_forged_packets() {
        let mut world = World::new();
        assert!(world.good(Ssrc(7), 1));
        let reports = |world: &mut World, at: u64| {
            if at.is_multiple_of(7_500) {
                world.report(1);
            }
        };
        assert_eq!(world.endure(Ssrc(7), 120_000, reports), None);
    }

    #[test]
    fn reports_that_count_packets_prove_that_the_client_sends() {
        let mut world = World::new();
        assert!(world.good(Ssrc(7), 1));
        let reports = |world: &mut World, at: u64| {
            if at.is_multiple_of(1_000) {
                world.report(at as u32 / 20);
            }
        };
        assert_eq!(world.endure(Ssrc(7), 60_000, reports), Some(5_000));
    }

    #[test]
    fn packets_of_sources_that_were_never_heard_prove_nothing_once_one_was() {
        let mut world = World::new();
        assert!(world.good(Ssrc(7), 1));
        assert_eq!(world.endure(Ssrc(8), 60_000, |_, _| {}), None);
    }

    #[test]
    fn single_bad_packets_far_apart_are_no_stream() {
        let mut world = World::new();
        for _ in 0..100 {
            world.pass(2_100);
            assert_eq!(world.bad(Ssrc(7)), RtpOutcome::Dropped);
        }
    }

    #[test]
    fn packets_larger_than_a_path_are_counted() {
        let mut world = World::new();
        for (index, payload) in [1_200, SendQueue::PATH_DATAGRAM_MAX - 28, 1_500, 8_000]
            .into_iter()
            .enumerate()
        {
            let mut datagram = world.sealed(Ssrc(7), index as u64, payload);
            let opened = world.inbound.open_rtp(world.now, &mut world.opener, &mut datagram);
            assert!(opened.is_ok());
        }
        let Inflow { large, longest, .. } = world.inbound.inflow();
        assert_eq!((large, longest), (2, 8_028));
    }
}
