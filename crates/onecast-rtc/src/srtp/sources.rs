//! The synchronisation sources of one client, with the packet indices taken from each, in bounded memory.
//!
//! The [`SOURCES_MAX`] most recent sources have a replay window each. Of a source that is removed to make room, the highest index is kept.
//! If the source comes back, only later packets are taken, so no packet is ever taken twice. These remains are bounded, too: see
//! [`Former`].

use std::collections::HashMap;

use super::replay::ReplayWindow;
use crate::rtp::Ssrc;

/// Sources of RTP or of RTCP, with windows of `64 * WORDS` packets. At least the last `REMEMBERED` removed ones are remembered.
pub(super) struct Sources<const WORDS: usize, const REMEMBERED: usize> {
    present: Vec<Source<WORDS>>,
    former: Option<Box<Former>>,
    /// Packets taken so far, of all sources.
    taken: u64,
}

struct Source<const WORDS: usize> {
    ssrc: Ssrc,
    window: ReplayWindow<WORDS>,
    /// Value of [`Sources::taken`] at its latest packet.
    heard: u64,
    /// Its latest packet did not authenticate.
    is_doubted: bool,
}

/// What is known about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a window, at this index.
    Present(usize),
    /// It was removed to make room. Only packets above this index are taken.
    Former(u64),
    /// None of its packets has been authentic so far, or it was removed too long ago.
    New,
}

impl<const WORDS: usize, const REMEMBERED: usize> Sources<WORDS, REMEMBERED> {
    pub(super) const fn new() -> Self {
        Self {
            present: Vec::new(),
            former: None,
            taken: 0,
        }
    }

    /// What is known about a source.
    pub(super) fn standing(&self, ssrc: Ssrc) -> Standing {
        if let Some(place) = self.present.iter().position(|source| source.ssrc == ssrc) {
            return Standing::Present(place);
        }
        let highest = self.former.as_ref().and_then(|former| former.highest(ssrc));
        highest.map_or(Standing::New, Standing::Former)
    }

    /// The window at an index.
    pub(super) fn window(&self, place: usize) -> &ReplayWindow<WORDS> {
        &self.present[place].window
    }

    /// Whether the latest packet of the source at an index did not authenticate.
    pub(super) fn is_doubted(&self, place: usize) -> bool {
        self.present[place].is_doubted
    }

    /// A packet that claims to be of this source did not authenticate.
    pub(super) fn doubt(&mut self, standing: Standing) {
        if let Standing::Present(place) = standing {
            self.present[place].is_doubted = true;
        }
    }

    /// Whether a packet index has not been taken before, as far as is known.
    pub(super) fn is_fresh(&self, standing: Standing, index: u64) -> bool {
        match standing {
            Standing::Present(place) => self.window(place).is_fresh(index),
            Standing::Former(highest) => index > highest,
            Standing::New => true,
        }
    }

    /// Notes the fresh index of an authentic packet. Only such a packet makes a source known.
    pub(super) fn take(&mut self, ssrc: Ssrc, standing: Standing, index: u64) {
        self.taken += 1;
        let mut window = match standing {
            Standing::Present(place) => {
                let source = &mut self.present[place];
                source.window.accept(index);
                source.heard = self.taken;
                source.is_doubted = false;
                return;
            }
            Standing::Former(highest) => ReplayWindow::after(highest),
            Standing::New => ReplayWindow::starting_at(index),
        };
        window.accept(index);
        self.make_room();
        self.present.reserve_exact(1);
        self.present.push(Source {
            ssrc,
            window,
            heard: self.taken,
            is_doubted: false,
        });
    }

    /// Whether no packet of any source has been authentic so far.
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Removes the source that has been silent for longest, if all places are taken.
    fn make_room(&mut self) {
        if self.present.len() < SOURCES_MAX {
            return;
        }
        let sources = self.present.iter().enumerate();
        let Some((longest_silent, _)) = sources.min_by_key(|(_, source)| source.heard) else {
            return;
        };
        let gone = self.present.swap_remove(longest_silent);
        let former = self.former.get_or_insert_default();
        former.note(gone.ssrc, gone.window.highest(), REMEMBERED);
    }
}

/// The highest indices of removed sources, in two generations: when the newer one is full it becomes the older one, and the former older
/// one is dropped.
///
/// A dropped source counts as new. Its recorded packets could then be replayed once, from the client's own address; but only after the
/// client has used thousands of sources in one session.
#[derive(Default)]
struct Former {
    newer: HashMap<Ssrc, u64>,
    older: HashMap<Ssrc, u64>,
}

impl Former {
    fn highest(&self, ssrc: Ssrc) -> Option<u64> {
        self.newer.get(&ssrc).or_else(|| self.older.get(&ssrc)).copied()
    }

    fn note(&mut self, ssrc: Ssrc, highest: u64, generation: usize) {
        if self.newer.len() >= generation {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(ssrc, highest);
    }
}

/// Sources of RTP, or of RTCP, that have a window at the same time: three simulcast layers, their RTX and audio are seven; a member of a
/// room may send eight streams without simulcast, which are 24.
pub const SOURCES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Sources<1, 8>;

    fn take(sources: &mut Small, ssrc: u32, index: u64) -> bool {
        let ssrc = Ssrc(ssrc);
        let standing = sources.standing(ssrc);
        let fresh = sources.is_fresh(standing, index);
        if fresh {
            sources.take(ssrc, standing, index);
        }
        fresh
    }

    #[test]
    fn the_source_that_was_silent_for_longest_makes_room() {
        let mut sources = Small::new();
        for ssrc in 0..SOURCES_MAX as u32 {
            assert!(take(&mut sources, ssrc, 10));
        }
        assert!(take(&mut sources, 0, 11));
        assert!(take(&mut sources, 100, 5));
        assert_eq!(sources.present.len(), SOURCES_MAX);
        assert_eq!(sources.standing(Ssrc(1)), Standing::Former(10));
        assert!(matches!(sources.standing(Ssrc(0)), Standing::Present(_)));
    }

    #[test]
    fn a_source_that_comes_back_continues_behind_its_highest_index_without_replays() {
        let mut sources = Small::new();
        assert!(take(&mut sources, 7, 70_000) && take(&mut sources, 7, 70_002));
        (100..100 + SOURCES_MAX as u32).for_each(|ssrc| assert!(take(&mut sources, ssrc, 1)));
        assert_eq!(sources.standing(Ssrc(7)), Standing::Former(70_002));
        for index in [1, 70_000, 70_001, 70_002] {
            assert!(!take(&mut sources, 7, index), "{index}");
        }
        assert!(take(&mut sources, 7, 70_005));
        assert!(!take(&mut sources, 7, 70_002), "also with a window of its own again");
        assert!(take(&mut sources, 7, 70_004), "overtaken since it came back");
        assert!(!take(&mut sources, 7, 70_004) && !take(&mut sources, 7, 70_005));
    }

    #[test]
    fn memory_of_former_sources_is_bounded_and_keeps_the_newest() {
        let mut sources = Small::new();
        for ssrc in 0..10_000 {
            assert!(take(&mut sources, ssrc, 1));
            let former = sources.former.as_ref();
            let remembered = former.map_or(0, |former| former.newer.len() + former.older.len());
            assert!(remembered <= 2 * 8 && sources.present.len() <= SOURCES_MAX);
        }
        let gone = 10_000 - SOURCES_MAX as u32;
        assert!((gone - 8..gone).all(|ssrc| sources.standing(Ssrc(ssrc)) == Standing::Former(1)));
        assert_eq!(sources.standing(Ssrc(0)), Standing::New);
    }
}
