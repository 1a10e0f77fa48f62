//! The pictures in a layer's packets: where a decoder can begin, and the parameter sets that it needs for that.

use std::sync::Arc;

use onecast_rtc::rtp::{Codec, Kind, Pt, Refresh, RtpTime, keyframe, refresh};
use onecast_rtc::sdp::{MediaLine, announced_parameter_sets};

use super::incoming::ReceiveFormat;
use crate::media::parameter_sets::ParameterSets;

/// What is known of the pictures of one layer.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Parameter sets that the offer announced, by payload type.
    announced: Vec<(Pt, Vec<u8>)>,
    sets: ParameterSets,
    /// Payload type of the newest packet that was not a retransmission.
    payload_type: Option<Pt>,
    /// Timestamp and lowest index of the newest keyframe or recovery point.
    newest: Option<(RtpTime, u64)>,
    /// Timestamp of the newest keyframe.
    newest_keyframe: Option<RtpTime>,
}

/// What one packet contributes to a picture.
#[derive(Debug, Default)]
pub(super) struct PictureNote {
    /// `Packet::keyframe`: the first packet of what may be a keyframe or a recovery point.
    pub(super) start: bool,
    pub(super) refresh: Option<Refresh>,
    pub(super) sets: Option<Arc<[u8]>>,
    /// The first packet of a keyframe.
    pub(super) begins_keyframe: bool,
    /// It belongs to the newest keyframe.
    pub(super) of_keyframe: bool,
    /// Width and height, if it contains them.
    pub(super) size: Option<(u16, u16)>,
}

impl Pictures {
    /// Takes the parameter sets that the negotiated line announces.
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

    /// What follows does not refer to the pictures so far. With `same_ssrc` it comes from the same encoder, whose parameter sets
    /// still hold.
    pub(super) fn restart(&mut self, same_ssrc: bool) {
        (self.newest, self.newest_keyframe) = (None, None);
        if !same_ssrc {
            self.sets = ParameterSets::default();
            self.payload_type = None;
        }
    }

    /// A packet in this format arrived. If the format is new, the parameter sets announced for it hold until packets bring others.
    pub(super) fn note_format(&mut self, format: ReceiveFormat) {
        if self.payload_type == Some(format.payload_type) {
            return;
        }
        self.payload_type = Some(format.payload_type);
        let of_format = |(payload_type, _): &&(Pt, Vec<u8>)| *payload_type == format.payload_type;
        if let Some((_, sets)) = self.announced.iter().find(of_format) {
            self.sets.note(format.codec, sets);
        }
    }

    /// Whether viewers can start with this packet.
    pub(super) fn may_begin(codec: Codec, payload: &[u8]) -> bool {
        keyframe::starts_keyframe(codec, payload) || refresh::refresh(codec, payload) > Some(Refresh::Intra)
    }

    /// Notes a packet. Parameter sets and the picture behind them share a timestamp: only the first packet of them is a start.
    pub(super) fn note(&mut self, codec: Codec, payload: &[u8], timestamp: RtpTime, index: u64) -> PictureNote {
        if codec.kind() == Kind::Audio {
            return PictureNote {
                start: true,
                refresh: Some(Refresh::Keyframe),
                ..PictureNote::default()
            };
        }
        let refresh = refresh::refresh(codec, payload);
        let begins = keyframe::starts_keyframe(codec, payload) || refresh > Some(Refresh::Intra);
        let mut note = PictureNote {
            refresh,
            ..PictureNote::default()
        };
        if begins {
            note.start = self
                .newest
                .is_none_or(|(newest, lowest)| newest != timestamp || index < lowest);
            if note.start {
                self.newest = Some((timestamp, index));
            }
        }
        if refresh == Some(Refresh::Keyframe) && self.newest_keyframe != Some(timestamp) {
            self.newest_keyframe = Some(timestamp);
            note.begins_keyframe = true;
        }
        note.of_keyframe = self.newest_keyframe == Some(timestamp);
        self.sets.note(codec, payload);
        if !self.sets.is_empty() && (note.start || keyframe::starts_frame(codec, payload)) {
            note.sets = self.sets.in_front_of(codec, payload);
        }
        if begins {
            let size = |payload| keyframe::picture_size(codec, payload);
            note.size = size(payload).or_else(|| size(note.sets.as_deref()?));
        }
        note
    }
}
