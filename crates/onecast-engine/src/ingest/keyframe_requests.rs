//! Keyframe requests to the publisher: coalesced, repeated until answered, and limited by what keyframes cost all viewers.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::{Ssrc, rtcp};

use super::incoming::KeyframeFeedback;
use crate::media::{KeyframeNeed, KeyframeStats};

/// Pending and sent requests for one track.
#[derive(Debug)]
pub(super) struct KeyframeRequests {
    need: Option<KeyframeNeed>,
    /// When the newest request was sent.
    sent_at: Option<Instant>,
    /// Requests since the newest keyframe.
    outstanding: u32,
    /// Requests since the newest keyframe or the timer's last tick: the basis of the back-off.
    repetitions: u32,
    /// When a request that the share did not allow is considered again.
    deferred_until: Option<Instant>,
    share: KeyframeShare,
    /// Sequence number of the next FIR.
    fir_number: u8,
    /// When the newest keyframe began.
    newest_at: Option<Instant>,
    stats: KeyframeStats,
}

impl KeyframeRequests {
    /// `share` is what requested keyframes may take of the stream's bytes, in percent.
    pub(super) fn new(share: u8) -> KeyframeRequests {
        KeyframeRequests {
            need: None,
            sent_at: None,
            outstanding: 0,
            repetitions: 0,
            deferred_until: None,
            share: KeyframeShare::new(share),
            fir_number: 0,
            newest_at: None,
            stats: KeyframeStats::default(),
        }
    }

    /// A keyframe is needed.
    pub(super) fn want(&mut self, need: KeyframeNeed) {
        self.stats.wanted += 1;
        self.stats.coalesced += u64::from(self.need.is_some());
        self.need = self.need.max(Some(need));
    }

    /// The operator's timer wants a keyframe, however many requests were ignored before.
    pub(super) fn tick(&mut self) {
        self.want(KeyframeNeed::Urgent);
        self.repetitions = 0;
    }

    /// A keyframe began, which serves every request made before.
    pub(super) fn satisfied(&mut self, now: Instant) {
        let asked = self.sent_at.filter(|_| self.outstanding > 0);
        if asked.is_some_and(|at| now < at + ANSWER_MAX) {
            self.stats.answered += 1;
            self.stats.unanswered = false;
        }
        if asked.is_none() {
            self.stats.interval = self.newest_at.map(|newest| now.saturating_duration_since(newest));
        }
        self.newest_at = Some(now);
        self.share.begin_keyframe();
        (self.outstanding, self.repetitions) = (0, 0);
        self.need = None;
        self.deferred_until = None;
    }

    /// Counts a packet of the stream against what keyframes may take of it.
    pub(super) fn note_packet(&mut self, bytes: usize, of_keyframe: bool) {
        self.share.note(bytes, of_keyframe);
    }

    /// When a request may go out; `asap` if at once.
    pub(super) fn deadline(&self, asap: Instant) -> Option<Instant> {
        self.need?;
        let gap = match self.repetitions {
            0 => INTERVAL_MIN,
            again => (RETRY * 2u32.saturating_pow(again - 1)).min(RETRY_MAX),
        };
        let by_interval = self.sent_at.map_or(asap, |sent| sent + gap);
        Some(by_interval.max(self.deferred_until.unwrap_or(asap)))
    }

    /// Writes the request that is due, to every layer's SSRC. Returns its length; 0 if there is none or it does not fit.
    ///
    /// Chromium answers a request for one layer with a keyframe in every layer. Other senders may have independent encoders.
    pub(super) fn write(
        &mut self,
        now: Instant,
        (sender, media): (Ssrc, impl Iterator<Item = Ssrc>),
        how: KeyframeFeedback,
        out: &mut [u8],
    ) -> usize {
        if self.deadline(now).is_none_or(|deadline| deadline > now) {
            return 0;
        }
        if self.need == Some(KeyframeNeed::Repair) && !self.share.allows() {
            self.stats.deferred += u64::from(self.deferred_until.is_none());
            self.deferred_until = Some(now + DEFERRED);
            return 0;
        }
        let mut len = 0;
        for media in media {
            len += match how {
                KeyframeFeedback::Pli => rtcp::write_pli(&mut out[len..], sender, media),
                KeyframeFeedback::Fir => rtcp::write_fir(&mut out[len..], sender, media, self.fir_number),
                KeyframeFeedback::None => 0,
            };
        }
        if how == KeyframeFeedback::None {
            self.need = None;
        }
        if len > 0 {
            self.sent_at = Some(now);
            self.fir_number = self.fir_number.wrapping_add(1);
            self.outstanding += 1;
            self.repetitions += 1;
            self.stats.requested += 1;
            self.stats.unanswered |= self.outstanding > UNANSWERED;
        }
        len
    }

    pub(super) fn stats(&self) -> KeyframeStats {
        self.stats
    }
}

/// What keyframes may take of the stream: an account that every packet fills by its share and keyframes empty.
#[derive(Debug)]
struct KeyframeShare {
    percent: i64,
    /// Hundredths of a byte.
    account: i64,
    /// Bytes of the newest keyframe so far.
    keyframe_bytes: i64,
    /// Bytes of the one before; `None` during the first, which costs nothing because there is no picture without it.
    bytes_before: Option<i64>,
}

impl KeyframeShare {
    fn new(percent: u8) -> KeyframeShare {
        KeyframeShare {
            percent: i64::from(percent.min(100)),
            account: 0,
            keyframe_bytes: 0,
            bytes_before: None,
        }
    }

    fn begin_keyframe(&mut self) {
        let bytes = std::mem::take(&mut self.keyframe_bytes);
        self.bytes_before = (bytes > 0 || self.bytes_before.is_some()).then_some(bytes);
    }

    fn note(&mut self, bytes: usize, of_keyframe: bool) {
        let bytes = bytes as i64;
        if of_keyframe {
            self.keyframe_bytes += bytes;
            self.account -= self.bytes_before.map_or(0, |_| 100 * bytes);
        }
        // The bound makes both a long time without keyframes and a burst of them count for a limited time only.
        let larger = self.keyframe_bytes.max(self.bytes_before.unwrap_or(0));
        let most = 200 * larger.max(SHARE_BYTES_MIN);
        self.account = (self.account + self.percent * bytes).clamp(-most, most);
    }

    fn allows(&self) -> bool {
        self.account >= 0
    }
}

/// At most one request in this time: an encoder needs about as long to make a keyframe and get it here.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Wait before the first repetition, as a request or its keyframe may be lost; it doubles with each further one.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait: a publisher that starts to answer is noticed within this.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// A keyframe that comes later than this after a request does not count as its answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Requests that loss may leave unanswered before the publisher counts as ignoring them.
const UNANSWERED: u32 = 2;
/// A deferred request is considered again after this.
const DEFERRED: Duration = Duration::from_millis(200);
/// The account holds at most two keyframes of the larger recent size, or of this size if that is larger.
const SHARE_BYTES_MIN: i64 = 16 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// When requests go out in the next `time`, milliseconds from `start`.
    fn sent(requests: &mut KeyframeRequests, start: Instant, from: u64, time: u64) -> Vec<u64> {
        let mut buffer = [0; 64];
        (from..from + time)
            .step_by(100)
            .filter(|&at| {
                requests.write(
                    start + ms(at),
                    (Ssrc(1), std::iter::once(Ssrc(2))),
                    KeyframeFeedback::Pli,
                    &mut buffer,
                ) > 0
            })
            .collect()
    }

    #[test]
    fn a_request_is_repeated_until_it_is_answered() {
        let start = onecast_udp::clock::now();
        let mut requests = KeyframeRequests::new(10);
        requests.want(KeyframeNeed::Urgent);
        assert_eq!(sent(&mut requests, start, 0, 20_000), [0, 1_000, 3_000, 7_000, 15_000]);
        assert!(requests.stats().unanswered);
        requests.satisfied(start + ms(20_000));
        assert!(sent(&mut requests, start, 20_000, 5_000).is_empty());
        assert_eq!(requests.stats().answered, 0, "too late to be an answer");
        assert!(requests.stats().unanswered);
        requests.want(KeyframeNeed::Urgent);
        assert_eq!(sent(&mut requests, start, 25_000, 100), [25_000]);
        requests.satisfied(start + ms(25_100));
        assert_eq!((requests.stats().answered, requests.stats().unanswered), (1, false));
    }

    #[test]
    fn ignored_requests_do_not_slow_the_timer_down() {
        let start = onecast_udp::clock::now();
        let mut requests = KeyframeRequests::new(10);
        let mut all = Vec::new();
        for tick in 0..5 {
            requests.tick();
            all.extend(sent(&mut requests, start, 600 * tick, 600));
        }
        assert_eq!(all, [0, 600, 1_200, 1_800, 2_400]);
    }

    #[test]
    fn unrequested_keyframes_reveal_the_interval() {
        let start = onecast_udp::clock::now();
        let mut requests = KeyframeRequests::new(10);
        requests.satisfied(start);
        assert_eq!(requests.stats().interval, None);
        requests.satisfied(start + ms(10_000));
        assert_eq!(requests.stats().interval, Some(ms(10_000)));
        requests.want(KeyframeNeed::Urgent);
        sent(&mut requests, start, 11_000, 100);
        requests.satisfied(start + ms(11_100));
        assert_eq!(requests.stats().interval, Some(ms(10_000)));
    }

    #[test]
    fn repairs_wait_for_the_share_and_first_pictures_do_not() {
        let start = onecast_udp::clock::now();
        let mut requests = KeyframeRequests::new(10);
        keyframe(&mut requests, start, 1);
        requests.note_packet(1_000, false);
        keyframe(&mut requests, start, 40);
        requests.want(KeyframeNeed::Repair);
        assert!(sent(&mut requests, start, 0, 1_000).is_empty());
        assert_eq!(requests.stats().deferred, 1);
        // The first two packets earned 200 bytes, and the second keyframe overdrew the account by 36,000.
        (0..357).for_each(|_| requests.note_packet(1_000, false));
        assert!(sent(&mut requests, start, 1_000, 500).is_empty());
        requests.note_packet(1_000, false);
        assert_eq!(sent(&mut requests, start, 1_500, 500).len(), 1);

        let mut requests = KeyframeRequests::new(10);
        keyframe(&mut requests, start, 40);
        requests.note_packet(1_000, false);
        keyframe(&mut requests, start, 40);
        requests.want(KeyframeNeed::Repair);
        requests.want(KeyframeNeed::Urgent);
        assert_eq!(sent(&mut requests, start, 0, 100), [0]);
        assert_eq!((requests.stats().wanted, requests.stats().coalesced), (2, 1));
    }

    /// A keyframe of so many packets of 1,000 bytes.
    fn keyframe(requests: &mut KeyframeRequests, now: Instant, packets: usize) {
        requests.satisfied(now);
        (0..packets).for_each(|_| requests.note_packet(1_000, true));
    }

    #[test]
    fn neither_a_late_packet_nor_the_next_keyframe_resets_the_account() {
        let start = onecast_udp::clock::now();
        let mut requests = KeyframeRequests::new(10);
        for _ in 0..2 {
            keyframe(&mut requests, start, 200);
            requests.note_packet(1_000, false);
            requests.note_packet(1_000, true);
        }
        // The second one took 201 kB; everything, itself included, has earned 190 kB when this has passed.
        (0..1_500).for_each(|_| requests.note_packet(1_000, false));
        requests.want(KeyframeNeed::Repair);
        assert!(sent(&mut requests, start, 3_000, 1_000).is_empty());
        (0..200).for_each(|_| requests.note_packet(1_000, false));
        assert_eq!(sent(&mut requests, start, 4_000, 500).len(), 1);
        // The beginning of another one, however small it is yet, forgives nothing either.
        keyframe(&mut requests, start, 200);
        keyframe(&mut requests, start, 1);
        (0..1_500).for_each(|_| requests.note_packet(1_000, false));
        requests.want(KeyframeNeed::Repair);
        assert!(sent(&mut requests, start, 6_000, 1_000).is_empty());
    }

    #[test]
    fn a_burst_of_keyframes_counts_for_a_limited_time() {
        let mut share = KeyframeShare::new(10);
        for _ in 0..100_000 {
            share.begin_keyframe();
            share.note(1_000, true);
        }
        assert!(!share.allows());
        (0..3_000_000).for_each(|_| share.note(1_000, false));
        assert!(share.allows());
    }
}
