//! The pictures in a source's packets: where a decoder can begin, and the parameter sets that it needs for that.

use std::sync::Arc;

use super::line::Accepted;
use crate::media::parameter_sets::ParameterSets;
use onecast_rtc::rtp::{Codec, Kind, Refresh, keyframe, refresh};
use onecast_rtc::sdp::{MediaLine, announced_parameter_sets};

/// What is known of the pictures of one line's source.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Parameter sets in the offer, by payload type.
    announced: Vec<(u8, Vec<u8>)>,
    sets: ParameterSets,
    /// Of the newest packet that was no retransmission.
    payload_type: Option<u8>,
    /// Timestamp and lowest index of the newest keyframe or recovery point.
    newest: Option<(u32, u64)>,
    /// Timestamp of the newest keyframe.
    newest_keyframe: Option<u32>,
}

/// What one packet is to the pictures.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// See `Packet`.
    pub(super) keyframe: bool,
    pub(super) refresh: Option<Refresh>,
    pub(super) sets: Option<Arc<[u8]>>,
    /// A keyframe begins that is not known from a packet before.
    pub(super) is_new: bool,
    /// It is of the newest keyframe.
    pub(super) of_keyframe: bool,
    /// Width and height, if it tells them.
    pub(super) size: Option<(u16, u16)>,
}

impl Pictures {
    /// What the line says is what counts from now on.
    pub(super) fn announce(&mut self, line: Option<&MediaLine>) {
        let formats = line.into_iter().flat_map(|line| &line.formats);
        let sets = formats.filter_map(|format| {
            let sets = announced_parameter_sets(format.codec, &format.fmtp)?;
            Some((format.payload_type, sets))
        });
        let announced: Vec<_> = sets.collect();
        if announced != self.announced {
            self.announced = announced;
            self.payload_type = None;
        }
    }

    /// What comes has nothing to do with the pictures before. `same_source`: it is of the same encoder, whose parameter sets still hold.
    pub(super) fn begin_anew(&mut self, same_source: bool) {
        (self.newest, self.newest_keyframe) = (None, None);
        if !same_source {
            self.sets = ParameterSets::default();
            self.payload_type = None;
        }
    }

    /// A packet of this format came. Where that is another than before, what was announced for it counts, until packets say otherwise.
    pub(super) fn note_format(&mut self, format: Accepted) {
        if self.payload_type == Some(format.payload_type) {
            return;
        }
        self.payload_type = Some(format.payload_type);
        let of_format = |(payload_type, _): &&(u8, Vec<u8>)| *payload_type == format.payload_type;
        if let Some((_, sets)) = self.announced.iter().find(of_format) {
            self.sets.note(format.codec, sets);
        }
    }

    /// Whether a source may begin with this packet.
    pub(super) fn may_begin(codec: Codec, payload: &[u8]) -> bool {
        keyframe::starts_keyframe(codec, payload) || refresh::refresh(codec, payload) > Some(Refresh::Intra)
    }

    /// Notes a packet of the track. Parameter sets and the picture behind them share a timestamp: only the first of them counts.
    pub(super) fn note(&mut self, codec: Codec, payload: &[u8], timestamp: u32, index: u64) -> Noted {
        if codec.kind() == Kind::Audio {
            return Noted {
                keyframe: true,
                refresh: Some(Refresh::Keyframe),
                ..Noted::default()
            };
        }
        let refresh = refresh::refresh(codec, payload);
        let begins = keyframe::starts_keyframe(codec, payload) || refresh > Some(Refresh::Intra);
        let mut noted = Noted {
            refresh,
            ..Noted::default()
        };
        if begins {
            noted.keyframe = self
                .newest
                .is_none_or(|(newest, lowest)| newest != timestamp || index < lowest);
            if noted.keyframe {
                self.newest = Some((timestamp, index));
            }
        }
        if refresh == Some(Refresh::Keyframe) && self.newest_keyframe != Some(timestamp) {
            self.newest_keyframe = Some(timestamp);
            noted.is_new = true;
        }
        noted.of_keyframe = self.newest_keyframe == Some(timestamp);
        self.sets.note(codec, payload);
        if !self.sets.is_empty() && (noted.keyframe || keyframe::starts_frame(codec, payload)) {
            noted.sets = self.sets.in_front_of(codec, payload);
        }
        if begins {
            let size = |payload| keyframe::picture_size(codec, payload);
            noted.size = size(payload).or_else(|| size(noted.sets.as_deref()?));
        }
        noted
    }
}
