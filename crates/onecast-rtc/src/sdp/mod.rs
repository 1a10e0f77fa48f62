//! SDP: reads descriptions once into types that cannot be wrong, and writes our own.
//!
//! - A broadcast takes [`Offer::parse`] and [`Offer::answer`], or a [`CounterOffer`] and its [`CounterAnswer`].
//! - A room keeps a [`Negotiation`] for each member.
//!
//! All of them share the reader ([`Offer`]) and one writer. What the connection depends on (m-lines, ICE, DTLS, mids) must be right or is
//! an [`SdpError`]; an optional feature that cannot be read counts as not offered.

mod answer;
pub(crate) mod client;
mod counter_offer;
mod error;
mod extension;
mod format;
mod fragment;
mod layers;
mod media;
pub mod negotiation;
mod offer;
mod payload;
mod sprop;
mod text;
mod transport;
mod write;

use std::net::SocketAddr;

pub use answer::{Agreement, Answer};
pub use counter_offer::{CounterAnswer, CounterOffer};
pub use error::{Description, Fault, SdpError, SdpErrorKind};
pub use fragment::{Fragment, FragmentLine, FragmentParams};
pub use layers::{SendLayer, SendLayers};
pub use negotiation::{
    MemberDescription, Negotiation, NegotiationParams, ReceivedLine, SentLine, TrackId, WantedTrack,
};
pub use offer::Offer;
pub use sprop::announced_parameter_sets;

use crate::rtp::{Codec, Kind, Mid, Pt, Ssrc};
use crate::{Fingerprint, IceCredentials};

/// The client's role in a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends; the answer is `recvonly`.
    Publisher,
    /// It receives these SSRCs; the answer is `sendonly`.
    Viewer(TrackSsrcs),
}

/// The server's side of a broadcast session, for its answer or counter-offer.
#[derive(Debug, Clone)]
pub struct AnswerParams<'a> {
    /// The server's ICE credentials for this session.
    pub ice: &'a IceCredentials,
    /// Fingerprint of the process's certificate.
    pub fingerprint: Fingerprint,
    /// All candidates of the server, best first. IPv4-mapped addresses are written as IPv4.
    pub candidates: &'a [SocketAddr],
    /// `o=` session id.
    pub session_id: u64,
    /// The stream's name: `a=msid` towards viewers.
    pub stream: &'a str,
}

/// SSRCs of the tracks of a broadcast, the same for all viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackSsrcs {
    /// Video.
    pub video: Ssrc,
    /// RTX (RFC 4588) of the video.
    pub video_rtx: Ssrc,
    /// Audio.
    pub audio: Ssrc,
}

/// One payload type that both sides can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The encoding.
    pub codec: Codec,
    /// Payload type in the offer, which the answer keeps.
    pub payload_type: Pt,
    /// Payload type of its RTX, if negotiated.
    pub rtx: Option<Pt>,
    /// `a=fmtp` as offered (without the payload type), empty if none.
    pub fmtp: Box<str>,
    /// Generic NACK was negotiated.
    pub nack: bool,
    /// PLI was negotiated.
    pub pli: bool,
    /// Transport-wide congestion control feedback was negotiated.
    pub transport_cc: bool,
}

/// Header-extension ids of one m-line (RFC 8285): 1..=14, or up to 255 with two-byte headers. `None` when not negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: Option<u8>,
    /// `urn:3gpp:video-orientation`
    pub video_orientation: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    pub abs_capture_time: Option<u8>,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    pub dependency_descriptor: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464); from publishers only.
    pub audio_level: Option<u8>,
}

/// One accepted m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// Audio or video.
    pub kind: Kind,
    /// `a=mid`.
    pub mid: Mid,
    /// What both sides can carry, in the client's order of preference. Never empty.
    pub formats: Vec<Format>,
    /// Negotiated header extensions.
    pub extensions: ExtensionIds,
    /// Main SSRC that a publisher announced (`a=ssrc`, first of `ssrc-group:FID`), if it did.
    pub ssrc: Option<Ssrc>,
    /// RTX SSRC that a publisher announced (second of `ssrc-group:FID`).
    pub rtx_ssrc: Option<Ssrc>,
    /// The encodings that a publisher sends, if layers were accepted.
    pub layers: Option<SendLayers>,
}

/// What was agreed: at most one audio and one video line, at least one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The audio line.
    pub audio: Option<MediaLine>,
    /// The video line.
    pub video: Option<MediaLine>,
}

/// Longest description of a broadcast that is read, bytes. Offers of browsers are 3 to 12 KB.
pub const MAX_SDP_BYTES: usize = 256 * 1024;

/// Most m-lines that are read. One audio and one video line can be used.
pub const MAX_MEDIA_LINES: usize = 64;

/// Most payload types of all audio and video lines together. An RTP session has 128, browsers list under 50.
pub const MAX_PAYLOAD_TYPES: usize = 256;

/// Longest description of one member of a room, bytes: browsers list all their codecs in each line, 3.5 KB for video and 1 KB for audio,
/// and in a room of 100 there are 99 lines of each.
pub const MAX_CALL_SDP_BYTES: usize = 1024 * 1024;

/// Most m-lines between the server and one member of a room: audio and video of 99 others, its own, and dead lines.
pub const MAX_CALL_LINES: usize = 256;

/// Most payload types of all m-lines of one member of a room together: browsers list up to 50 in a line.
pub const MAX_CALL_PAYLOAD_TYPES: usize = 64 * MAX_CALL_LINES;

/// Longest stream id of `a=msid` (RFC 8830 section 2). Browsers use 36 bytes.
const MAX_STREAM_ID_BYTES: usize = 64;

#[cfg(test)]
mod tests;
