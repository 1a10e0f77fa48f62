//! Why an offer was not taken, in words for the person who sent it.

use crate::rtp::Kind;

/// One variant per thing the client can do something about. `Display` is one sentence; [`SdpError::hint`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Nothing but white space.
    #[error("the SDP is empty")]
    Empty,
    /// More than [`super::MAX_SDP_BYTES`], or [`super::MAX_CALL_SDP_BYTES`].
    #[error("the SDP is {len} bytes long, the limit is {limit}")]
    TooLong {
        /// Length of the text, bytes.
        len: usize,
        /// The most that is read, bytes.
        limit: usize,
    },
    /// The text does not begin with `v=0`.
    #[error("this is not SDP: it does not begin with v=0")]
    NotSdp,
    /// A line that is not `x=value`, or one with control characters.
    #[error("line {line} of the SDP is not of the form x=value")]
    BadLine {
        /// Counted from 1.
        line: usize,
    },
    /// An `m=` line whose media, port, protocol or formats cannot be read.
    #[error("line {line} of the SDP is an m= line that cannot be read (media, port, protocol, payload types)")]
    BadMediaLine {
        /// Counted from 1.
        line: usize,
    },
    /// An attribute the connection depends on cannot be read.
    #[error("line {line} of the SDP: the value of a={name} is not valid")]
    BadAttribute {
        /// Counted from 1.
        line: usize,
        /// Name of the attribute.
        name: &'static str,
    },
    /// Two m-lines have one name.
    #[error("two m= lines have the same a=mid:{mid}")]
    DuplicateMid {
        /// The name.
        mid: Box<str>,
    },
    /// More than [`super::MAX_MEDIA_LINES`], or [`super::MAX_CALL_LINES`].
    #[error("the SDP has more than {limit} m= lines")]
    TooManyMediaLines {
        /// The most that are read.
        limit: usize,
    },
    /// More than [`super::MAX_PAYLOAD_TYPES`], or [`super::MAX_CALL_PAYLOAD_TYPES`].
    #[error("the SDP lists more than {limit} payload types")]
    TooManyPayloadTypes {
        /// The most that are read.
        limit: usize,
    },

    /// No audio or video line at all, or only disabled ones.
    #[error("the offer has no audio and no video line")]
    NoMedia,
    /// `m=application` and nothing else.
    #[error("the offer has only a data channel; this server carries audio and video")]
    OnlyDataChannel,
    /// More than one audio or more than one video line.
    #[error("the offer has {audio} audio and {video} video lines; at most one of each is taken")]
    TooManyTracks {
        /// Audio lines in use.
        audio: usize,
        /// Video lines in use.
        video: usize,
    },
    /// Audio and video on two transports.
    #[error("audio and video are not in one BUNDLE group; this server uses one transport for both")]
    NotBundled,
    /// RTCP on a port of its own.
    #[error("the {kind} line has no a=rtcp-mux; this server receives RTP and RTCP on one port")]
    NoRtcpMux {
        /// The line.
        kind: Kind,
    },
    /// No `a=ice-ufrag` or no `a=ice-pwd`.
    #[error("the offer has no ICE credentials (a=ice-ufrag and a=ice-pwd)")]
    NoIceCredentials,
    /// The client is ICE-lite like the server: nobody would begin.
    #[error("the offer says a=ice-lite; the server is ICE-lite too, so nobody would send the first check")]
    BothIceLite,
    /// No `a=fingerprint`.
    #[error("the offer has no a=fingerprint, so its DTLS certificate could not be verified")]
    NoFingerprint,
    /// Fingerprints, but none with SHA-256, SHA-384 or SHA-512.
    #[error("the offer has no sha-256, sha-384 or sha-512 fingerprint, only {offered}")]
    NoKnownFingerprint {
        /// Hash function of the first one.
        offered: Box<str>,
    },
    /// Nothing for a publisher to send.
    #[error("no audio or video line of the offer can send (a=sendonly or a=sendrecv)")]
    CannotSend,
    /// Nothing for a viewer to receive.
    #[error("no audio or video line of the offer can receive (a=recvonly or a=sendrecv)")]
    CannotReceive,
    /// No codec in common.
    #[error("no common {kind} codec: the offer has {offered}; this server carries {carried}")]
    NoCommonCodec {
        /// The line.
        kind: Kind,
        /// Encoding names in the offer.
        offered: Box<str>,
        /// Encoding names this server carries.
        carried: Box<str>,
    },
}

impl SdpError {
    /// Whether the SDP was understood but cannot be used (HTTP 422), as opposed to not understood (HTTP 400).
    pub fn is_unusable(&self) -> bool {
        match self {
            SdpError::Empty
            | SdpError::TooLong { .. }
            | SdpError::NotSdp
            | SdpError::BadLine { .. }
            | SdpError::BadMediaLine { .. }
            | SdpError::BadAttribute { .. }
            | SdpError::DuplicateMid { .. }
            | SdpError::TooManyMediaLines { .. }
            | SdpError::TooManyPayloadTypes { .. } => false,
            SdpError::NoMedia
            | SdpError::OnlyDataChannel
            | SdpError::TooManyTracks { .. }
            | SdpError::NotBundled
            | SdpError::NoRtcpMux { .. }
            | SdpError::NoIceCredentials
            | SdpError::BothIceLite
            | SdpError::NoFingerprint
            | SdpError::NoKnownFingerprint { .. }
            | SdpError::CannotSend
            | SdpError::CannotReceive
            | SdpError::NoCommonCodec { .. } => true,
        }
    }

    /// What to do about it, one sentence; `None` where the message says it all.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            SdpError::Empty | SdpError::NotSdp => {
                "Send the text of RTCSessionDescription.sdp; it begins with v=0 and has real line breaks."
            }
            SdpError::BadLine { .. } | SdpError::BadMediaLine { .. } => {
                "Send the offer exactly as the client made it; it may have been cut or changed on the way."
            }
            SdpError::NoMedia => "Add a track or a transceiver for audio or video before creating the offer.",
            SdpError::OnlyDataChannel => {
                "Add a track, or call addTransceiver('video', {direction: 'recvonly'}) to watch, before createOffer()."
            }
            SdpError::TooManyTracks { .. } => "Offer one audio and one video track; use simulcast for several sizes.",
            SdpError::NotBundled => "Use bundlePolicy 'max-bundle' and give every m= line an a=mid.",
            SdpError::NoRtcpMux { .. } => "Use rtcpMuxPolicy 'require'.",
            SdpError::NoIceCredentials | SdpError::NoFingerprint => {
                "Send an offer made by a WebRTC client; plain RTP descriptions cannot be used."
            }
            SdpError::BothIceLite => "Use full ICE in the client.",
            SdpError::NoKnownFingerprint { .. } => "Add a sha-256 fingerprint of the certificate.",
            SdpError::CannotSend => {
                "To publish, add tracks with direction sendonly; to watch, use the watching address instead."
            }
            SdpError::CannotReceive => {
                "To watch, add transceivers with direction recvonly; to publish, use the publishing address instead."
            }
            SdpError::NoCommonCodec { .. } => "Enable one of the codecs this server carries in the client.",
            SdpError::TooLong { .. }
            | SdpError::BadAttribute { .. }
            | SdpError::DuplicateMid { .. }
            | SdpError::TooManyMediaLines { .. }
            | SdpError::TooManyPayloadTypes { .. } => return None,
        })
    }
}
