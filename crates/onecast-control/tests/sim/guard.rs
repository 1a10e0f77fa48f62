//! What must hold for every datagram that leaves a shard.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Instant;

use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::rtp::{Pt, Ssrc};
use onecast_rtc::transmit::{Run, SendQueue};

pub(crate) struct Guard {
    seed: u64,
    pub(crate) rtx_ssrcs: HashSet<Ssrc>,
    checked: HashSet<SocketAddr>,
    extenders: HashMap<(SocketAddr, Ssrc), SequenceExtender>,
    sealed: HashMap<(SocketAddr, Ssrc, u64), u64>,
    control: HashSet<(SocketAddr, u32, u32)>,
    /// The first video datagram of each destination.
    first_video: HashMap<SocketAddr, Vec<u8>>,
    retransmitted: HashMap<SocketAddr, usize>,
    /// Bytes of media that were no retransmissions.
    media: HashMap<SocketAddr, usize>,
    /// Media datagrams that were sent before, on the same SSRC.
    pub(crate) repeated: u64,
    pub(crate) runs_failed: usize,
    pub(crate) datagrams: u64,
    sent: HashMap<SocketAddr, Sent>,
    /// What conferences allow; `None` where there are none.
    pub(crate) allowed: Option<Allowed>,
}

/// How much went to an address.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) bytes: usize,
    pub(crate) stun: usize,
    pub(crate) dtls: usize,
    pub(crate) media: usize,
    pub(crate) control: usize,
}

/// What may be sent to whom: SSRCs of which the client has agreed to be sent them, until when if it is over.
#[derive(Default)]
pub(crate) struct Allowed {
    pub(crate) until: BTreeMap<(SocketAddr, Ssrc), Option<Instant>>,
    /// The first datagram of each.
    first: HashMap<(SocketAddr, Ssrc), Vec<u8>>,
}

impl Guard {
    pub(crate) fn new(seed: u64, rtx_ssrc: Ssrc) -> Guard {
        Guard {
            seed,
            rtx_ssrcs: HashSet::from([rtx_ssrc]),
            checked: HashSet::new(),
            extenders: HashMap::new(),
            sealed: HashMap::new(),
            control: HashSet::new(),
            first_video: HashMap::new(),
            retransmitted: HashMap::new(),
            media: HashMap::new(),
            repeated: 0,
            runs_failed: 0,
            datagrams: 0,
            sent: HashMap::new(),
            allowed: None,
        }
    }

    /// The queue is within its bounds, and its runs are what one send can carry.
    pub(crate) fn check_queue(&self, queue: &SendQueue) {
        assert!(queue.runs().len() <= 2 * SendQueue::RUNS_MAX, "seed {}", self.seed);
        for run in queue.runs() {
            assert!(
                run.segments <= Run::SEGMENTS_MAX && run.len <= 65_507 - 48,
                "seed {}",
                self.seed
            );
            let segments = run.len.div_ceil(u32::from(run.segment));
            assert_eq!(segments, u32::from(run.segments), "seed {}: {run:?}", self.seed);
        }
    }

    pub(crate) fn check(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let seed = self.seed;
        self.datagrams += 1;
        assert!(
            (8..=SendQueue::DATAGRAM_MAX).contains(&datagram.len()),
            "seed {seed}: {} bytes",
            datagram.len()
        );
        if datagram[..2] == [1, 1] {
            self.checked.insert(to);
        }
        let role_conflict = datagram[..2] == [1, 0x11];
        assert!(
            role_conflict || self.checked.contains(&to),
            "seed {seed}: {to} passed no check"
        );
        self.count(to, datagram);
        match datagram[0] {
            128..=191 if (192..=223).contains(&datagram[1]) => self.check_control(to, datagram),
            128..=191 => {
                self.check_allowed(now, to, datagram);
                self.check_media(to, datagram);
            }
            _ => {}
        }
    }

    fn count(&mut self, to: SocketAddr, datagram: &[u8]) {
        let sent = self.sent.entry(to).or_default();
        sent.bytes += datagram.len();
        *(match datagram[..2] {
            [0..=3, _] => &mut sent.stun,
            [20..=63, _] => &mut sent.dtls,
            [_, 192..=223] => &mut sent.control,
            _ => &mut sent.media,
        }) += 1;
    }

    /// What went to an address so far.
    pub(crate) fn sent(&self, to: SocketAddr) -> Sent {
        self.sent.get(&to).copied().unwrap_or_default()
    }

    /// Nothing is sent of a track before the client has agreed to it, or after it was taken away.
    fn check_allowed(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let Some(allowed) = &mut self.allowed else { return };
        let ssrc = RtpHeader::parse(datagram).unwrap().ssrc;
        let until = allowed.until.get(&(to, ssrc));
        let is_allowed = until.is_some_and(|until| until.is_none_or(|until| now <= until));
        assert!(
            is_allowed,
            "seed {}: {ssrc:x} goes to {to}, which has {until:?}",
            self.seed
        );
        allowed.first.entry((to, ssrc)).or_insert_with(|| datagram.to_vec());
    }

    /// The first datagram of an SSRC that a conference sent.
    pub(crate) fn first_of(&self, to: SocketAddr, ssrc: Ssrc) -> Option<Vec<u8>> {
        self.allowed.as_ref()?.first.get(&(to, ssrc)).cloned()
    }

    /// A packet index of an SSRC stands for the same bytes whenever it is sent; one of a retransmission is sent once.
    fn check_media(&mut self, to: SocketAddr, datagram: &[u8]) {
        let seed = self.seed;
        let header = RtpHeader::parse(datagram).unwrap();
        let index = self
            .extenders
            .entry((to, header.ssrc))
            .or_default()
            .extend(header.sequence);
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let before = self.sealed.insert((to, header.ssrc, index.0), hasher.finish());
        assert!(
            before.is_none_or(|before| before == hasher.finish()),
            "seed {seed}: index {index} of {:x} to {to} was sealed twice",
            header.ssrc
        );
        if self.rtx_ssrcs.contains(&header.ssrc) {
            assert!(before.is_none(), "seed {seed}: RTX index {index} was used twice");
        }
        self.repeated += u64::from(before.is_some());
        if self.rtx_ssrcs.contains(&header.ssrc) || before.is_some() {
            *self.retransmitted.entry(to).or_default() += datagram.len();
        } else {
            *self.media.entry(to).or_default() += datagram.len();
        }
        if header.payload_type != Pt(111) {
            self.first_video.entry(to).or_insert_with(|| datagram.to_vec());
        }
    }

    /// No SRTCP index is used twice: GCM has it in front of the end, in clear.
    fn check_control(&mut self, to: SocketAddr, datagram: &[u8]) {
        let ssrc = u32::from_be_bytes(*datagram[4..].first_chunk().unwrap());
        let index = u32::from_be_bytes(*datagram[datagram.len() - 4..].first_chunk().unwrap());
        assert_ne!(index & 0x8000_0000, 0, "seed {}: SRTCP in clear", self.seed);
        assert!(
            self.control.insert((to, ssrc, index)),
            "seed {}: SRTCP index {index:x} used twice",
            self.seed
        );
    }

    pub(crate) fn first_video(&self, to: SocketAddr) -> Option<&[u8]> {
        self.first_video.get(&to).map(Vec::as_slice)
    }

    pub(crate) fn retransmitted(&self, to: SocketAddr) -> usize {
        self.retransmitted.get(&to).copied().unwrap_or_default()
    }

    /// Bytes of media that were sent for the first time.
    pub(crate) fn media(&self, to: SocketAddr) -> usize {
        self.media.get(&to).copied().unwrap_or_default()
    }
}
