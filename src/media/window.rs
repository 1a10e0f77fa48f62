//! The window: the last packets of a track by extended sequence number, and where in them a new viewer starts.
//!
//! It decides, once for all viewers of a shard, which packet stands for a number: a second packet with a number already taken, or
//! one that has left the window, is refused. Sealing only what the window holds is what keeps a key from sealing one index
//! twice with different contents.
//!
//! It holds everything since the newest keyframe, so that a viewer can start there: it grows for that, within its bounds, and
//! shrinks again.

use std::sync::Arc;

use super::Packet;
use super::gop::Gop;

/// A ring of the newest packets.
#[derive(Debug)]
pub struct Window {
    slots: Box<[Option<Slot>]>,
    bounds: WindowBounds,
    newest: Option<u64>,
    /// The highest number of a packet that had to make way: this and what is older is refused for good, however much the window grows.
    left: Option<u64>,
    gop: Gop,
}

/// How much a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowBounds {
    /// Packets that it holds in any case (a power of two).
    pub packets: usize,
    /// What it may hold more, so that viewers can start at once.
    pub cache: CacheBounds,
}

/// How much a new viewer may be sent of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Bytes since the newest keyframe; 0 turns the cache off: viewers wait for the next keyframe.
    pub bytes: usize,
    /// Pixels of all pictures since the newest keyframe: what a viewer has to decode before it is level with the others.
    pub pixels: u64,
}

/// One packet, and how it goes out.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The packet.
    pub packet: Arc<Packet>,
    /// It is decided how it goes out; only then may it be sent from the window.
    pub settled: bool,
    /// It goes out with one byte of RTP padding, whenever it does.
    pub padded: bool,
}

/// What became of an offered packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// It is in.
    Taken,
    /// Its number is taken: a duplicate.
    Duplicate,
    /// It is older than the window.
    TooOld,
}

/// Where a new viewer starts.
#[derive(Debug, Clone)]
pub enum Start {
    /// At this packet.
    At(StartPoint),
    /// Nowhere yet: a packet is missing since the newest keyframe, which may still come.
    Gap,
    /// At the next keyframe: none was seen, or too much came after it.
    NextKeyframe,
}

/// The first packet of the newest keyframe.
#[derive(Debug, Clone)]
pub struct StartPoint {
    /// Its number.
    pub index: u64,
    /// Parameter sets to be sent in front of it.
    pub parameter_sets: Option<Arc<Packet>>,
    /// Pictures since then, the keyframe included.
    pub frames: u32,
}

/// The packets since the newest keyframe, for the window of a shard that has had no viewer before.
#[derive(Debug, Clone, Default)]
pub struct Past {
    packets: Vec<Arc<Packet>>,
    parameter_sets: Option<Arc<Packet>>,
}

impl Past {
    /// Its packets, the keyframe's first.
    pub fn packets(&self) -> &[Arc<Packet>] {
        &self.packets
    }
}

impl CacheBounds {
    /// Nothing of the past.
    pub const OFF: CacheBounds = CacheBounds { bytes: 0, pixels: 0 };
}

impl Window {
    /// Packets that a window never holds more of: a quarter of what sequence numbers can tell apart.
    const PACKETS_MAX: usize = 16_384;

    /// An empty window. Memory is taken with the first packet.
    pub fn new(bounds: WindowBounds) -> Window {
        assert!(bounds.packets.is_power_of_two(), "a power of two makes the slot a mask");
        Window {
            slots: Box::default(),
            bounds,
            newest: None,
            left: None,
            gop: Gop::default(),
        }
    }

    /// Offers a packet. How it goes out is left open.
    pub fn insert(&mut self, packet: Arc<Packet>) -> Insert {
        if self.slots.is_empty() {
            self.slots = vec![None; self.bounds.packets].into_boxed_slice();
        }
        let index = packet.index;
        self.make_room(index);
        let newest = self.newest.unwrap_or(index).max(index);
        if newest - index >= self.slots.len() as u64 || self.left >= Some(index) {
            return Insert::TooOld;
        }
        let at = self.slot(index);
        if let Some(slot) = &self.slots[at]
            && slot.packet.index >= index
        {
            return if slot.packet.index == index {
                Insert::Duplicate
            } else {
                Insert::TooOld
            };
        }
        self.newest = Some(newest);
        let former = self.slots[at].replace(Slot {
            packet: packet.clone(),
            settled: false,
            padded: false,
        });
        self.left = self.left.max(former.map(|slot| slot.packet.index));
        if self.gop.note(&packet) {
            self.begin_gop();
        }
        self.give_up_gop();
        Insert::Taken
    }

    /// Takes what was before this window began. Those packets go out without padding.
    pub fn insert_past(&mut self, past: Past) {
        if let (Some(first), Some(last)) = (past.packets.first(), past.packets.last()) {
            let newest = self.newest.unwrap_or(last.index).max(last.index);
            let needed = ((newest - first.index + 1) as usize).next_power_of_two();
            if needed > self.slots.len().max(self.bounds.packets) && needed <= Window::PACKETS_MAX {
                self.resize(needed);
            }
        }
        for packet in past.packets {
            let index = packet.index;
            if self.insert(packet) == Insert::Taken {
                self.settle(index, false);
            }
        }
        self.recount();
        self.gop.adopt_parameter_sets(past.parameter_sets);
    }

    /// Everything that has come since the newest keyframe; empty when a viewer could not start there.
    pub fn past(&self) -> Past {
        let (Some(start), Some(newest)) = (self.gop.start(), self.newest) else {
            return Past::default();
        };
        if matches!(self.start(), Start::NextKeyframe) {
            return Past::default();
        }
        let packets = (start..=newest).filter_map(|index| Some(self.get(index)?.packet.clone()));
        Past {
            packets: packets.collect(),
            parameter_sets: self.gop.parameter_sets(),
        }
    }

    /// The packet with this number, if the window still holds it.
    pub fn get(&self, index: u64) -> Option<&Slot> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots
            .get(self.slot(index))?
            .as_ref()
            .filter(|slot| slot.packet.index == index)
    }

    /// Decides how the packet goes out, whenever it does.
    pub fn settle(&mut self, index: u64, padded: bool) {
        if self.slots.is_empty() {
            return;
        }
        let at = self.slot(index);
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut)
            && slot.packet.index == index
        {
            slot.settled = true;
            slot.padded = padded;
        }
    }

    /// The number is older than everything that the window can hold, or than something that it held.
    pub fn has_left(&self, index: u64) -> bool {
        let beyond = |newest: u64| newest.saturating_sub(index) >= self.slots.len() as u64;
        self.left >= Some(index) || self.newest.is_some_and(beyond)
    }

    /// The highest number seen.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Where a new viewer starts now. A keyframe that nothing follows yet is a start whatever the bounds are.
    pub fn start(&self) -> Start {
        let (Some(start), Some(newest)) = (self.gop.start(), self.newest) else {
            return Start::NextKeyframe;
        };
        let span = newest - start + 1;
        if !self.gop.is_fresh() && !self.gop.is_within(&self.bounds.cache) || span > self.slots.len() as u64 {
            return Start::NextKeyframe;
        }
        if self.gop.packets() < span {
            return Start::Gap;
        }
        Start::At(StartPoint {
            index: start,
            parameter_sets: self.gop.parameter_sets(),
            frames: self.gop.frames(),
        })
    }

    /// What came since the newest keyframe.
    pub fn gop(&self) -> &Gop {
        &self.gop
    }

    /// The source ended: what comes next has nothing to do with what was.
    pub fn end_source(&mut self) {
        self.gop = Gop::default();
    }

    /// Grows for a packet that would push the newest keyframe out, as long as a viewer could still start there.
    fn make_room(&mut self, index: u64) {
        let Some(start) = self.gop.start() else { return };
        let needed = index.saturating_sub(start) + 1;
        let may_grow = needed <= Window::PACKETS_MAX as u64 && self.gop.is_within(&self.bounds.cache);
        if needed > self.slots.len() as u64 && may_grow {
            self.resize(needed.next_power_of_two() as usize);
        }
    }

    /// Gives room back that is of no use: long past the bounds, no viewer starts at this keyframe, and none is on its way from it.
    fn give_up_gop(&mut self) {
        let is_long_past = self.gop.bytes() / 2 > self.bounds.cache.bytes;
        if is_long_past && self.slots.len() > self.bounds.packets {
            self.resize(self.bounds.packets);
        }
    }

    /// A new keyframe: it and what already came behind it is counted, and room that the last group of pictures needed is given back
    /// when this was much more than is needed now.
    fn begin_gop(&mut self) {
        let (Some(start), Some(newest)) = (self.gop.start(), self.newest) else {
            return;
        };
        let before = self.gop.previous_packets().max(self.bounds.packets as u64) as usize;
        if self.slots.len() > 2 * before.next_power_of_two() && newest - start < self.slots.len() as u64 / 2 {
            self.resize(self.slots.len() / 2);
        }
        self.recount();
    }

    /// Counts the group of pictures from its start: packet by packet, pictures can only be told apart in their order.
    fn recount(&mut self) {
        let (Some(start), Some(newest)) = (self.gop.start(), self.newest) else {
            return;
        };
        let mut gop = std::mem::take(&mut self.gop);
        gop.forget_counts();
        for index in start..=newest {
            if let Some(slot) = self.get(index) {
                gop.count(&slot.packet);
            }
        }
        self.gop = gop;
    }

    fn resize(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.slots, vec![None; len].into_boxed_slice());
        let oldest = self.newest.unwrap_or(0).saturating_sub(len as u64 - 1);
        for slot in old.into_iter().flatten() {
            let index = slot.packet.index;
            if index < oldest {
                self.left = self.left.max(Some(index));
            } else {
                let at = self.slot(index);
                self.slots[at] = Some(slot);
            }
        }
    }

    fn slot(&self, index: u64) -> usize {
        (index as usize) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    fn window(packets: usize) -> Window {
        Window::new(WindowBounds {
            packets,
            cache: CacheBounds::OFF,
        })
    }

    fn caching(packets: usize, bytes: usize, frames: u64) -> Window {
        let pixels = frames * Gop::PIXELS_DEFAULT;
        Window::new(WindowBounds {
            packets,
            cache: CacheBounds { bytes, pixels },
        })
    }

    /// A keyframe at `first` and `frames` more, a packet each.
    fn fill(window: &mut Window, first: u64, frames: u64) {
        for index in first..=first + frames {
            let packet = packet(index).timestamp(index as u32 * 3_000).marker();
            let packet = if index == first { packet.keyframe() } else { packet };
            assert_eq!(window.insert(packet.build()), Insert::Taken);
        }
    }

    fn start(window: &Window) -> Option<u64> {
        match window.start() {
            Start::At(start) => Some(start.index),
            _ => None,
        }
    }

    #[test]
    fn a_number_stands_for_one_packet_only() {
        let mut window = window(8);
        assert_eq!(window.insert(packet(5).build()), Insert::Taken);
        assert_eq!(window.insert(packet(5).payload(b"other").build()), Insert::Duplicate);
        assert_ne!(
            window.get(5).map(|slot| slot.packet.payload.to_vec()),
            Some(b"other".to_vec())
        );
    }

    #[test]
    fn what_left_the_window_is_refused_for_good() {
        let mut window = window(8);
        for index in 100..109 {
            assert_eq!(window.insert(packet(index).build()), Insert::Taken);
        }
        assert!(window.get(100).is_none());
        assert_eq!(window.insert(packet(100).build()), Insert::TooOld);
        assert_eq!(window.insert(packet(50).build()), Insert::TooOld);
    }

    #[test]
    fn late_packets_find_their_place_and_a_jump_keeps_order() {
        let mut window = window(8);
        window.insert(packet(10).build());
        window.insert(packet(12).build());
        assert_eq!(window.insert(packet(11).build()), Insert::Taken);
        assert_eq!(window.newest(), Some(12));
        assert_eq!(window.insert(packet(1_000).build()), Insert::Taken);
        assert_eq!(window.insert(packet(12).build()), Insert::TooOld);
        assert_eq!(window.insert(packet(995).build()), Insert::Taken);
    }

    #[test]
    fn it_grows_to_hold_everything_since_the_keyframe_and_shrinks_again() {
        let mut window = caching(8, 1 << 20, 1_000);
        fill(&mut window, 100, 300);
        assert_eq!(start(&window), Some(100));
        assert!((100..=400).all(|index| window.get(index).is_some()));
        assert_eq!(window.slots.len(), 512);
        for keyframe in 0..12 {
            fill(&mut window, 401 + 5 * keyframe, 4);
        }
        assert_eq!(start(&window), Some(456));
        assert!(window.slots.len() <= 32, "{}", window.slots.len());
    }

    #[test]
    fn beyond_the_bounds_a_viewer_starts_at_the_next_keyframe() {
        for (bytes, frames) in [(2_000, 1_000), (1 << 20, 20)] {
            let mut window = caching(8, bytes, frames);
            fill(&mut window, 100, 10);
            assert_eq!(start(&window), Some(100));
            fill(&mut window, 111, 40);
            assert!(matches!(window.start(), Start::NextKeyframe), "{bytes} {frames}");
            assert!(window.slots.len() <= 32, "{}", window.slots.len());
            fill(&mut window, 152, 3);
            assert_eq!(start(&window), Some(152));
        }
    }

    #[test]
    fn without_a_cache_only_the_keyframe_itself_is_a_start() {
        let mut window = window(8);
        assert!(matches!(window.start(), Start::NextKeyframe));
        window.insert(packet(1).timestamp(5).keyframe().build());
        window.insert(packet(2).timestamp(5).marker().build());
        assert_eq!(start(&window), Some(1));
        window.insert(packet(3).timestamp(6).marker().build());
        assert!(matches!(window.start(), Start::NextKeyframe));
    }

    #[test]
    fn a_gap_since_the_keyframe_is_waited_for() {
        let mut window = caching(8, 1 << 20, 100);
        window.insert(packet(1).timestamp(5).keyframe().build());
        window.insert(packet(3).timestamp(7).build());
        assert!(matches!(window.start(), Start::Gap));
        window.insert(packet(2).timestamp(6).build());
        assert_eq!(start(&window), Some(1));
    }

    #[test]
    fn a_new_window_takes_over_the_past_of_another() {
        let mut old = caching(8, 1 << 20, 100);
        fill(&mut old, 100, 20);
        let mut window = caching(8, 1 << 20, 100);
        // One packet came by itself before.
        window.insert(old.get(120).unwrap().packet.clone());
        window.insert_past(old.past());
        assert_eq!(start(&window), Some(100));
        assert!(window.get(119).unwrap().settled && !window.get(120).unwrap().settled);
        old.end_source();
        window.insert_past(old.past());
        assert!(old.past().packets.is_empty());
        // What is missing at this moment comes by itself.
        let mut old = caching(8, 1 << 20, 100);
        fill(&mut old, 200, 5);
        old.insert(packet(207).timestamp(207 * 3_000).build());
        let mut window = caching(8, 1 << 20, 100);
        window.insert_past(old.past());
        assert!(matches!(window.start(), Start::Gap));
        window.insert(packet(206).timestamp(206 * 3_000).build());
        assert_eq!(start(&window), Some(200));
    }

    #[test]
    fn a_burst_that_is_lost_soon_after_the_keyframe_does_not_push_it_out() {
        let mut window = caching(8, 1 << 20, 1_000);
        fill(&mut window, 100, 5);
        for index in (200..210).chain(106..200) {
            let late = packet(index).timestamp(index as u32 * 3_000).marker().build();
            assert_eq!(window.insert(late), Insert::Taken, "{index}");
        }
        assert_eq!(start(&window), Some(100));
    }

    #[test]
    fn pictures_are_counted_once_in_whatever_order_their_packets_come() {
        let frame = |index: u64| packet(index).timestamp(index as u32 / 4).build();
        let mut window = caching(8, 1 << 20, 1_000);
        window.insert(packet(100).timestamp(25).keyframe().build());
        // The last packet of each frame comes behind the first of the next.
        for index in 101..=500 {
            let overtaken = match index % 4 {
                3 => index + 1,
                0 => index - 1,
                _ => index,
            };
            window.insert(frame(overtaken));
        }
        assert_eq!(window.gop().frames(), 101);
        // And when the newest was here before all the others.
        let mut later = caching(8, 1 << 20, 1_000);
        later.insert(frame(500));
        later.insert_past(window.past());
        assert_eq!((later.gop().frames(), later.gop().packets()), (101, 401));
        assert_eq!(later.gop().bytes(), window.gop().bytes());
    }

    #[test]
    fn what_no_viewer_can_start_with_is_not_kept() {
        let mut window = caching(8, 100_000, 1_000_000);
        fill(&mut window, 100, 900);
        assert_eq!(window.slots.len(), 1_024);
        for index in 1_001..5_000 {
            window.insert(packet(index).timestamp(index as u32).payload(&[0; 1_000]).build());
        }
        let kept: usize = window
            .slots
            .iter()
            .flatten()
            .map(|slot| slot.packet.payload.len())
            .sum();
        assert!(kept <= 200_000, "{kept} bytes");
    }

    #[test]
    fn what_has_left_is_refused_after_growth_too() {
        let mut window = caching(8, 1 << 20, 1_000);
        for index in 92..100 {
            assert_eq!(window.insert(packet(index).build()), Insert::Taken);
        }
        fill(&mut window, 100, 8);
        assert!(window.slots.len() > 8 && window.get(100).is_some());
        assert_eq!(window.insert(packet(99).build()), Insert::TooOld);
        assert_eq!(window.insert(packet(101).build()), Insert::Duplicate);
    }

    #[test]
    fn any_order_of_inserts_keeps_the_promise() {
        any_order_of_inserts(window(16), 0);
        for keyframes in [20, 100, 1_000] {
            any_order_of_inserts(caching(16, 1 << 20, 1_000), keyframes);
        }
    }

    /// One packet in `keyframes` is one.
    fn any_order_of_inserts(mut window: Window, keyframes: u64) {
        // A naive model: every number that was ever taken, with the packet that took it.
        let mut seed = 7u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let mut taken = std::collections::HashMap::new();
        let mut base = 1_000;
        for step in 0..20_000u64 {
            base += u64::from(random() % 3 == 0);
            let index = base + random() % 40 - 30;
            let content = step.to_be_bytes();
            let offered = packet(index).timestamp(index as u32).payload(&content);
            let is_keyframe = keyframes > 0 && random().is_multiple_of(keyframes);
            let offered = if is_keyframe { offered.keyframe() } else { offered };
            if window.insert(offered.build()) == Insert::Taken {
                assert_eq!(taken.insert(index, content), None, "index {index} was given twice");
            }
            if let Some(slot) = window.get(index) {
                assert_eq!(slot.packet.payload[..], taken[&index][..]);
            }
        }
    }
}
