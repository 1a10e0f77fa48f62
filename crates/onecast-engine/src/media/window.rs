//! The window: the newest packets of a track by index (extended sequence number), and where in them a new viewer starts.
//!
//! The window decides for all viewers of a shard which packet has an index. It refuses a second packet with the same index, and a packet
//! whose index has left the window. Only packets from the window are sealed, so a key never seals one index twice with different
//! contents, which would break AES-GCM.
//!
//! The window holds everything since the newest keyframe, so that a viewer can start there. It grows for that within its bounds, and
//! shrinks again.

use std::sync::Arc;

use super::Packet;
use super::gop::Gop;
use super::parameter_sets::packet_in_front_of;

/// A ring of the newest packets.
#[derive(Debug)]
pub struct Window {
    slots: Box<[Option<Slot>]>,
    bounds: WindowBounds,
    newest: Option<u64>,
    /// The highest index that had to make way. It and everything older is refused for good, however much the window grows.
    left: Option<u64>,
    gop: Gop,
    /// Bytes taken so far. Wraps.
    total: u32,
}

/// How much a window may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowBounds {
    /// Packets that it holds in any case; a power of two.
    pub packets: usize,
    /// What it may hold beyond that, so that viewers can start at once.
    pub cache: CacheBounds,
}

/// How much a new viewer may be sent of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Bytes since the newest keyframe; 0 turns the cache off, and viewers wait for the next keyframe.
    pub bytes: usize,
    /// Pixels of all pictures since the newest keyframe: what a viewer has to decode before it has caught up.
    pub pixels: u64,
}

/// One packet, and how it goes out.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The packet.
    pub packet: Arc<Packet>,
    /// `padded` is decided. Only then may the packet be sent, as all viewers and all retransmissions have to get the same bytes.
    pub settled: bool,
    /// The packet is sent with one byte of RTP padding.
    pub padded: bool,
    /// Bytes that the window had taken with it, headers included. Wraps.
    pub total: u32,
}

/// What became of an offered packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// The window holds it now.
    Taken,
    /// Its index is taken.
    Duplicate,
    /// It is older than the window.
    TooOld,
}

/// Where a new viewer starts. A recovery point counts as a keyframe when no keyframe is near enough.
#[derive(Debug, Clone)]
pub enum Start {
    /// At this packet.
    At(StartPoint),
    /// Nowhere yet: a packet since the newest keyframe is missing, but may still arrive.
    Gap,
    /// At the next keyframe: there was none yet, or too much followed it.
    NextKeyframe,
}

/// The first packet of the newest keyframe.
#[derive(Debug, Clone)]
pub struct StartPoint {
    /// Its index.
    pub index: u64,
    /// Parameter sets to send in front of it.
    pub parameter_sets: Option<Arc<Packet>>,
    /// Pictures since the start, the keyframe included.
    pub frames: u32,
}

/// The packets since the newest keyframe, for the window of a shard that had no viewer before.
#[derive(Debug, Clone, Default)]
pub struct GopSnapshot {
    packets: Vec<Arc<Packet>>,
}

impl GopSnapshot {
    /// A part of a snapshot, in order.
    pub fn new(packets: Vec<Arc<Packet>>) -> GopSnapshot {
        GopSnapshot { packets }
    }

    /// The packets in order, from the keyframe on.
    pub fn packets(&self) -> &[Arc<Packet>] {
        &self.packets
    }
}

impl CacheBounds {
    /// No cache.
    pub const OFF: CacheBounds = CacheBounds { bytes: 0, pixels: 0 };
}

impl Window {
    /// Most packets that a window holds: a quarter of what sequence numbers can tell apart.
    const PACKETS_MAX: usize = 16_384;

    /// An empty window. It allocates with the first packet.
    pub fn new(bounds: WindowBounds) -> Window {
        assert!(bounds.packets.is_power_of_two(), "a power of two makes the slot a mask");
        Window {
            slots: Box::default(),
            bounds,
            newest: None,
            left: None,
            gop: Gop::default(),
            total: 0,
        }
    }

    /// Offers a packet. It stays unsettled.
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
        self.total = self
            .total
            .wrapping_add((packet.payload.len() + Gop::PACKET_OVERHEAD) as u32);
        let former = self.slots[at].replace(Slot {
            packet: packet.clone(),
            settled: false,
            padded: false,
            total: self.total,
        });
        self.left = self.left.max(former.map(|slot| slot.packet.index));
        if self.gop.note(&packet) {
            self.begin_gop();
        }
        if !self.gop.is_fresh() && !self.gop.is_within(&self.bounds.cache) && self.gop.fall_back() {
            self.begin_gop();
        }
        self.give_up_gop();
        Insert::Taken
    }

    /// Takes the packets from before this window existed. They are sent without padding.
    pub fn insert_past(&mut self, past: GopSnapshot) {
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
    }

    /// Everything since the newest keyframe; empty if a viewer could not start there.
    pub fn past(&self) -> GopSnapshot {
        let (Some(start), Some(newest)) = (self.gop.start(), self.newest) else {
            return GopSnapshot::default();
        };
        if matches!(self.start(), Start::NextKeyframe) {
            return GopSnapshot::default();
        }
        let packets = (start..=newest).filter_map(|index| Some(self.get(index)?.packet.clone()));
        GopSnapshot {
            packets: packets.collect(),
        }
    }

    /// The packet with this index, if the window holds it.
    pub fn get(&self, index: u64) -> Option<&Slot> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots
            .get(self.slot(index))?
            .as_ref()
            .filter(|slot| slot.packet.index == index)
    }

    /// Decides in which form the packet is sent, now and in retransmissions.
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

    /// Whether the index is too old for the window, which refuses such a packet.
    pub fn has_left(&self, index: u64) -> bool {
        let beyond = |newest: u64| newest.saturating_sub(index) >= self.slots.len() as u64;
        self.left >= Some(index) || self.newest.is_some_and(beyond)
    }

    /// The highest index so far.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Where a new viewer starts now. A keyframe that nothing follows yet is a start regardless of the bounds.
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

    /// Where a viewer starts that has waited too long for a [`start`](Self::start): at the keyframe although packets after it are missing,
    /// else at a picture that the encoder marked in some way, else at the newest picture. `None` if there is none.
    pub fn best_start(&self) -> Option<StartPoint> {
        let at = |index, parameter_sets| {
            let (bytes, frames) = self.measure(index);
            let is_allowed = self.gop.allows(&self.bounds.cache, bytes, frames);
            is_allowed.then_some(StartPoint {
                index,
                parameter_sets,
                frames,
            })
        };
        let keyframe = self.gop.start().filter(|index| self.holds_picture(*index));
        let keyframe = keyframe.and_then(|index| at(index, self.gop.parameter_sets()));
        let fair = self.gop.fair().filter(|point| self.holds_picture(point.index));
        let fair = || fair.and_then(|point| at(point.index, point.in_front.clone()));
        keyframe.or_else(fair).or_else(|| self.newest_picture())
    }

    /// Whether the picture that begins at `index` is complete, as far as the window can tell.
    fn holds_picture(&self, index: u64) -> bool {
        let Some(first) = self.get(index) else { return false };
        let newest = self.newest.unwrap_or(index);
        let end = (index + 1..=newest).find_map(|index| match self.get(index) {
            Some(slot) if slot.packet.timestamp == first.packet.timestamp => None,
            other => Some(other.is_some()),
        });
        end.unwrap_or(true)
    }

    /// Bytes and pictures from `index` on.
    fn measure(&self, index: u64) -> (usize, u32) {
        let packets = || (index..=self.newest.unwrap_or(index)).filter_map(|index| self.get(index));
        let bytes = packets()
            .map(|slot| slot.packet.payload.len() + Gop::PACKET_OVERHEAD)
            .sum();
        let mut before = None;
        let begins = |slot: &&Slot| before.replace(slot.packet.timestamp) != Some(slot.packet.timestamp);
        (bytes, packets().filter(begins).count() as u32)
    }

    fn newest_picture(&self) -> Option<StartPoint> {
        let newest = &self.get(self.newest?)?.packet;
        let of_picture = |slot: &&Slot| slot.packet.timestamp == newest.timestamp;
        let back = (0..=newest.index)
            .rev()
            .map_while(|index| self.get(index).filter(of_picture));
        let first = &back.last()?.packet;
        Some(StartPoint {
            index: first.index,
            parameter_sets: packet_in_front_of(first),
            frames: 1,
        })
    }

    /// The group of pictures since the newest keyframe.
    pub fn gop(&self) -> &Gop {
        &self.gop
    }

    /// The source ended: the next packets do not refer to the pictures so far.
    pub fn end_source(&mut self) {
        self.gop = Gop::default();
    }

    /// Grows for a packet that would push the newest keyframe out, while a viewer could still start there.
    fn make_room(&mut self, index: u64) {
        let Some(start) = self.gop.start() else { return };
        let needed = index.saturating_sub(start) + 1;
        let may_grow = needed <= Window::PACKETS_MAX as u64 && self.gop.is_within(&self.bounds.cache);
        if needed > self.slots.len() as u64 && may_grow {
            self.resize(needed.next_power_of_two() as usize);
        }
    }

    /// Shrinks when the group is far beyond the bounds: no viewer starts at its keyframe, and none is still catching up from it.
    fn give_up_gop(&mut self) {
        let is_long_past = self.gop.bytes() / 2 > self.bounds.cache.bytes;
        if is_long_past && self.slots.len() > self.bounds.packets {
            self.resize(self.bounds.packets);
        }
    }

    /// A new group begins: counts what already arrived of it, and shrinks if the last group needed much more room than this one.
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

    /// Counts the group again from its start. Pictures can only be told apart when their packets are counted in order.
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
mod tests;
