//! The layers of a video track: encodings of one picture that differ in size and rate.
//!
//! Each layer has a numbering of its own, and all of them share one timeline: pictures that were taken at the same moment have the same
//! timestamp in every layer. A track without layers has one, the first.
//!
//! Where the only encoding has spatial layers inside (SVC), these can be chosen as well: the encoding is the first layer, and the parts up to
//! its lower spatial layers have the places after that.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onecast_rtc::rtp::LayerId;
use onecast_rtc::sdp::SendLayers;

/// A layer's place in its track, below [`LayerIndex::COUNT`]. It says nothing about the quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerIndex(u8);

/// The highest spatial and temporal layers inside an encoding (SVC) that a viewer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    spatial: u8,
    temporal: u8,
    frames: Frames,
}

/// Which frames of the spatial and temporal layers belong to a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Frames {
    None,
    Keyframes,
    All,
}

/// What one viewer is sent of a video track: a layer, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rendition {
    /// The layer.
    pub layer: LayerIndex,
    /// The encoding whose packets it is made of: the layer, or the first one if the layer is a part of that.
    pub encoding: LayerIndex,
    /// The part of the encoding.
    pub target: Target,
}

/// What is known of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerFacts {
    /// Width and height; `None` while unknown.
    pub size: Option<(u16, u16)>,
    /// Bits per second, headers included. 0 while unknown.
    pub rate: u32,
    /// Pictures per second.
    pub frame_rate: u8,
    /// Packets come.
    pub is_live: bool,
    /// Of [`rate`](Self::rate), what the frames of the lowest temporal layer take; as much as all if nothing tells them apart.
    pub base_rate: u32,
    /// Only a viewer with the dependency descriptor can decode more than the lowest spatial layer (AV1).
    pub needs_descriptor: bool,
    /// It is no encoding of its own: it is what the first one has up to this spatial layer, which is not its highest.
    pub part: Option<u8>,
}

/// What a viewer may be sent of a track's layers. Without limits the server chooses among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerLimit {
    /// Only this layer, while it is live.
    pub pin: Option<LayerIndex>,
    /// Pictures of at most this width.
    pub max_width: Option<u16>,
    /// Pictures of at most this height.
    pub max_height: Option<u16>,
}

/// Why a viewer is sent another layer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerReason {
    /// It begins.
    Start,
    /// Its path carries no more.
    Path,
    /// Its path carries more again.
    Recovered,
    /// The layer that it was sent has gone.
    Gone,
    /// Its [`LayerLimit`] has changed.
    Limit,
}

/// The newest [`LayerFacts`] of a track's layers. The publisher's shard writes them, any thread may read them.
///
/// Every field is independent: a reader may see some fields of one write and some of the next, which matters to no reader.
#[derive(Debug)]
pub struct SharedLayerFacts {
    layers: [SharedFacts; LayerIndex::COUNT],
    /// Keyframes are later.
    born: Instant,
    /// Grows when a layer comes or goes.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct SharedFacts {
    /// Width in the upper half, height in the lower.
    size: AtomicU32,
    rate: AtomicU32,
    frame_rate: AtomicU8,
    base_rate: AtomicU32,
    /// Microseconds since `born`, plus 1; 0 before the first.
    keyframe_at: AtomicU64,
    /// Bit 0: live, bit 1: needs the descriptor, bits 2 to 4: one more than the spatial layer of a part, 0 for an encoding.
    flags: AtomicU8,
}

/// The live layers of a track, the lowest quality first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RankedLayers {
    ranked: [LayerIndex; LayerIndex::COUNT],
    len: usize,
}

impl LayerIndex {
    /// Layers of one track at most.
    pub const COUNT: usize = SendLayers::MAX;
    /// The only layer of a track without layers.
    pub const FIRST: LayerIndex = LayerIndex(0);

    /// The layer at a place; the last place stands for all that do not exist.
    pub const fn new(place: u8) -> LayerIndex {
        if (place as usize) < LayerIndex::COUNT {
            LayerIndex(place)
        } else {
            LayerIndex(LayerIndex::COUNT as u8 - 1)
        }
    }

    /// All layers that a track may have.
    pub fn all() -> impl DoubleEndedIterator<Item = LayerIndex> + Clone {
        (0..LayerIndex::COUNT as u8).map(LayerIndex)
    }

    /// As an index into a table of layers.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Target {
    /// Everything.
    pub const ALL: Target = Target {
        spatial: u8::MAX,
        temporal: u8::MAX,
        frames: Frames::All,
    };
    /// Nothing.
    pub const NONE: Target = Target {
        frames: Frames::None,
        ..Target::ALL
    };
    /// Keyframes.
    pub const KEYFRAMES: Target = Target {
        frames: Frames::Keyframes,
        ..Target::ALL
    };
    /// Frames of the lowest temporal layer.
    pub const BASE: Target = Target {
        temporal: 0,
        ..Target::ALL
    };
    /// Frames of the lowest spatial layer.
    pub const LOWEST: Target = Target {
        spatial: 0,
        ..Target::ALL
    };

    /// Up to these layers.
    pub const fn up_to(spatial: u8, temporal: u8) -> Target {
        Target {
            spatial,
            temporal,
            frames: Frames::All,
        }
    }

    /// Whether a frame belongs to it.
    pub fn takes(self, place: LayerId, is_keyframe: bool) -> bool {
        let is_within = place.spatial <= self.spatial && place.temporal <= self.temporal;
        is_within
            && match self.frames {
                Frames::All => true,
                Frames::Keyframes => is_keyframe,
                Frames::None => false,
            }
    }

    /// Whether pictures follow each other as in a film.
    pub fn is_moving(self) -> bool {
        self.frames == Frames::All
    }

    /// Whether a frame is of its highest spatial layer.
    pub const fn ends_with(self, place: LayerId) -> bool {
        place.spatial == self.spatial
    }

    /// What belongs to both.
    #[must_use]
    pub fn and(self, other: Target) -> Target {
        Target {
            spatial: self.spatial.min(other.spatial),
            temporal: self.temporal.min(other.temporal),
            frames: self.frames.min(other.frames),
        }
    }

    /// Whether it is a part of the other and not all of it.
    pub fn is_less_than(self, other: Target) -> bool {
        self != other && self.is_part_of(other)
    }

    /// Whether all of it belongs to the other.
    pub fn is_part_of(self, other: Target) -> bool {
        self.spatial <= other.spatial && self.temporal <= other.temporal && self.frames <= other.frames
    }
}

impl Default for Target {
    fn default() -> Target {
        Target::ALL
    }
}

impl From<LayerIndex> for Rendition {
    /// All of a layer.
    fn from(layer: LayerIndex) -> Rendition {
        Rendition {
            layer,
            encoding: layer,
            target: Target::ALL,
        }
    }
}

impl Rendition {
    /// Whether all of it belongs to the other: a viewer can go on with it after any picture.
    pub fn is_part_of(&self, other: &Rendition) -> bool {
        self.encoding == other.encoding && self.target.is_part_of(other.target)
    }
}

impl LayerFacts {
    /// Whether its pictures are no larger than those of another layer.
    pub fn is_within(&self, other: &LayerFacts) -> bool {
        self.pixels() <= other.pixels()
    }

    /// Greater for a better layer: by size, then by rate.
    pub fn rank(&self) -> (u32, u32) {
        (self.pixels(), self.rate)
    }

    /// Pixels of a picture; 0 while unknown.
    fn pixels(&self) -> u32 {
        self.size
            .map_or(0, |(width, height)| u32::from(width) * u32::from(height))
    }
}

impl LayerLimit {
    /// Whether a layer is within the limits. A size that is not known is within all.
    pub fn allows(&self, layer: LayerIndex, facts: &LayerFacts) -> bool {
        let (width, height) = facts.size.unwrap_or((0, 0));
        self.pin.is_none_or(|pin| pin == layer)
            && self.max_width.is_none_or(|max| width <= max)
            && self.max_height.is_none_or(|max| height <= max)
    }
}

impl SharedLayerFacts {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> SharedLayerFacts {
        SharedLayerFacts {
            layers: Default::default(),
            born: now,
            changes: AtomicU64::new(0),
        }
    }

    /// Publishes the facts of a layer. For the publisher's shard only.
    pub fn write(&self, layer: LayerIndex, facts: &LayerFacts) {
        let shared = &self.layers[layer.index()];
        let size = facts
            .size
            .map_or(0, |(width, height)| u32::from(width) << 16 | u32::from(height));
        shared.size.store(size, Ordering::Relaxed);
        shared.rate.store(facts.rate, Ordering::Relaxed);
        shared.frame_rate.store(facts.frame_rate, Ordering::Relaxed);
        shared.base_rate.store(facts.base_rate, Ordering::Relaxed);
        let part = facts.part.map_or(0, |spatial| (spatial + 1) & 7);
        let flags = u8::from(facts.is_live) | u8::from(facts.needs_descriptor) << 1 | part << 2;
        if shared.flags.swap(flags, Ordering::Relaxed) != flags {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// The newest facts of a layer.
    pub fn read(&self, layer: LayerIndex) -> LayerFacts {
        let shared = &self.layers[layer.index()];
        let size = shared.size.load(Ordering::Relaxed);
        let flags = shared.flags.load(Ordering::Relaxed);
        LayerFacts {
            size: (size != 0).then_some(((size >> 16) as u16, size as u16)),
            rate: shared.rate.load(Ordering::Relaxed),
            frame_rate: shared.frame_rate.load(Ordering::Relaxed),
            base_rate: shared.base_rate.load(Ordering::Relaxed),
            is_live: flags & 1 != 0,
            needs_descriptor: flags & 2 != 0,
            part: (flags >> 2).checked_sub(1),
        }
    }

    /// When the newest keyframe of a layer began; `None` before the first. For the publisher's shard only.
    pub fn write_keyframe(&self, layer: LayerIndex, at: Option<Instant>) {
        let micros = at.map_or(0, |at| at.saturating_duration_since(self.born).as_micros() as u64 + 1);
        self.layers[layer.index()].keyframe_at.store(micros, Ordering::Relaxed);
    }

    /// When the newest keyframe of a layer began; `None` before the first.
    pub fn keyframe_at(&self, layer: LayerIndex) -> Option<Instant> {
        let micros = self.layers[layer.index()].keyframe_at.load(Ordering::Relaxed);
        Some(self.born + Duration::from_micros(micros.checked_sub(1)?))
    }

    /// How often a layer has come or gone. A reader that sees another number than before looks at the layers again.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The live layers by picture size, then by rate.
    pub fn ranked(&self) -> RankedLayers {
        let mut ranked = RankedLayers::default();
        let mut keys = [(0, 0); LayerIndex::COUNT];
        for layer in LayerIndex::all() {
            let facts = self.read(layer);
            if !facts.is_live {
                continue;
            }
            let key = facts.rank();
            let at = keys[..ranked.len].partition_point(|known| *known <= key);
            keys.copy_within(at..ranked.len, at + 1);
            ranked.ranked.copy_within(at..ranked.len, at + 1);
            (keys[at], ranked.ranked[at]) = (key, layer);
            ranked.len += 1;
        }
        ranked
    }
}

impl RankedLayers {
    /// The lowest first.
    pub fn as_slice(&self) -> &[LayerIndex] {
        &self.ranked[..self.len]
    }

    /// Those within a limit; the lowest, if all are above it. A layer that is not live pins nothing.
    pub fn within(&self, limit: &LayerLimit, facts: &SharedLayerFacts) -> RankedLayers {
        let mut within = RankedLayers::default();
        let pin = limit.pin.filter(|layer| self.contains(*layer));
        let limit = LayerLimit { pin, ..*limit };
        let allowed = self
            .as_slice()
            .iter()
            .filter(|layer| limit.allows(**layer, &facts.read(**layer)));
        for layer in allowed {
            within.ranked[within.len] = *layer;
            within.len += 1;
        }
        if within.len == 0 {
            within = *self;
            within.len = self.len.min(1);
        }
        within
    }

    /// Those that can be decoded without the dependency descriptor; if there are none, all.
    pub fn without_descriptor(&self, facts: &SharedLayerFacts) -> RankedLayers {
        let mut without = RankedLayers::default();
        for layer in self.as_slice() {
            if !facts.read(*layer).needs_descriptor {
                without.ranked[without.len] = *layer;
                without.len += 1;
            }
        }
        if without.len == 0 { *self } else { without }
    }

    /// What a viewer of which nothing is known begins with: the middle, of two layers the lower one.
    pub fn middle(&self) -> Option<LayerIndex> {
        self.as_slice().get(self.len.saturating_sub(1) / 2).copied()
    }

    /// Whether the layer is live.
    pub fn contains(&self, layer: LayerIndex) -> bool {
        self.as_slice().contains(&layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(size: (u16, u16), rate: u32) -> LayerFacts {
        LayerFacts {
            size: Some(size),
            rate,
            frame_rate: 30,
            is_live: true,
            ..LayerFacts::default()
        }
    }

    #[test]
    fn layers_rank_by_size_and_rate_and_not_by_place() {
        let shared = SharedLayerFacts::new(onecast_udp::clock::now());
        assert_eq!((shared.ranked().as_slice(), shared.ranked().middle()), (&[][..], None));
        shared.write(LayerIndex::new(0), &live((1280, 720), 2_000_000));
        shared.write(LayerIndex::new(1), &live((320, 180), 900_000));
        shared.write(LayerIndex::new(3), &live((640, 360), 400_000));
        assert_eq!(shared.ranked().as_slice(), [1, 3, 0].map(LayerIndex::new));
        assert_eq!(shared.ranked().middle(), Some(LayerIndex::new(3)));
        shared.write(LayerIndex::new(2), &live((640, 360), 300_000));
        assert_eq!(shared.ranked().as_slice(), [1, 2, 3, 0].map(LayerIndex::new));
        assert_eq!(shared.ranked().middle(), Some(LayerIndex::new(2)));
    }

    #[test]
    fn without_the_descriptor_the_lowest_spatial_layer_is_what_can_be_decoded() {
        let shared = SharedLayerFacts::new(onecast_udp::clock::now());
        let whole = LayerFacts {
            needs_descriptor: true,
            ..live((1280, 720), 2_000_000)
        };
        shared.write(LayerIndex::FIRST, &whole);
        // Its parts are not known yet.
        let ranked = shared.ranked();
        assert_eq!(ranked.without_descriptor(&shared), ranked);
        for (place, size, spatial) in [(1, (320, 180), 0), (2, (640, 360), 1)] {
            let part = LayerFacts {
                needs_descriptor: spatial > 0,
                part: Some(spatial),
                ..live(size, 300_000)
            };
            shared.write(LayerIndex::new(place), &part);
            assert_eq!(shared.read(LayerIndex::new(place)), part);
        }
        let ranked = shared.ranked();
        assert_eq!(ranked.as_slice(), [1, 2, 0].map(LayerIndex::new));
        assert_eq!(ranked.without_descriptor(&shared).as_slice(), [LayerIndex::new(1)]);
    }

    #[test]
    fn keyframes_are_known_by_their_time() {
        let born = onecast_udp::clock::now();
        let shared = SharedLayerFacts::new(born);
        assert_eq!(shared.keyframe_at(LayerIndex::FIRST), None);
        for at in [born, born + Duration::from_secs(3)] {
            shared.write_keyframe(LayerIndex::FIRST, Some(at));
            assert_eq!(shared.keyframe_at(LayerIndex::FIRST), Some(at));
        }
        shared.write_keyframe(LayerIndex::FIRST, None);
        assert_eq!(shared.keyframe_at(LayerIndex::FIRST), None);
    }

    #[test]
    fn a_layer_that_goes_is_a_change_and_has_no_rank() {
        let shared = SharedLayerFacts::new(onecast_udp::clock::now());
        let facts = live((1280, 720), 2_000_000);
        shared.write(LayerIndex::FIRST, &facts);
        let before = shared.changes();
        shared.write(LayerIndex::FIRST, &facts);
        assert_eq!((shared.changes(), shared.read(LayerIndex::FIRST)), (before, facts));
        shared.write(
            LayerIndex::FIRST,
            &LayerFacts {
                is_live: false,
                ..facts
            },
        );
        assert_eq!((shared.changes(), shared.ranked().as_slice().len()), (before + 1, 0));
    }
}
