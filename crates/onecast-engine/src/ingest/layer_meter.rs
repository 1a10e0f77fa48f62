//! How much a layer sends, and whether it does.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::LayerId;

/// Measures one layer.
#[derive(Debug, Default)]
pub(super) struct LayerMeter {
    since: Option<Instant>,
    bytes: u32,
    pictures: u32,
    /// Of them, those of the lowest temporal layer.
    base_bytes: u32,
    /// Bits per second; 0 while unknown.
    rate: u32,
    base_rate: u32,
    has_spatial_layers: bool,
    /// Pictures per second, times 16.
    pictures_x16: u32,
    last_at: Option<Instant>,
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
        self.bytes = self.bytes.saturating_add(bytes);
        if place.temporal == 0 {
            self.base_bytes = self.base_bytes.saturating_add(bytes);
        }
        self.has_spatial_layers |= place.spatial > 0;
        self.pictures += u32::from(ends);
        self.last_at = Some(now);
    }

    /// Half of the old value and half of the new one: a second, more or less. After a pause the old one says nothing.
    fn end_slot(&mut self, now: Instant, elapsed: Duration) {
        let micros = elapsed.as_micros().max(1);
        let per_second = |count: u64| (u128::from(count) * 1_000_000 / micros) as u32;
        let rate = per_second(u64::from(self.bytes) * 8);
        let base = per_second(u64::from(self.base_bytes) * 8);
        let pictures = per_second(u64::from(self.pictures) * 16);
        if elapsed > 4 * LayerMeter::SLOT {
            // It includes the pause.
        } else if self.rate == 0 {
            (self.rate, self.base_rate, self.pictures_x16) = (rate, base, pictures);
        } else {
            self.rate = self.rate / 2 + rate / 2;
            self.base_rate = self.base_rate / 2 + base / 2;
            self.pictures_x16 = self.pictures_x16 / 2 + pictures / 2;
        }
        (self.since, self.bytes, self.base_bytes, self.pictures) = (Some(now), 0, 0, 0);
    }

    /// Bits per second, headers included; 0 while unknown.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Of that, what the lowest temporal layer takes.
    pub(super) fn base_rate(&self) -> u32 {
        self.base_rate
    }

    /// Whether it has spatial layers inside.
    pub(super) fn has_spatial_layers(&self) -> bool {
        self.has_spatial_layers
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
        let interval = Duration::from_millis(16_000 / u64::from(self.pictures_x16.max(1)));
        let patience = (LayerMeter::SILENT_PICTURES * interval).clamp(LayerMeter::SILENCE, Duration::from_secs(5));
        let patience = if self.pictures_x16 == 0 {
            Duration::from_secs(1)
        } else {
            patience
        };
        self.last_at.is_some_and(|last| at < last + patience)
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
