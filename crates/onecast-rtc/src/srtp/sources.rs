//! The synchronisation sources of one client, and which packet indices were taken from each: in bounded memory, however many sources
//! the client uses one after the other.
//!
//! The [`SOURCES_MAX`] sources heard last have a replay window each. A source that makes room leaves its highest index behind. Should it
//! come back, only later packets are taken, so no packet is ever taken twice. What is left behind is bounded, too: see [`Former`].

use std::collections::HashMap;

use super::replay::ReplayWindow;

/// Sources of one kind (RTP, RTCP), with windows of `64 * WORDS` packets. At least the last `REMEMBERED` that made room are remembered.
pub(super) struct Sources<const WORDS: usize, const REMEMBERED: usize> {
    present: Vec<Source<WORDS>>,
    former: Option<Box<Former>>,
    /// Packets taken so far, of all sources.
    taken: u64,
}

struct Source<const WORDS: usize> {
    ssrc: u32,
    window: ReplayWindow<WORDS>,
    /// Value of [`Sources::taken`] at its newest packet.
    heard: u64,
    /// Its newest packet did not authenticate.
    is_doubted: bool,
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a window, at this place.
    Present(usize),
    /// It made room for another source. Its packets count from above this index.
    Former(u64),
    /// No packet of it was authentic so far, or it made room too long ago.
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

    /// What is known of a source.
    pub(super) fn standing(&self, ssrc: u32) -> Standing {
        if let Some(place) = self.present.iter().position(|source| source.ssrc == ssrc) {
            return Standing::Present(place);
        }
        let highest = self.former.as_ref().and_then(|former| former.highest(ssrc));
        highest.map_or(Standing::New, Standing::Former)
    }

    /// The window at a place.
    pub(super) fn window(&self, place: usize) -> &ReplayWindow<WORDS> {
        &self.present[place].window
    }

    /// Whether the newest packet of the source at a place did not authenticate.
    pub(super) fn is_doubted(&self, place: usize) -> bool {
        self.present[place].is_doubted
    }

    /// A packet that claims to be of this source did not authenticate.
    pub(super) fn doubt(&mut self, standing: Standing) {
        if let Standing::Present(place) = standing {
            self.present[place].is_doubted = true;
        }
    }

    /// Whether an index was not taken before, as far as can be told.
    pub(super) fn is_fresh(&self, standing: Standing, index: u64) -> bool {
        match standing {
            Standing::Present(place) => self.window(place).is_fresh(index),
            Standing::Former(highest) => index > highest,
            Standing::New => true,
        }
    }

    /// Remembers the fresh index of an authentic packet. Only such a packet makes a source known.
    pub(super) fn take(&mut self, ssrc: u32, standing: Standing, index: u64) {
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

    /// No packet of any source was authentic so far.
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// The source that was silent for longest makes room.
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

/// The highest indices of sources that made room, in two generations: when the newer one is full it becomes the older one, and what was
/// the older one is forgotten.
///
/// A forgotten source counts as new. Its recorded packets could then be replayed from the client's own address, once: a client must use
/// thousands of sources in one session before that is possible.
#[derive(Default)]
struct Former {
    newer: HashMap<u32, u64>,
    older: HashMap<u32, u64>,
}

impl Former {
    fn highest(&self, ssrc: u32) -> Option<u64> {
        self.newer.get(&ssrc).or_else(|| self.older.get(&ssrc)).copied()
    }

    fn note(&mut self, ssrc: u32, highest: u64, generation: usize) {
        if self.newer.len() >= generation {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(ssrc, highest);
    }
}

/// Sources of a kind (RTP, RTCP) that have a window at the same time: three simulcast layers, their RTX and audio are seven; a member of
/// a room may send eight such streams without simulcast, which are 24.
pub const SOURCES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Sources<1, 8>;

    fn take(sources: &mut Small, ssrc: u32, index: u64) -> bool {
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
        assert_eq!(sources.standing(1), Standing::Former(10));
        assert!(matches!(sources.standing(0), Standing::Present(_)));
    }

    #[test]
    fn a_source_that_comes_back_goes_on_behind_its_highest_index_and_nothing_is_taken_twice() {
        let mut sources = Small::new();
        assert!(take(&mut sources, 7, 70_000) && take(&mut sources, 7, 70_002));
        (100..100 + SOURCES_MAX as u32).for_each(|ssrc| assert!(take(&mut sources, ssrc, 1)));
        assert_eq!(sources.standing(7), Standing::Former(70_002));
        for index in [1, 70_000, 70_001, 70_002] {
            assert!(!take(&mut sources, 7, index), "{index}");
        }
        assert!(take(&mut sources, 7, 70_005));
        assert!(!take(&mut sources, 7, 70_002), "also with a window of its own again");
        assert!(take(&mut sources, 7, 70_004), "overtaken since it came back");
        assert!(!take(&mut sources, 7, 70_004) && !take(&mut sources, 7, 70_005));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let mut sources = Small::new();
        for ssrc in 0..10_000 {
            assert!(take(&mut sources, ssrc, 1));
            let former = sources.former.as_ref();
            let remembered = former.map_or(0, |former| former.newer.len() + former.older.len());
            assert!(remembered <= 2 * 8 && sources.present.len() <= SOURCES_MAX);
        }
        let gone = 10_000 - SOURCES_MAX as u32;
        assert!((gone - 8..gone).all(|ssrc| sources.standing(ssrc) == Standing::Former(1)));
        assert_eq!(sources.standing(0), Standing::New);
    }
}
