//! The place of a frame among the spatial and temporal layers of one RTP stream.

use std::fmt;

/// Spatial and temporal layer of a frame, or the highest ones of a decode target. `S0T0` is the base.
///
/// The order is that of the spatial layer, then of the temporal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerId {
    /// Spatial layer, below [`LayerId::SPATIAL_LAYERS_MAX`].
    pub spatial: u8,
    /// Temporal layer, below [`LayerId::TEMPORAL_LAYERS_MAX`].
    pub temporal: u8,
}

impl LayerId {
    /// The most spatial layers: VP9 has three bits for them (RFC 9628 section 4.2), AV1 has two.
    pub const SPATIAL_LAYERS_MAX: usize = 8;
    /// The most temporal layers: VP9 and AV1 have three bits for them, VP8 has two.
    pub const TEMPORAL_LAYERS_MAX: usize = 8;

    /// A layer by its numbers.
    pub const fn new(spatial: u8, temporal: u8) -> LayerId {
        LayerId { spatial, temporal }
    }

    /// Whether a receiver of everything up to `limit` gets frames of this layer.
    pub const fn is_within(self, limit: LayerId) -> bool {
        self.spatial <= limit.spatial && self.temporal <= limit.temporal
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S{}T{}", self.spatial, self.temporal)
    }
}
