//! A received packet on its way through ingest, and the negotiated format that it is in.

use std::time::Instant;

use onecast_rtc::rtp::{Codec, Pt, RtpHeader, Ssrc};
use onecast_rtc::sdp::Format;

/// A decrypted packet whose payload type is known.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) now: Instant,
    pub(super) header: &'a RtpHeader,
    /// The whole packet in clear; header extensions are read from it.
    pub(super) clear: &'a [u8],
    /// Without padding.
    pub(super) payload: &'a [u8],
    pub(super) format: ReceiveFormat,
}

/// What ingest needs of a negotiated format.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveFormat {
    pub(super) codec: Codec,
    pub(super) payload_type: Pt,
    pub(super) nack: bool,
    pub(super) keyframe_feedback: KeyframeFeedback,
}

/// How the publisher wants to be asked for a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyframeFeedback {
    Pli,
    Fir,
    None,
}

impl<'a> Incoming<'a> {
    /// The text in a header extension.
    pub(super) fn text(&self, id: u8) -> Option<&'a str> {
        std::str::from_utf8(self.extension(id)?).ok()
    }

    /// The value of a header extension.
    pub(super) fn extension(&self, id: u8) -> Option<&'a [u8]> {
        let mut extensions = self.header.extensions(self.clear);
        extensions.find_map(|(known, value)| (known == id).then_some(value))
    }

    pub(super) fn ssrc(&self) -> Ssrc {
        self.header.ssrc
    }
}

impl ReceiveFormat {
    /// `fir`: the line negotiated `ccm fir`, which is used for formats without PLI.
    pub(super) fn new(format: &Format, fir: bool) -> ReceiveFormat {
        ReceiveFormat {
            codec: format.codec,
            payload_type: format.payload_type,
            nack: format.nack,
            keyframe_feedback: match (format.pli, fir) {
                (true, _) => KeyframeFeedback::Pli,
                (false, true) => KeyframeFeedback::Fir,
                (false, false) => KeyframeFeedback::None,
            },
        }
    }
}
