//! The window: the last packets of a track by extended sequence number.
//!
//! It decides, once for all viewers of a shard, which packet stands for a number: a second packet with a number already taken, or
//! one that has left the window, is refused. Sealing only what the window holds is what keeps a key from sealing one index
//! twice with different contents.

use std::sync::Arc;

use super::Packet;

/// A ring of the newest packets.
#[derive(Debug)]
pub struct Window {
    slots: Box<[Option<Slot>]>,
    capacity: usize,
    newest: Option<u64>,
    newest_keyframe: Option<u64>,
}

/// One packet, and how it went out.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The packet.
    pub packet: Arc<Packet>,
    /// It has been sent; only then may it be sent again.
    pub sent: bool,
    /// It went out with one byte of RTP padding, and does so whenever it is sent again.
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

impl Window {
    /// A window of `capacity` packets (a power of two). Memory is taken with the first packet.
    pub fn new(capacity: usize) -> Window {
        assert!(capacity.is_power_of_two(), "a power of two makes the slot a mask");
        Window {
            slots: Box::default(),
            capacity,
            newest: None,
            newest_keyframe: None,
        }
    }

    /// Offers a packet.
    pub fn insert(&mut self, packet: Arc<Packet>) -> Insert {
        if self.slots.is_empty() {
            self.slots = vec![None; self.capacity].into_boxed_slice();
        }
        let index = packet.index;
        let newest = self.newest.unwrap_or(index).max(index);
        if newest - index >= self.capacity as u64 {
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
        if packet.keyframe {
            self.newest_keyframe = self.newest_keyframe.max(Some(index));
        }
        self.newest = Some(newest);
        self.slots[at] = Some(Slot {
            packet,
            sent: false,
            padded: false,
        });
        Insert::Taken
    }

    /// The packet with this number, if the window still holds it.
    pub fn get(&self, index: u64) -> Option<&Slot> {
        self.slots
            .get(self.slot(index))?
            .as_ref()
            .filter(|slot| slot.packet.index == index)
    }

    /// Notes that the packet went out, and whether padded.
    pub fn mark_sent(&mut self, index: u64, padded: bool) {
        let at = self.slot(index);
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut)
            && slot.packet.index == index
        {
            slot.sent = true;
            slot.padded = padded;
        }
    }

    /// The highest number seen.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// First packet of the newest keyframe, if the window still holds it.
    pub fn newest_keyframe(&self) -> Option<u64> {
        self.newest_keyframe.filter(|&index| self.get(index).is_some())
    }

    fn slot(&self, index: u64) -> usize {
        (index as usize) & (self.capacity - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    #[test]
    fn a_number_stands_for_one_packet_only() {
        let mut window = Window::new(8);
        assert_eq!(window.insert(packet(5).build()), Insert::Taken);
        assert_eq!(window.insert(packet(5).payload(b"other").build()), Insert::Duplicate);
        assert_ne!(
            window.get(5).map(|slot| slot.packet.payload.to_vec()),
            Some(b"other".to_vec())
        );
    }

    #[test]
    fn what_left_the_window_is_refused_for_good() {
        let mut window = Window::new(8);
        for index in 100..109 {
            assert_eq!(window.insert(packet(index).build()), Insert::Taken);
        }
        assert!(window.get(100).is_none());
        assert_eq!(window.insert(packet(100).build()), Insert::TooOld);
        assert_eq!(window.insert(packet(50).build()), Insert::TooOld);
    }

    #[test]
    fn late_packets_find_their_place_and_a_jump_keeps_order() {
        let mut window = Window::new(8);
        window.insert(packet(10).build());
        window.insert(packet(12).build());
        assert_eq!(window.insert(packet(11).build()), Insert::Taken);
        assert_eq!(window.newest(), Some(12));
        assert_eq!(window.insert(packet(1_000).build()), Insert::Taken);
        assert_eq!(window.insert(packet(12).build()), Insert::TooOld);
        assert_eq!(window.insert(packet(995).build()), Insert::Taken);
    }

    #[test]
    fn the_newest_keyframe_is_known_while_it_is_held() {
        let mut window = Window::new(8);
        window.insert(packet(1).keyframe().build());
        assert_eq!(window.newest_keyframe(), Some(1));
        for index in 2..10 {
            window.insert(packet(index).build());
        }
        assert_eq!(window.newest_keyframe(), None);
    }

    #[test]
    fn any_order_of_inserts_keeps_the_promise() {
        // A naive model: every number that was ever taken, with the packet that took it.
        let mut seed = 7u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let mut window = Window::new(16);
        let mut taken = std::collections::HashMap::new();
        let mut base = 1_000;
        for step in 0..20_000u64 {
            base += u64::from(random() % 3 == 0);
            let index = base + random() % 20 - 10;
            let content = step.to_be_bytes();
            if window.insert(packet(index).payload(&content).build()) == Insert::Taken {
                assert_eq!(taken.insert(index, content), None, "index {index} was given twice");
            }
            if let Some(slot) = window.get(index) {
                assert_eq!(slot.packet.payload[..], taken[&index][..]);
            }
        }
    }
}
