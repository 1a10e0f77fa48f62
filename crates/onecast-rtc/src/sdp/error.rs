//! Why a session description was refused, in words for the person who sent it.

use std::fmt;

use super::counter_offer::{AUDIO_MID, VIDEO_MID};
use super::negotiation::MAX_SENDING_LINES;
use crate::rtp::{Kind, Mid, Pt};

/// A description that was refused. `Display` says what is wrong with it in one sentence, [`SdpError::hint`] what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SdpError {
    /// Which text it is.
    pub description: Description,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Which of the client's texts is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Description {
    /// It asks.
    Offer,
    /// It replies to an offer of the server.
    Answer,
}

/// How an error differs from others for a caller: what to reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdpErrorKind {
    /// The text was not understood (HTTP 400).
    Malformed,
    /// The text was understood, but cannot be used (HTTP 422).
    Unusable,
    /// It is not this text's turn, whatever it says. Rooms check the turn first and reply with HTTP 409; what comes this far is
    /// refused like [`Unusable`](Self::Unusable).
    OutOfTurn,
}

/// What is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing but white space.
    Empty,
    /// More than [`MAX_SDP_BYTES`](super::MAX_SDP_BYTES), or [`MAX_CALL_SDP_BYTES`](super::MAX_CALL_SDP_BYTES) in a room.
    TooLong {
        /// Length of the text, bytes.
        len: usize,
        /// The most that is read, bytes.
        limit: usize,
    },
    /// The text does not begin with `v=0`.
    NotSdp,
    /// A line that is not `x=value`, or one with control characters.
    BadLine {
        /// Counted from 1.
        line: usize,
    },
    /// An `m=` line whose media, port, protocol or formats cannot be read.
    BadMediaLine {
        /// Counted from 1.
        line: usize,
    },
    /// An attribute that the connection depends on cannot be read.
    BadAttribute {
        /// Counted from 1.
        line: usize,
        /// Name of the attribute.
        name: &'static str,
    },
    /// Two m-lines have one mid.
    DuplicateMid {
        /// The mid.
        mid: Mid,
    },
    /// More than [`MAX_MEDIA_LINES`](super::MAX_MEDIA_LINES), or [`MAX_CALL_LINES`](super::MAX_CALL_LINES) in a room.
    TooManyMediaLines {
        /// The most that are read.
        limit: usize,
    },
    /// More than [`MAX_PAYLOAD_TYPES`](super::MAX_PAYLOAD_TYPES), or [`MAX_CALL_PAYLOAD_TYPES`](super::MAX_CALL_PAYLOAD_TYPES) in a
    /// room.
    TooManyPayloadTypes {
        /// The most that are read.
        limit: usize,
    },

    /// No audio or video line at all, or only disabled ones.
    NoMedia,
    /// `m=application` and nothing else.
    OnlyDataChannel,
    /// More than one audio or more than one video line in a broadcast.
    TooManyTracks {
        /// Audio lines in use.
        audio: usize,
        /// Video lines in use.
        video: usize,
    },
    /// Audio and video on two transports.
    NotBundled,
    /// RTCP on a port of its own.
    NoRtcpMux {
        /// Kind of the line.
        kind: Kind,
    },
    /// No `a=ice-ufrag` or no `a=ice-pwd`.
    NoIceCredentials,
    /// The client is ICE-lite like the server, so neither side would send checks.
    BothIceLite,
    /// No `a=fingerprint`.
    NoFingerprint,
    /// Fingerprints, but none with SHA-256, SHA-384 or SHA-512.
    NoKnownFingerprint {
        /// Hash function of the first one.
        offered: Box<str>,
    },
    /// Nothing for a publisher to send.
    CannotSend,
    /// Nothing for a viewer to receive.
    CannotReceive,
    /// No codec in common.
    NoCommonCodec {
        /// Kind of the line.
        kind: Kind,
        /// Encoding names that the client lists, separated by `, `.
        offered: Box<str>,
        /// Encoding names that this server carries, separated by `, `.
        carried: Box<str>,
    },
    /// The lines of an answer are not those of the counter-offer (RFC 3264 section 6).
    NotOurLines,

    /// A line in use without a mid, in a room.
    NoMid {
        /// Counted from 1.
        place: usize,
    },
    /// Not as many lines as were agreed (RFC 3264 sections 6 and 8).
    LineCount {
        /// Those it has.
        lines: usize,
        /// Those it must have; an offer may have more.
        expected: usize,
    },
    /// A line that is not the one at this place (RFC 3264 sections 6 and 8).
    OtherLine {
        /// Counted from 1.
        place: usize,
        /// Kind of the line that was agreed.
        media: Box<str>,
        /// Its mid.
        mid: Mid,
    },
    /// A payload type of a running line has another meaning now, or is gone (RFC 3264 section 8.3.2).
    ChangedCodecs {
        /// The line.
        mid: Mid,
        /// One that was agreed.
        payload_type: Pt,
        /// Encoding name.
        was: &'static str,
    },
    /// RFC 8843 section 9.1: payload types distinguish the lines of one transport.
    AmbiguousPayloadType {
        /// The number.
        payload_type: Pt,
    },
    /// More lines that send than [`MAX_SENDING_LINES`].
    TooManySending {
        /// Those it has.
        lines: usize,
    },
    /// An answer came, and no offer of the server waits for one.
    NoOfferPending,
    /// An offer came, and one of the server waits for its answer: the server's wins.
    OfferPending,
}

impl SdpError {
    /// What to reply.
    pub fn kind(&self) -> SdpErrorKind {
        self.advice().0
    }

    /// What to do about it, one sentence; `None` where the message says it all.
    pub fn hint(&self) -> Option<&'static str> {
        self.advice().1
    }

    /// Whether the text was understood (HTTP 422), as opposed to not understood (HTTP 400).
    pub fn is_unusable(&self) -> bool {
        self.kind() != SdpErrorKind::Malformed
    }

    /// What the client offers and what the server carries, when they have no codec in common: encoding names.
    pub fn codecs(&self) -> Option<(Vec<&str>, Vec<&str>)> {
        match &self.fault {
            Fault::NoCommonCodec { offered, carried, .. } => {
                Some((offered.split(", ").collect(), carried.split(", ").collect()))
            }
            _ => None,
        }
    }

    /// The one table of faults: what kind of error each is, and the hint.
    fn advice(&self) -> (SdpErrorKind, Option<&'static str>) {
        use SdpErrorKind::{Malformed, OutOfTurn, Unusable};
        let is_answer = self.description == Description::Answer;
        let unusable = |hint| (Unusable, Some(if is_answer { FROM_THE_CLIENT } else { hint }));
        match self.fault {
            Fault::Empty | Fault::NotSdp => (
                Malformed,
                Some("Send the text of RTCSessionDescription.sdp; it begins with v=0 and has real line breaks."),
            ),
            Fault::BadLine { .. } | Fault::BadMediaLine { .. } => (
                Malformed,
                Some("Send the offer exactly as the client made it; it may have been cut or changed on the way."),
            ),
            Fault::TooLong { .. }
            | Fault::BadAttribute { .. }
            | Fault::DuplicateMid { .. }
            | Fault::TooManyMediaLines { .. }
            | Fault::TooManyPayloadTypes { .. } => (Malformed, None),
            Fault::NoMedia => unusable("Add a track or a transceiver for audio or video before creating the offer."),
            Fault::OnlyDataChannel => unusable(
                "Add a track, or call addTransceiver('video', {direction: 'recvonly'}) to watch, before createOffer().",
            ),
            Fault::TooManyTracks { .. } => {
                unusable("Offer one audio and one video track; use simulcast for several sizes.")
            }
            Fault::NotBundled => unusable("Use bundlePolicy 'max-bundle' and give every m= line an a=mid."),
            Fault::NoRtcpMux { .. } => unusable("Use rtcpMuxPolicy 'require'."),
            Fault::NoIceCredentials | Fault::NoFingerprint => {
                unusable("Send an offer made by a WebRTC client; plain RTP descriptions cannot be used.")
            }
            Fault::BothIceLite => unusable("Use full ICE in the client."),
            Fault::NoKnownFingerprint { .. } => unusable("Add a sha-256 fingerprint of the certificate."),
            Fault::CannotSend => {
                unusable("To publish, add tracks with direction sendonly; to watch, use the watching address instead.")
            }
            Fault::CannotReceive => unusable(
                "To watch, add transceivers with direction recvonly; to publish, use the publishing address instead.",
            ),
            Fault::NoCommonCodec { .. } if is_answer => {
                (Unusable, Some("Enable one of the codecs of the offer in the client."))
            }
            Fault::NoCommonCodec { .. } => (
                Unusable,
                Some("Enable one of the codecs this server carries in the client."),
            ),
            Fault::NotOurLines => (Unusable, Some(FROM_THE_CLIENT)),
            Fault::LineCount { .. } | Fault::OtherLine { .. } => {
                unusable("Send the offer of the connection that joined; a new connection has to join the room again.")
            }
            Fault::NoMid { .. } => (Unusable, Some("Give every m= line an a=mid; every WebRTC client does.")),
            Fault::ChangedCodecs { .. } => (
                Unusable,
                Some("Keep the codecs of a running line; send other codecs on a line of their own."),
            ),
            Fault::AmbiguousPayloadType { .. } => (
                Unusable,
                Some("Use one payload type for one codec in all lines of the connection."),
            ),
            Fault::TooManySending { .. } => (Unusable, Some("Stop a track before you add another one.")),
            Fault::NoOfferPending => (
                OutOfTurn,
                Some("Answer each offer of the server once; ask for the next one."),
            ),
            Fault::OfferPending => (
                OutOfTurn,
                Some("Roll back, answer the server's offer, then offer again."),
            ),
        }
    }
}

impl Fault {
    /// The fault of this text.
    pub(super) fn of(self, description: Description) -> SdpError {
        SdpError {
            description,
            fault: self,
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.description;
        match &self.fault {
            Fault::Empty => f.write_str("the SDP is empty"),
            Fault::TooLong { len, limit } => write!(f, "the SDP is {len} bytes long, the limit is {limit}"),
            Fault::NotSdp => f.write_str("this is not SDP: it does not begin with v=0"),
            Fault::BadLine { line } => write!(f, "line {line} of the SDP is not of the form x=value"),
            Fault::BadMediaLine { line } => write!(
                f,
                "line {line} of the SDP is an m= line that cannot be read (media, port, protocol, payload types)"
            ),
            Fault::BadAttribute { line, name } => {
                write!(f, "line {line} of the SDP: the value of a={name} is not valid")
            }
            Fault::DuplicateMid { mid } => write!(f, "two m= lines have the same a=mid:{mid}"),
            Fault::TooManyMediaLines { limit } => write!(f, "the SDP has more than {limit} m= lines"),
            Fault::TooManyPayloadTypes { limit } => write!(f, "the SDP lists more than {limit} payload types"),
            Fault::NoMedia => write!(f, "the {what} has no audio and no video line"),
            Fault::OnlyDataChannel => write!(
                f,
                "the {what} has only a data channel; this server carries audio and video"
            ),
            Fault::TooManyTracks { audio, video } => write!(
                f,
                "the {what} has {audio} audio and {video} video lines; at most one of each is taken"
            ),
            Fault::NotBundled => {
                f.write_str("audio and video are not in one BUNDLE group; this server uses one transport for both")
            }
            Fault::NoRtcpMux { kind } => write!(
                f,
                "the {kind} line has no a=rtcp-mux; this server receives RTP and RTCP on one port"
            ),
            Fault::NoIceCredentials => {
                write!(f, "the {what} has no ICE credentials (a=ice-ufrag and a=ice-pwd)")
            }
            Fault::BothIceLite => write!(
                f,
                "the {what} says a=ice-lite; the server is ICE-lite too, so neither side would send checks"
            ),
            Fault::NoFingerprint => write!(
                f,
                "the {what} has no a=fingerprint, so its DTLS certificate could not be verified"
            ),
            Fault::NoKnownFingerprint { offered } => write!(
                f,
                "the {what} has no sha-256, sha-384 or sha-512 fingerprint, only {offered}"
            ),
            Fault::CannotSend => write!(
                f,
                "no audio or video line of the {what} can send (a=sendonly or a=sendrecv)"
            ),
            Fault::CannotReceive => write!(
                f,
                "no audio or video line of the {what} can receive (a=recvonly or a=sendrecv)"
            ),
            Fault::NoCommonCodec { kind, offered, carried } => write!(
                f,
                "no common {kind} codec: the {what} has {offered}; this server carries {carried}"
            ),
            Fault::NotOurLines => write!(
                f,
                "the answer's m= lines are not those of the offer: audio with a=mid:{AUDIO_MID}, then video with \
                 a=mid:{VIDEO_MID}"
            ),
            Fault::NoMid { place } => write!(f, "m= line {place} of the {what} has no a=mid"),
            Fault::LineCount { lines, expected } => write!(
                f,
                "the {what} has {lines} m= lines where {expected} are agreed; lines are never taken away"
            ),
            Fault::OtherLine { place, media, mid } => write!(
                f,
                "m= line {place} of the {what} has to be the {media} line with a=mid:{mid}; lines keep place, mid and \
                 kind"
            ),
            Fault::ChangedCodecs { mid, payload_type, was } => write!(
                f,
                "the {what} changes codecs of m-line mid {mid}: payload type {payload_type} no longer means {was}"
            ),
            Fault::AmbiguousPayloadType { payload_type } => write!(
                f,
                "payload type {payload_type} of the {what} means different codecs on different m= lines"
            ),
            Fault::TooManySending { lines } => {
                write!(f, "the {what} sends on {lines} lines, the limit is {MAX_SENDING_LINES}")
            }
            Fault::NoOfferPending => f.write_str("no offer waits for an answer"),
            Fault::OfferPending => f.write_str("an offer of the server waits for its answer"),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Description::Offer => "offer",
            Description::Answer => "answer",
        })
    }
}

/// For answers that a client's own createAnswer() would not have made.
const FROM_THE_CLIENT: &str =
    "Give the offer to setRemoteDescription() and send what createAnswer() makes, unchanged and whole.";
