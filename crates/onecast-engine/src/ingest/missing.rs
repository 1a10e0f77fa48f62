//! Which packets are missing and when to ask for them again (RFC 4585).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The missing packets of one source, in order.
#[derive(Debug, Default)]
pub(super) struct Missing {
    entries: VecDeque<Entry>,
    /// Never later than the earliest `due`.
    deadline: Option<Instant>,
    /// From a first request to the packet, lately.
    round_trip: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    extended: u64,
    seen: Instant,
    due: Instant,
    /// When it was asked for first.
    asked: Option<Instant>,
    tries: u8,
}

impl Missing {
    /// Notes a gap above everything seen before. The oldest are forgotten when there are too many; returns how many were.
    pub(super) fn note_gap(&mut self, gap: Range<u64>, now: Instant) -> usize {
        let newest = gap.end.saturating_sub(MISSING_MAX as u64).max(gap.start)..gap.end;
        let skipped = (newest.start - gap.start) as usize;
        let due = now + FIRST_WAIT;
        for extended in newest {
            self.entries.push_back(Entry {
                extended,
                seen: now,
                due,
                asked: None,
                tries: 0,
            });
        }
        let excess = self.entries.len().saturating_sub(MISSING_MAX);
        self.entries.drain(..excess);
        self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
        skipped + excess
    }

    /// Notes that a packet came after all. True when it had been asked for.
    pub(super) fn arrived(&mut self, now: Instant, extended: u64) -> bool {
        let found = self.entries.binary_search_by_key(&extended, |entry| entry.extended);
        let entry = found.ok().and_then(|at| self.entries.remove(at));
        if self.entries.is_empty() {
            self.deadline = None;
        }
        let asked = entry.and_then(|entry| entry.asked);
        if let Some(asked) = asked {
            self.note_round_trip(now.saturating_duration_since(asked));
        }
        asked.is_some()
    }

    /// A request that was lost itself makes it look longer, so that it grows slowly and shrinks at once.
    fn note_round_trip(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(known) if sample > known => known + (sample - known) / 8,
            _ => sample,
        });
    }

    /// Fills `due` with at most `limit` sequence numbers to ask for now, in order. What was asked for in vain is given up.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize, due: &mut Vec<u16>) {
        due.clear();
        if limit == 0 || self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let horizon = now + GATHER;
        let round_trip = self.round_trip.unwrap_or(Duration::ZERO).min(ROUND_TRIP_MAX);
        let wait_min = round_trip + round_trip / 4;
        // So many take their time on the way: asked for again sooner they would only be more.
        let crowd = 1 + (self.entries.len() / CROWD) as u32;
        self.entries.retain_mut(|entry| {
            if entry.due > horizon || due.len() >= limit {
                return true;
            }
            let wait = WAITS
                .get(usize::from(entry.tries))
                .filter(|_| now < entry.seen + GIVE_UP);
            let Some(&wait_ms) = wait else {
                return false;
            };
            entry.tries += 1;
            entry.asked = entry.asked.or(Some(now));
            entry.due = now + wait_min.max(Duration::from_millis(wait_ms) * crowd);
            due.push(entry.extended as u16);
            true
        });
        self.deadline = self.entries.iter().map(|entry| entry.due).min();
    }

    /// When [`Missing::take_due`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Forgets everything: the source is gone.
    pub(super) fn clear(&mut self) {
        *self = Missing {
            round_trip: self.round_trip,
            ..Missing::default()
        };
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Packets waited for at a time: at 1,200 bytes about a second of 10 Mbit/s. With more missing, only a keyframe helps.
const MISSING_MAX: usize = 1_000;
/// Time for a packet that was only overtaken: senders spread a frame over several milliseconds, networks reorder by less.
const FIRST_WAIT: Duration = Duration::from_millis(15);
/// How long to wait after each request, growing since the round trip may be longer; their number is the limit of tries.
const WAITS: [u64; 10] = [40, 60, 90, 135, 200, 200, 200, 200, 200, 200];
/// No viewer's jitter buffer waits longer than this.
const GIVE_UP: Duration = Duration::from_secs(1);
/// A longer round trip leaves no time for a second request.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Missing packets that are no crowd: 100 ms of 10 Mbit/s.
const CROWD: usize = 100;
/// Requests due this much later go out together with those due now.
const GATHER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn due(missing: &mut Missing, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        missing.take_due(now, usize::MAX, &mut due);
        due
    }

    #[test]
    fn an_overtaken_packet_is_never_asked_for() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        missing.note_gap(70_000..70_001, t0);
        assert!(due(&mut missing, t0 + Duration::from_millis(14)).is_empty());
        assert!(!missing.arrived(t0 + Duration::from_millis(14), 70_000));
        assert_eq!(missing.deadline(), None);
    }

    /// When a packet is asked for that never comes, milliseconds after it was missed.
    fn asked(missing: &mut Missing, extended: u64, t0: Instant) -> Vec<u128> {
        missing.note_gap(extended..extended + 1, t0);
        let mut asked = Vec::new();
        while let Some(deadline) = missing.deadline() {
            if !due(missing, deadline).is_empty() {
                asked.push((deadline - t0).as_millis());
            }
        }
        asked
    }

    #[test]
    fn what_is_on_its_way_is_not_asked_for_again() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        for number in 0..20u32 {
            let at = t0 + Duration::from_secs(1) * number;
            let extended = u64::from(number);
            missing.note_gap(extended..extended + 1, at);
            let mut asked = 0;
            while let Some(deadline) = missing
                .deadline()
                .filter(|at_last| *at_last < at + Duration::from_millis(215))
            {
                asked += due(&mut missing, deadline).len();
            }
            assert_eq!(asked, if number == 0 { 4 } else { 1 });
            // A round trip of 200 ms after the first request.
            assert!(missing.arrived(at + Duration::from_millis(215), extended));
        }
        assert_eq!(
            asked(&mut missing, 100, t0 + Duration::from_secs(30)),
            [15, 265, 515, 765]
        );
    }

    #[test]
    fn a_crowd_is_asked_for_less_often() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        missing.note_gap(70_000..70_900, t0);
        let mut rounds = Vec::new();
        while let Some(deadline) = missing.deadline() {
            if !due(&mut missing, deadline).is_empty() {
                rounds.push((deadline - t0).as_millis());
            }
        }
        assert_eq!(rounds, [15, 415]);
    }

    #[test]
    fn requests_are_repeated_ever_slower_and_then_given_up() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        missing.note_gap(65_536..65_538, t0);
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
    fn a_repaired_packet_is_not_asked_for_again() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        missing.note_gap(65_536..65_538, t0);
        assert_eq!(due(&mut missing, t0 + FIRST_WAIT), [0, 1]);
        assert!(missing.arrived(t0 + Duration::from_millis(55), 65_536));
        assert_eq!(due(&mut missing, t0 + Duration::from_millis(55)), [1]);
    }

    #[test]
    fn what_does_not_fit_stays_due() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        missing.note_gap(65_536..65_546, t0);
        let mut first = Vec::new();
        missing.take_due(t0 + FIRST_WAIT, 4, &mut first);
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(due(&mut missing, t0 + FIRST_WAIT), [4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let t0 = onecast_udp::clock::now();
        let mut missing = Missing::default();
        assert_eq!(missing.note_gap(70_000..70_900, t0), 0);
        assert_eq!(missing.note_gap(71_000..73_000, t0), 1_000 + 900);
        assert_eq!(missing.len(), MISSING_MAX);
        missing.arrived(t0, 72_999);
        assert_eq!(missing.len(), MISSING_MAX - 1);
    }
}
