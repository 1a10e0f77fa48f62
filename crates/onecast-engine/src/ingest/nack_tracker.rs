//! Packets that are missing, and when to request them by NACK (RFC 4585).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::SeqIndex;

/// The missing packets of one SSRC, in order.
#[derive(Debug, Default)]
pub(super) struct NackTracker {
    missing: VecDeque<MissingPacket>,
    /// Never later than the earliest `due`.
    deadline: Option<Instant>,
    /// Recent time from a first request to the packet's arrival.
    round_trip: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct MissingPacket {
    extended: SeqIndex,
    missed_at: Instant,
    /// When it is requested next.
    due: Instant,
    first_request: Option<Instant>,
    tries: u8,
}

impl NackTracker {
    /// Notes a gap above everything noted before. Too many missing packets push the oldest out; returns how many those are.
    pub(super) fn note_gap(&mut self, gap: Range<SeqIndex>, now: Instant) -> usize {
        let newest = gap.end.minus(MISSING_MAX as u64).max(gap.start)..gap.end;
        let skipped = newest.start.since(gap.start) as usize;
        let due = now + FIRST_WAIT;
        for extended in newest.start.until(newest.end) {
            self.missing.push_back(MissingPacket {
                extended,
                missed_at: now,
                due,
                first_request: None,
                tries: 0,
            });
        }
        let excess = self.missing.len().saturating_sub(MISSING_MAX);
        self.missing.drain(..excess);
        self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
        skipped + excess
    }

    /// Notes that a missing packet arrived. True if it had been requested.
    pub(super) fn note_arrival(&mut self, now: Instant, extended: SeqIndex) -> bool {
        let found = self.missing.binary_search_by_key(&extended, |packet| packet.extended);
        let packet = found.ok().and_then(|at| self.missing.remove(at));
        if self.missing.is_empty() {
            self.deadline = None;
        }
        let first_request = packet.and_then(|packet| packet.first_request);
        if let Some(first_request) = first_request {
            self.note_round_trip(now.saturating_duration_since(first_request));
        }
        first_request.is_some()
    }

    /// A lost request makes the round trip look longer, so the estimate grows slowly and shrinks at once.
    fn note_round_trip(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(known) if sample > known => known + (sample - known) / 8,
            _ => sample,
        });
    }

    /// Fills `due` with at most `limit` sequence numbers to request now, in order. Gives up packets that were requested in vain.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize, due: &mut Vec<u16>) {
        due.clear();
        if limit == 0 || self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let horizon = now + GATHER;
        let round_trip = self.round_trip.unwrap_or(Duration::ZERO).min(ROUND_TRIP_MAX);
        let wait_min = round_trip + round_trip / 4;
        // Many retransmissions take their time on the way. Requests that do not wait for them would add even more.
        let crowd = 1 + (self.missing.len() / CROWD) as u32;
        self.missing.retain_mut(|packet| {
            if packet.due > horizon || due.len() >= limit {
                return true;
            }
            let wait = WAITS
                .get(usize::from(packet.tries))
                .filter(|_| now < packet.missed_at + GIVE_UP);
            let Some(&wait_ms) = wait else {
                return false;
            };
            packet.tries += 1;
            packet.first_request = packet.first_request.or(Some(now));
            packet.due = now + wait_min.max(Duration::from_millis(wait_ms) * crowd);
            due.push(packet.extended.wire());
            true
        });
        self.deadline = self.missing.iter().map(|packet| packet.due).min();
    }

    /// When [`take_due`](Self::take_due) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Forgets all missing packets: their sender is gone. The round trip belongs to the path and stays.
    pub(super) fn clear(&mut self) {
        *self = NackTracker {
            round_trip: self.round_trip,
            ..NackTracker::default()
        };
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.missing.len()
    }
}

/// Most packets that are waited for at a time: at 1,200 bytes about a second of 10 Mbit/s. With more missing, only a keyframe helps.
const MISSING_MAX: usize = 1_000;
/// Time for a packet that was only overtaken: senders spread a frame over several milliseconds, networks reorder by less.
const FIRST_WAIT: Duration = Duration::from_millis(15);
/// Milliseconds to wait after each request, growing because the round trip may be longer. Their number limits the tries.
const WAITS: [u64; 10] = [40, 60, 90, 135, 200, 200, 200, 200, 200, 200];
/// No viewer's jitter buffer waits longer than this.
const GIVE_UP: Duration = Duration::from_secs(1);
/// A longer round trip leaves no time for a second request.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Every so many missing packets, 100 ms of 10 Mbit/s, lengthen the waits by their first length.
const CROWD: usize = 100;
/// Requests due this much later go out together with those due now.
const GATHER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(numbers: Range<u64>) -> Range<SeqIndex> {
        SeqIndex(numbers.start)..SeqIndex(numbers.end)
    }

    fn due(missing: &mut NackTracker, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        missing.take_due(now, usize::MAX, &mut due);
        due
    }

    #[test]
    fn a_reordered_packet_is_never_requested() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        missing.note_gap(gap(70_000..70_001), t0);
        assert!(due(&mut missing, t0 + Duration::from_millis(14)).is_empty());
        assert!(!missing.note_arrival(t0 + Duration::from_millis(14), SeqIndex(70_000)));
        assert_eq!(missing.deadline(), None);
    }

    /// When a packet that never arrives is requested, in milliseconds after it was missed.
    fn request_times(missing: &mut NackTracker, extended: u64, t0: Instant) -> Vec<u128> {
        missing.note_gap(gap(extended..extended + 1), t0);
        let mut asked = Vec::new();
        while let Some(deadline) = missing.deadline() {
            if !due(missing, deadline).is_empty() {
                asked.push((deadline - t0).as_millis());
            }
        }
        asked
    }

    #[test]
    fn a_packet_on_its_way_is_not_requested_again() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        for number in 0..20u32 {
            let at = t0 + Duration::from_secs(1) * number;
            let extended = u64::from(number);
            missing.note_gap(gap(extended..extended + 1), at);
            let mut asked = 0;
            while let Some(deadline) = missing
                .deadline()
                .filter(|at_last| *at_last < at + Duration::from_millis(215))
            {
                asked += due(&mut missing, deadline).len();
            }
            assert_eq!(asked, if number == 0 { 4 } else { 1 });
            // A round trip of 200 ms after the first request.
            assert!(missing.note_arrival(at + Duration::from_millis(215), SeqIndex(extended)));
        }
        assert_eq!(
            request_times(&mut missing, 100, t0 + Duration::from_secs(30)),
            [15, 265, 515, 765]
        );
    }

    #[test]
    fn many_missing_packets_are_requested_less_often() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        missing.note_gap(gap(70_000..70_900), t0);
        let mut rounds = Vec::new();
        while let Some(deadline) = missing.deadline() {
            if !due(&mut missing, deadline).is_empty() {
                rounds.push((deadline - t0).as_millis());
            }
        }
        assert_eq!(rounds, [15, 415]);
    }

    #[test]
    fn requests_are_repeated_ever_more_slowly_and_then_given_up() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        missing.note_gap(gap(65_536..65_538), t0);
        let mut asked = Vec::new();
        while let Some(deadline) = missing.deadline() {
            if !due(&mut missing, deadline).is_empty() {
                asked.push((deadline - t0).as_millis());
            }
        }
        assert_eq!(asked, [15, 55, 115, 205, 340, 540, 740, 940]);
        assert_eq!(missing.len(), 0);
    }

    #[test]
    fn a_repaired_packet_is_not_requested_again() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        missing.note_gap(gap(65_536..65_538), t0);
        assert_eq!(due(&mut missing, t0 + FIRST_WAIT), [0, 1]);
        assert!(missing.note_arrival(t0 + Duration::from_millis(55), SeqIndex(65_536)));
        assert_eq!(due(&mut missing, t0 + Duration::from_millis(55)), [1]);
    }

    #[test]
    fn numbers_that_do_not_fit_stay_due() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        missing.note_gap(gap(65_536..65_546), t0);
        let mut first = Vec::new();
        missing.take_due(t0 + FIRST_WAIT, 4, &mut first);
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(due(&mut missing, t0 + FIRST_WAIT), [4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn the_tracker_is_bounded_and_keeps_the_newest() {
        let t0 = onecast_udp::clock::now();
        let mut missing = NackTracker::default();
        assert_eq!(missing.note_gap(gap(70_000..70_900), t0), 0);
        assert_eq!(missing.note_gap(gap(71_000..73_000), t0), 1_000 + 900);
        assert_eq!(missing.len(), MISSING_MAX);
        missing.note_arrival(t0, SeqIndex(72_999));
        assert_eq!(missing.len(), MISSING_MAX - 1);
    }
}
