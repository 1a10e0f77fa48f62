//! Parameter sets of H264 and H265: encoders may send them once and keyframes without them for ever, so they are kept.

use std::sync::Arc;

use super::Packet;
use crate::media::packet::PassedExtensions;
use crate::rtp::{Codec, keyframe};

/// The newest parameter sets of a track.
#[derive(Debug, Default)]
pub struct ParameterSets {
    codec: Option<Codec>,
    units: Vec<Unit>,
}

#[derive(Debug)]
struct Unit {
    kind: u8,
    id: u8,
    nal: Box<[u8]>,
}

impl ParameterSets {
    /// Sets that are kept; streams have two or three.
    const UNITS_MAX: usize = 16;
    /// Bytes of all sets: as much as one packet carries.
    const BYTES_MAX: usize = 1_100;

    /// Keeps the sets in this packet.
    pub fn note(&mut self, packet: &Packet) {
        if !matches!(packet.codec, Codec::H264 | Codec::H265) {
            return;
        }
        if self.codec != Some(packet.codec) {
            self.units.clear();
            self.codec = Some(packet.codec);
        }
        keyframe::parameter_sets(packet.codec, &packet.payload, |set| {
            let known = self
                .units
                .iter()
                .position(|unit| (unit.kind, unit.id) == (set.unit, set.id));
            if known.is_some_and(|place| *self.units[place].nal == *set.nal) {
                return;
            }
            let unit = Unit {
                kind: set.unit,
                id: set.id,
                nal: set.nal.into(),
            };
            match known {
                Some(place) => self.units[place] = unit,
                None if self.units.len() < ParameterSets::UNITS_MAX => self.units.push(unit),
                None => {}
            }
        });
    }

    /// A packet with all sets, to be sent in front of a keyframe that begins with `first` and does not bring its own. `None` when it
    /// does, when there are none, or when they do not fit one packet.
    pub fn in_front_of(&self, first: &Packet) -> Option<Arc<Packet>> {
        let mut brings_its_own = false;
        keyframe::parameter_sets(first.codec, &first.payload, |_| brings_its_own = true);
        let len: usize = self.units.iter().map(|unit| 2 + unit.nal.len()).sum();
        let complete = self.units.iter().any(Unit::is_sequence) && self.units.iter().any(Unit::is_picture);
        if brings_its_own || !complete || self.codec != Some(first.codec) || len > ParameterSets::BYTES_MAX {
            return None;
        }
        // An aggregation packet: STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2).
        let mut payload = match first.codec {
            Codec::H264 => vec![0x78],
            _ => vec![48 << 1, 1],
        };
        let mut units: Vec<&Unit> = self.units.iter().collect();
        units.sort_by_key(|unit| (unit.kind, unit.id));
        for unit in units {
            payload.extend((unit.nal.len() as u16).to_be_bytes());
            payload.extend(&unit.nal);
        }
        Some(Arc::new(Packet {
            codec: first.codec,
            marker: false,
            keyframe: true,
            refresh: false,
            index: first.index,
            timestamp: first.timestamp,
            payload: payload.into(),
            extensions: PassedExtensions::default(),
            arrived: first.arrived,
        }))
    }
}

impl Unit {
    fn is_sequence(&self) -> bool {
        matches!(self.kind, 7 | 33)
    }

    fn is_picture(&self) -> bool {
        matches!(self.kind, 8 | 34)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    const SPS: &[u8] = &[0x67, 0x42, 0, 30, 0x80];
    const PPS: &[u8] = &[0x68, 0xce, 0x80];
    const IDR: &[u8] = &[0x65, 0x88];

    fn h264(payload: &[u8]) -> Arc<Packet> {
        packet(7).codec(Codec::H264).timestamp(900).payload(payload).build()
    }

    #[test]
    fn sets_are_put_in_front_of_a_keyframe_without() {
        let mut sets = ParameterSets::default();
        assert!(sets.in_front_of(&h264(IDR)).is_none());
        sets.note(&h264(PPS));
        assert!(
            sets.in_front_of(&h264(IDR)).is_none(),
            "a picture set alone is of no use"
        );
        sets.note(&h264(SPS));
        let front = sets.in_front_of(&h264(IDR)).unwrap();
        let expected = [&[0x78, 0, 5][..], SPS, &[0, 3], PPS].concat();
        assert_eq!(
            (&front.payload[..], front.timestamp, front.marker),
            (&expected[..], 900, false)
        );
        assert!(keyframe::starts_keyframe(Codec::H264, &front.payload));
        assert!(sets.in_front_of(&h264(SPS)).is_none(), "it brings its own");
    }

    #[test]
    fn a_newer_set_replaces_its_forerunner_and_another_codec_all() {
        let mut sets = ParameterSets::default();
        sets.note(&h264(SPS));
        sets.note(&h264(PPS));
        let newer = [0x68, 0xce, 0x81];
        sets.note(&h264(&newer));
        let front = sets.in_front_of(&h264(IDR)).unwrap();
        assert!(front.payload.ends_with(&newer) && front.payload.len() == 13);
        sets.note(&packet(8).codec(Codec::H265).payload(&[0x44, 0x01, 0xc1]).build());
        assert!(sets.in_front_of(&h264(IDR)).is_none());
    }

    #[test]
    fn too_many_or_too_long_sets_are_left_alone() {
        let mut sets = ParameterSets::default();
        sets.note(&h264(SPS));
        sets.note(&h264(&[&[0x68, 0xce][..], &[0; 1_200]].concat()));
        assert!(sets.in_front_of(&h264(IDR)).is_none());
        for id in 0..200u8 {
            sets.note(&h264(&[0x68, 0x01, id, 0x80]));
        }
        assert!(sets.units.len() <= ParameterSets::UNITS_MAX);
    }
}
