//! Which packets are missing, and when to ask for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The missing packets of one source, by extended sequence number.
#[derive(Debug, Default)]
pub(super) struct Missing {
    packets: BTreeMap<u64, Wanted>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    ask_at: Instant,
    asked: u32,
}

impl Missing {
    /// Packets that may be missing at once: at 2.5 Mbit/s two seconds' worth; after a longer gap a keyframe is cheaper.
    const PACKETS_MAX: usize = 512;
    /// Packets that are only late (reordered) arrive within this.
    const REORDER: Duration = Duration::from_millis(10);
    /// Until the second request; it doubles from one to the next, up to [`Missing::INTERVAL_MAX`].
    const INTERVAL: Duration = Duration::from_millis(30);
    const INTERVAL_MAX: Duration = Duration::from_millis(240);
    /// Requests for one packet: after about 1.2 s a player has given the frame up.
    const REQUESTS_MAX: u32 = 8;

    /// `from..to` did not come. False when that is too much to ask for; then nothing is missing any more.
    pub(super) fn note_gap(&mut self, now: Instant, from: u64, to: u64) -> bool {
        if (to - from) as usize + self.packets.len() > Missing::PACKETS_MAX {
            self.packets.clear();
            return false;
        }
        let wanted = Wanted {
            ask_at: now + Missing::REORDER,
            asked: 0,
        };
        self.packets.extend((from..to).map(|index| (index, wanted)));
        true
    }

    /// The packet came. True if it was missing.
    pub(super) fn arrived(&mut self, index: u64) -> bool {
        !self.packets.is_empty() && self.packets.remove(&index).is_some()
    }

    /// The packets to ask for now, ascending, and gives up on those that were asked for often enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        self.packets
            .retain(|_, wanted| wanted.ask_at > now || wanted.asked < Missing::REQUESTS_MAX);
        let due = self.packets.iter_mut().filter(|(_, wanted)| wanted.ask_at <= now);
        due.map(|(&index, wanted)| {
            wanted.ask_at = now + (Missing::INTERVAL * (1 << wanted.asked.min(3))).min(Missing::INTERVAL_MAX);
            wanted.asked += 1;
            index
        })
        .collect()
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.packets.values().map(|wanted| wanted.ask_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_packet_is_asked_for_with_growing_intervals_and_then_given_up() {
        let start = crate::clock::now();
        let mut missing = Missing::default();
        assert!(missing.note_gap(start, 5, 7));
        assert!(missing.due(start).is_empty(), "it may only be late");
        assert!(missing.arrived(5));
        let mut asked = Vec::new();
        while let Some(at) = missing.next_at() {
            if !missing.due(at).is_empty() {
                asked.push((at - start).as_millis());
            }
        }
        assert_eq!(asked, [10, 40, 100, 220, 460, 700, 940, 1_180]);
        assert!(!missing.arrived(6));
    }

    #[test]
    fn a_gap_that_is_too_long_is_not_asked_for() {
        let now = crate::clock::now();
        let mut missing = Missing::default();
        assert!(missing.note_gap(now, 0, 500));
        assert!(!missing.note_gap(now, 600, 700));
        assert_eq!(missing.next_at(), None);
    }
}
