//! Parameter sets of H264 and H265. Some encoders send them once, or only announce them in the offer, and then send keyframes without
//! them. The newest sets are therefore kept and travel with each packet that a viewer may start at.

use std::sync::Arc;

use onecast_rtc::rtp::{Codec, keyframe};

use super::Packet;
use super::packet::PassedExtensions;

/// The newest parameter sets of one encoder.
#[derive(Debug, Default)]
pub struct ParameterSets {
    codec: Option<Codec>,
    units: Vec<SetUnit>,
    /// All of them in one payload; `None` if they changed since, or cannot be sent.
    packed: Option<Arc<[u8]>>,
}

/// One parameter set.
#[derive(Debug)]
struct SetUnit {
    /// NAL unit type.
    kind: u8,
    id: u8,
    nal: Box<[u8]>,
}

impl ParameterSets {
    /// Most sets that are kept; streams have two or three.
    const UNITS_MAX: usize = 16;

    /// Keeps the sets in this payload, which comes from a packet or from the offer.
    pub fn note(&mut self, codec: Codec, payload: &[u8]) {
        if !matches!(codec, Codec::H264 | Codec::H265) {
            return;
        }
        if self.codec != Some(codec) {
            *self = ParameterSets {
                codec: Some(codec),
                ..ParameterSets::default()
            };
        }
        keyframe::parameter_sets(codec, payload, |set| {
            let known = self
                .units
                .iter()
                .position(|unit| (unit.kind, unit.id) == (set.unit, set.id));
            if known.is_some_and(|place| *self.units[place].nal == *set.nal) {
                return;
            }
            let unit = SetUnit {
                kind: set.unit,
                id: set.id,
                nal: set.nal.into(),
            };
            match known {
                Some(place) => self.units[place] = unit,
                None if self.units.len() < ParameterSets::UNITS_MAX => self.units.push(unit),
                None => return,
            }
            self.packed = None;
        });
    }

    /// Whether no set is known.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// All sets in one payload, to send in front of a picture that begins with `payload`. `None` if the picture brings its own, if no
    /// sets are known, or if they do not fit one packet.
    pub fn in_front_of(&mut self, codec: Codec, payload: &[u8]) -> Option<Arc<[u8]>> {
        if self.codec != Some(codec) {
            return None;
        }
        let mut has_own = false;
        keyframe::parameter_sets(codec, payload, |_| has_own = true);
        if has_own {
            return None;
        }
        if self.packed.is_none() {
            self.packed = self.pack(codec);
        }
        self.packed.clone()
    }

    fn pack(&self, codec: Codec) -> Option<Arc<[u8]>> {
        let len: usize = self.units.iter().map(|unit| 2 + unit.nal.len()).sum();
        let complete = self.units.iter().any(SetUnit::is_sequence) && self.units.iter().any(SetUnit::is_picture);
        if !complete || len > keyframe::PARAMETER_SETS_BYTES_MAX {
            return None;
        }
        let mut units: Vec<&SetUnit> = self.units.iter().collect();
        units.sort_by_key(|unit| (unit.kind, unit.id));
        let mut payload = keyframe::aggregation_head(codec).to_vec();
        for unit in units {
            payload.extend((unit.nal.len() as u16).to_be_bytes());
            payload.extend(&unit.nal);
        }
        Some(payload.into())
    }
}

impl SetUnit {
    /// A sequence parameter set, of H264 or H265.
    fn is_sequence(&self) -> bool {
        matches!(self.kind, 7 | 33)
    }

    /// A picture parameter set, of H264 or H265.
    fn is_picture(&self) -> bool {
        matches!(self.kind, 8 | 34)
    }
}

/// The packet with the parameter sets that `first` needs in front. `None` if it needs none.
pub fn packet_in_front_of(first: &Packet) -> Option<Arc<Packet>> {
    let sets = first.sets.as_deref()?;
    Some(Arc::new(Packet {
        codec: first.codec,
        layer: first.layer,
        place: first.place,
        ends_frame: false,
        marker: false,
        keyframe: true,
        refresh: None,
        index: first.index,
        timestamp: first.timestamp,
        payload: sets.into(),
        sets: None,
        extensions: PassedExtensions::default(),
        arrived: first.arrived,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;
    use onecast_rtc::rtp::RtpTime;

    const SPS: &[u8] = &[0x67, 0x42, 0, 30, 0x80];
    const PPS: &[u8] = &[0x68, 0xce, 0x80];
    const IDR: &[u8] = &[0x65, 0x88];

    fn noted(payloads: &[&[u8]]) -> ParameterSets {
        let mut sets = ParameterSets::default();
        payloads.iter().for_each(|payload| sets.note(Codec::H264, payload));
        sets
    }

    fn in_front(sets: &mut ParameterSets, payload: &[u8]) -> Option<Vec<u8>> {
        sets.in_front_of(Codec::H264, payload).map(|sets| sets.to_vec())
    }

    #[test]
    fn sets_are_put_in_front_of_a_keyframe_without_its_own() {
        assert_eq!(in_front(&mut noted(&[]), IDR), None);
        assert_eq!(
            in_front(&mut noted(&[PPS]), IDR),
            None,
            "a picture set alone is not enough"
        );
        let mut sets = noted(&[PPS, SPS]);
        let expected = [&[0x78, 0, 5][..], SPS, &[0, 3], PPS].concat();
        assert_eq!(in_front(&mut sets, IDR), Some(expected.clone()));
        assert_eq!(in_front(&mut sets, SPS), None, "it brings its own");
        let first = packet(7).codec(Codec::H264).timestamp(RtpTime(900)).payload(IDR);
        let front = packet_in_front_of(&first.sets(&expected).build()).unwrap();
        assert_eq!(
            (&front.payload[..], front.timestamp, front.marker),
            (&expected[..], RtpTime(900), false)
        );
        assert!(keyframe::starts_keyframe(Codec::H264, &front.payload));
    }

    #[test]
    fn a_newer_set_replaces_its_predecessor_and_another_codec_replaces_all() {
        let newer = [0x68, 0xce, 0x81];
        let mut sets = noted(&[SPS, PPS]);
        let before = in_front(&mut sets, IDR);
        sets.note(Codec::H264, &newer);
        let after = in_front(&mut sets, IDR).unwrap();
        assert!(before != Some(after.clone()) && after.ends_with(&newer) && after.len() == 13);
        sets.note(Codec::H265, &[0x44, 0x01, 0xc1]);
        assert_eq!(in_front(&mut sets, IDR), None);
        assert_eq!(sets.in_front_of(Codec::H265, &[0x26, 0x01]), None);
    }

    #[test]
    fn too_many_or_too_long_sets_are_not_sent() {
        let long = [&[0x68, 0xce][..], &[0; 1_200]].concat();
        let mut sets = noted(&[SPS, &long]);
        assert_eq!(in_front(&mut sets, IDR), None);
        for id in 0..200u8 {
            sets.note(Codec::H264, &[0x68, 0x01, id, 0x80]);
        }
        assert!(sets.units.len() <= ParameterSets::UNITS_MAX);
    }
}
