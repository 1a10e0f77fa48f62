//! How much a layer sends, and whether it does.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::LayerId;

/// Measures one layer.
#[derive(Debug, Default)]
pub(super) struct LayerMeter {
    since: Option<Instant>,
    /// The spatial layers inside; of most encodings there is one.
    parts: [PartMeter; LayerId::SPATIAL_LAYERS_MAX],
    pictures: u32,
    /// Pictures per second, times 16.
    pictures_x16: u32,
    last_at: Option<Instant>,
    keyframe_at: Option<Instant>,
}

/// Measures one spatial layer.
#[derive(Debug, Default, Clone, Copy)]
struct PartMeter {
    bytes: u32,
    /// Of them, those of the lowest temporal layer.
    base_bytes: u32,
    /// Bits per second; 0 while unknown.
    rate: u32,
    base_rate: u32,
    size: Option<(u16, u16)>,
    last_at: Option<Instant>,
}

/// What an encoding sends up to one of its spatial layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartReading {
    pub(super) rate: u32,
    /// Of the lowest temporal layer.
    pub(super) base_rate: u32,
    /// `None` while unknown.
    pub(super) size: Option<(u16, u16)>,
}

impl LayerMeter {
    /// What is measured at once.
    const SLOT: Duration = Duration::from_millis(500);
    /// Headers of IP, UDP and RTP, and the tag.
    const OVERHEAD: u32 = 56;
    /// A layer that sends nothing for so long while others do has stopped. One with few pictures is given the time of some.
    const SILENCE: Duration = Duration::from_millis(400);
    const SILENT_PICTURES: u32 = 4;

    /// Counts a packet of a frame of these layers. `ends` if it ends a picture.
    pub(super) fn note(&mut self, now: Instant, len: usize, place: LayerId, ends: bool) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= LayerMeter::SLOT {
            self.end_slot(now, elapsed);
        }
        let bytes = len as u32 + LayerMeter::OVERHEAD;
        let part = self.part_mut(place.spatial);
        part.bytes = part.bytes.saturating_add(bytes);
        if place.temporal == 0 {
            part.base_bytes = part.base_bytes.saturating_add(bytes);
        }
        part.last_at = Some(now);
        self.pictures += u32::from(ends);
        self.last_at = Some(now);
    }

    /// Half of the old value and half of the new one: a second, more or less. After a pause the old one says nothing.
    fn end_slot(&mut self, now: Instant, elapsed: Duration) {
        let micros = elapsed.as_micros().max(1);
        let per_second = |count: u64| (u128::from(count) * 1_000_000 / micros) as u32;
        let pictures = per_second(u64::from(self.pictures) * 16);
        // Otherwise it includes a pause.
        if elapsed <= 4 * LayerMeter::SLOT {
            let mean = |known: u32, new: u32| if known == 0 { new } else { known / 2 + new / 2 };
            for part in &mut self.parts {
                part.rate = mean(part.rate, per_second(u64::from(part.bytes) * 8));
                part.base_rate = mean(part.base_rate, per_second(u64::from(part.base_bytes) * 8));
            }
            self.pictures_x16 = mean(self.pictures_x16, pictures);
        }
        for part in &mut self.parts {
            (part.bytes, part.base_bytes) = (0, 0);
        }
        (self.since, self.pictures) = (Some(now), 0);
    }

    fn part_mut(&mut self, spatial: u8) -> &mut PartMeter {
        &mut self.parts[usize::from(spatial).min(LayerId::SPATIAL_LAYERS_MAX - 1)]
    }

    /// The pictures of a spatial layer have this size.
    pub(super) fn note_size(&mut self, spatial: u8, size: (u16, u16)) {
        self.part_mut(spatial).size = Some(size);
    }

    /// A keyframe begins.
    pub(super) fn note_keyframe(&mut self, now: Instant) {
        self.keyframe_at = Some(now);
    }

    /// When the newest keyframe began.
    pub(super) fn keyframe_at(&self) -> Option<Instant> {
        self.keyframe_at
    }

    /// What is sent up to a spatial layer.
    pub(super) fn up_to(&self, spatial: u8) -> PartReading {
        let parts = &self.parts[..=usize::from(spatial).min(LayerId::SPATIAL_LAYERS_MAX - 1)];
        PartReading {
            rate: parts.iter().map(|part| part.rate).sum(),
            base_rate: parts.iter().map(|part| part.base_rate).sum(),
            size: parts.last().and_then(|part| part.size),
        }
    }

    /// How many spatial layers are sent.
    pub(super) fn spatial_layers(&self) -> u8 {
        let is_live = |part: &PartMeter| {
            part.last_at
                .zip(self.last_at)
                .is_some_and(|(at, newest)| newest < at + self.patience())
        };
        let highest = self.parts.iter().rposition(is_live);
        highest.map_or(0, |highest| highest as u8 + 1)
    }

    /// Bits per second, headers included; 0 while unknown.
    pub(super) fn rate(&self) -> u32 {
        self.parts.iter().map(|part| part.rate).sum()
    }

    /// Of that, what the lowest temporal layer takes.
    pub(super) fn base_rate(&self) -> u32 {
        self.parts.iter().map(|part| part.base_rate).sum()
    }

    /// Whether it has spatial layers inside.
    pub(super) fn has_spatial_layers(&self) -> bool {
        self.parts[1..].iter().any(|part| part.last_at.is_some())
    }

    /// Pictures per second.
    pub(super) fn frame_rate(&self) -> u8 {
        ((self.pictures_x16 + 8) / 16).min(255) as u8
    }

    /// When its newest packet arrived.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// Whether it is sent, when the newest packet of any layer of the track arrived `at`. A publisher that sends nothing at all pauses:
    /// none of its layers has stopped.
    pub(super) fn is_live(&self, at: Instant) -> bool {
        self.last_at.is_some_and(|last| at < last + self.patience())
    }

    /// Silence for so long means that nothing more is sent.
    fn patience(&self) -> Duration {
        let interval = Duration::from_millis(16_000 / u64::from(self.pictures_x16.max(1)));
        let patience = (LayerMeter::SILENT_PICTURES * interval).clamp(LayerMeter::SILENCE, Duration::from_secs(5));
        if self.pictures_x16 == 0 {
            Duration::from_secs(1)
        } else {
            patience
        }
    }

    /// The layer's source has changed.
    pub(super) fn restart(&mut self) {
        *self = LayerMeter::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of `packets` packets of 944 bytes, so many a second.
    fn send(meter: &mut LayerMeter, start: Instant, (from, to): (u64, u64), packets: u64, per_second: u64) -> Instant {
        let mut now = start;
        for at in (from..to).step_by((1_000 / per_second) as usize) {
            now = start + Duration::from_millis(at);
            (1..=packets).for_each(|packet| meter.note(now, 944, LayerId::default(), packet == packets));
        }
        now
    }

    #[test]
    fn it_measures_rate_and_pictures() {
        let (mut meter, start) = (LayerMeter::default(), onecast_udp::clock::now());
        assert_eq!((meter.rate(), meter.frame_rate()), (0, 0));
        send(&mut meter, start, (0, 3_000), 4, 25);
        assert!((790_000..=880_000).contains(&meter.rate()), "{}", meter.rate());
        assert!((24..=27).contains(&meter.frame_rate()), "{}", meter.frame_rate());
        send(&mut meter, start, (3_000, 8_000), 8, 25);
        assert!((1_580_000..=1_760_000).contains(&meter.rate()), "{}", meter.rate());
    }

    #[test]
    fn spatial_layers_add_up_and_stop_one_by_one() {
        let (mut meter, start) = (LayerMeter::default(), onecast_udp::clock::now());
        assert_eq!(meter.spatial_layers(), 0);
        for (slot, layers) in [(0, 3), (1, 2)] {
            for at in (0..3_000).step_by(40) {
                let now = start + Duration::from_millis(slot * 3_000 + at);
                (0..layers).for_each(|spatial| {
                    meter.note(now, 944, LayerId::new(spatial, spatial), spatial + 1 == layers);
                });
            }
            assert_eq!(meter.spatial_layers(), layers);
        }
        meter.note_size(1, (640, 360));
        let [lowest, both] = [0, 1].map(|spatial| meter.up_to(spatial));
        assert!((195_000..=220_000).contains(&lowest.rate), "{lowest:?}");
        assert_eq!((lowest.base_rate, lowest.size), (lowest.rate, None));
        assert_eq!((both.base_rate, both.size), (lowest.rate, Some((640, 360))));
        assert!((390_000..=440_000).contains(&both.rate), "{both:?}");
    }

    #[test]
    fn a_layer_stops_when_only_others_go_on() {
        let (mut meter, start) = (LayerMeter::default(), onecast_udp::clock::now());
        assert!(!meter.is_live(start));
        let last = send(&mut meter, start, (0, 2_000), 1, 25);
        assert!(meter.is_live(last + Duration::from_millis(390)) && !meter.is_live(last + Duration::from_millis(400)));
        // Two pictures a second.
        let last = send(&mut meter, start, (2_000, 12_000), 1, 2);
        assert!(
            meter.is_live(last + Duration::from_millis(1_800)) && !meter.is_live(last + Duration::from_millis(2_200))
        );
    }
}
