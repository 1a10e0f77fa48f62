//! Layers of a stream's video as clients name them, and which of them a viewer wants and is sent.

use std::time::Duration;

use onecast_engine::media::layers::SharedLayerFacts;
use onecast_engine::media::{LayerFacts, LayerIndex, LayerLimit, LayerReason};
use onecast_rtc::rtp::Rid;
use onecast_rtc::sdp::SendLayers;

/// One layer of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerState {
    /// As the engine knows it.
    pub index: LayerIndex,
    /// Its name; `None` for the only layer of a publisher without simulcast. Spatial layers of one encoding are called S0, S1, ...
    pub rid: Option<Rid>,
    /// Its size and rate.
    pub facts: LayerFacts,
}

/// A stream's layers at one moment, the largest picture first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamLayers([Option<LayerState>; LayerIndex::COUNT]);

/// One layer of a stream, and how many watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedLayer {
    /// The layer.
    pub layer: LayerState,
    /// Viewers that are sent it.
    pub viewers: u32,
    /// Since its newest keyframe; `None` before the first.
    pub keyframe_age: Option<Duration>,
}

/// Which layers of its stream a viewer wants. By default the server chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerChoice {
    /// This one, as long as it is live.
    pub rid: Option<Box<str>>,
    /// Pictures of at most this width.
    pub max_width: Option<u16>,
    /// Pictures of at most this height.
    pub max_height: Option<u16>,
}

/// What a viewer wants of the layers, and what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewerLayer {
    /// The layer that it is sent, and why; `None` until its video begins.
    pub sent: Option<(LayerState, LayerReason)>,
    /// How often it was sent another layer than before.
    pub switches: u32,
    /// The layer that it has chosen, if it has.
    pub rid: Option<Rid>,
    /// What it may be sent.
    pub limit: LayerLimit,
}

impl StreamLayers {
    /// No layers.
    pub const NONE: StreamLayers = StreamLayers([None; LayerIndex::COUNT]);

    /// The layers of a publisher that sends `layers`, of which the shards know these facts.
    pub(crate) fn of(layers: &SendLayers, facts: &SharedLayerFacts) -> StreamLayers {
        let named = layers.as_slice().iter().zip(LayerIndex::all());
        StreamLayers::ranked(named.map(|(layer, index)| LayerState {
            index,
            rid: layer.rid,
            facts: facts.read(index),
        }))
    }

    /// The layer of a publisher that sends one encoding, once it does, and the parts of it.
    pub(crate) fn single(facts: &SharedLayerFacts) -> StreamLayers {
        let live = LayerIndex::all().filter_map(|index| {
            let facts = facts.read(index);
            let is_listed = facts.is_live && (index == LayerIndex::FIRST || facts.part.is_some());
            is_listed.then_some((index, facts))
        });
        let parts = live.clone().filter(|(_, facts)| facts.part.is_some()).count() as u8;
        StreamLayers::ranked(live.map(|(index, facts)| LayerState {
            index,
            rid: (parts > 0).then(|| spatial_name(facts.part.unwrap_or(parts))).flatten(),
            facts,
        }))
    }

    /// These layers, at most [`LayerIndex::COUNT`], in any order.
    pub fn ranked(layers: impl Iterator<Item = LayerState>) -> StreamLayers {
        let mut ranked = [None; LayerIndex::COUNT];
        ranked
            .iter_mut()
            .zip(layers)
            .for_each(|(place, layer)| *place = Some(layer));
        ranked.sort_by_key(|layer| {
            let key = |layer: LayerState| std::cmp::Reverse((layer.pixels(), layer.facts.rate));
            (layer.is_none(), layer.map(key))
        });
        StreamLayers(ranked)
    }

    /// The layers.
    pub fn iter(&self) -> impl Iterator<Item = &LayerState> {
        self.0.iter().flatten()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// The layers if they have names, by which a viewer can choose; none otherwise.
    #[must_use]
    pub fn with_names(self) -> StreamLayers {
        if self.iter().all(|layer| layer.rid.is_some()) {
            return self;
        }
        StreamLayers::default()
    }

    /// Whether a follower should learn that these were the layers before: a layer has come, gone or another size, or a rate has changed by
    /// more than a fifth.
    pub(crate) fn is_news_after(&self, before: &StreamLayers) -> bool {
        let is_news = |(now, before): (&Option<LayerState>, &Option<LayerState>)| match (now, before) {
            (Some(now), Some(before)) => now.is_news_after(before),
            (now, before) => now.is_some() != before.is_some(),
        };
        self.0.iter().zip(&before.0).any(is_news)
    }
}

/// As in `scalabilityMode`.
fn spatial_name(spatial: u8) -> Option<Rid> {
    Rid::parse(&format!("S{spatial}"))
}

impl LayerState {
    /// Pixels of a picture; 0 while unknown.
    fn pixels(&self) -> u32 {
        let size = self.facts.size;
        size.map_or(0, |(width, height)| u32::from(width) * u32::from(height))
    }

    fn is_news_after(&self, before: &LayerState) -> bool {
        let of = |layer: &LayerState| (layer.index, layer.rid, layer.facts.size, layer.facts.is_live);
        let (rate, known) = (self.facts.rate, before.facts.rate);
        of(self) != of(before) || (self.facts.is_live && rate.abs_diff(known) > known / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(index: u8, rid: &str, size: (u16, u16), rate: u32) -> LayerState {
        LayerState {
            index: LayerIndex::new(index),
            rid: Rid::parse(rid),
            facts: LayerFacts {
                size: Some(size).filter(|size| *size != (0, 0)),
                rate,
                frame_rate: 30,
                is_live: rate > 0,
                ..LayerFacts::default()
            },
        }
    }

    fn rids(layers: &StreamLayers) -> Vec<String> {
        layers.iter().filter_map(|layer| Some(layer.rid?.to_string())).collect()
    }

    #[test]
    fn the_largest_picture_comes_first_wherever_the_offer_had_it() {
        let layers = [
            layer(0, "q", (320, 180), 150_000),
            layer(1, "unknown", (0, 0), 0),
            layer(2, "f", (1280, 720), 2_500_000),
            layer(3, "h", (640, 360), 0),
        ];
        let ranked = StreamLayers::ranked(layers.into_iter());
        assert_eq!(rids(&ranked), ["f", "h", "q", "unknown"]);
        assert_eq!(ranked.with_names(), ranked);
        let unnamed = StreamLayers::ranked([layer(0, "", (320, 180), 150_000)].into_iter());
        assert!(!unnamed.is_empty() && unnamed.with_names().is_empty());
    }

    #[test]
    fn small_changes_of_rates_are_no_news() {
        let at = |rate| StreamLayers::ranked([layer(0, "f", (1280, 720), rate)].into_iter());
        let before = at(1_000_000);
        for (rate, is_news) in [
            (1_200_000, false),
            (1_200_001, true),
            (800_000, false),
            (799_999, true),
            (0, true),
        ] {
            assert_eq!(at(rate).is_news_after(&before), is_news, "{rate}");
        }
        let larger = StreamLayers::ranked([layer(0, "f", (1920, 1080), 1_000_000)].into_iter());
        assert!(larger.is_news_after(&before) && StreamLayers::default().is_news_after(&before));
        assert!(before.is_news_after(&at(0)), "the first rate is news");
    }

    #[test]
    fn spatial_layers_of_the_only_encoding_have_names() {
        let shared = SharedLayerFacts::new(onecast_udp::clock::now());
        let facts = |size, part| LayerFacts {
            size: Some(size),
            is_live: true,
            part,
            ..LayerFacts::default()
        };
        shared.write(LayerIndex::FIRST, &facts((1280, 720), None));
        assert!(StreamLayers::single(&shared).with_names().is_empty());
        shared.write(LayerIndex::new(1), &facts((320, 180), Some(0)));
        shared.write(LayerIndex::new(2), &facts((640, 360), Some(1)));
        let layers = StreamLayers::single(&shared);
        assert_eq!(rids(&layers), ["S2", "S1", "S0"]);
        assert_eq!(layers.with_names(), layers);
    }
}
