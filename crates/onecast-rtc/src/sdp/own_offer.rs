//! An offer of our own to a viewer that asked for one (the counter-offer of WHEP), and the reading of its answer.
//!
//! It offers everything that a publisher may send, because the viewer stays while publishers and their codecs change. The answer is
//! read as an offer is: it too says what the client can receive, under its own payload types.

use std::fmt::{self, Write};

use super::answer;
use super::extension::{Extension, Extmap};
use super::media::MediaSection;
use super::negotiate::{self, Chosen};
use super::{AnswerParams, Format, Negotiated, Offer, Role, SdpError, TrackSsrcs};
use crate::RemoteTransport;
use crate::rtp::{Codec, Kind};

/// What is sent to a viewer, offered.
#[derive(Debug, Clone, Copy)]
pub struct OwnOffer<'a> {
    /// Our side of the connection.
    pub params: &'a AnswerParams<'a>,
    /// What the viewer will be sent.
    pub ssrcs: TrackSsrcs,
    /// Codecs that the publisher sends at this moment, which come first.
    pub live: &'a [Codec],
}

/// The answer to an [`OwnOffer`].
#[derive(Debug, Clone)]
pub struct OwnAnswer {
    /// What ICE and DTLS need to know of the client.
    pub remote: RemoteTransport,
    /// What was agreed.
    pub negotiated: Negotiated,
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The SDP itself is at fault.
    #[error("{}", of_answer(.0))]
    Sdp(SdpError),
    /// Its m-lines are not those of the offer (RFC 3264 section 6).
    #[error(
        "the answer's m= lines are not those of the offer: audio with a=mid:{AUDIO_MID}, then video with a=mid:{VIDEO_MID}"
    )]
    OtherLines,
}

impl OwnOffer<'_> {
    /// The text, lines end with CRLF. Its length does not depend on the client.
    pub fn write(&self) -> String {
        let mut sdp = String::with_capacity(TYPICAL_BYTES);
        self.write_to(&mut sdp).expect("a String takes all that is written");
        sdp
    }

    fn write_to(&self, out: &mut String) -> fmt::Result {
        // RFC 9429 section 5.2.1: the session id is a positive 63-bit number.
        let session_id = self.params.session_id & i64::MAX as u64;
        write!(out, "v=0\r\no=- {session_id} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")?;
        write!(out, "a=group:BUNDLE {AUDIO_MID} {VIDEO_MID}\r\n")?;
        out.write_str("a=extmap-allow-mixed\r\na=ice-lite\r\na=ice-options:trickle ice2\r\n")?;
        self.media(out, Kind::Audio)?;
        self.media(out, Kind::Video)
    }

    fn media(&self, out: &mut String, kind: Kind) -> fmt::Result {
        let formats = self.formats(kind);
        answer::write_media(out, media(kind), PROTOCOL, &formats)?;
        write!(out, "a=mid:{}\r\n", mid(kind))?;
        answer::write_transport(out, self.params.ice, self.params.fingerprint, "actpass")?;
        out.write_str("a=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n")?;
        for (extension, id) in EXTENSIONS.iter().filter(|(extension, _)| is_of(*extension, kind)) {
            let extmap = Extmap {
                id: *id,
                direction: None,
            };
            answer::write_extension(out, *extension, extmap)?;
        }
        for chosen in &formats {
            answer::write_format(out, chosen)?;
        }
        let has_rtx = formats.iter().any(|chosen| chosen.format.rtx.is_some());
        answer::write_source(out, self.params.stream, kind, self.ssrcs, has_rtx)?;
        match kind {
            Kind::Audio => answer::candidates(out, self.params.candidates),
            Kind::Video => Ok(()),
        }
    }

    /// Those of the table, the publisher's first.
    fn formats(&self, kind: Kind) -> Vec<Chosen> {
        let of_kind = FORMATS.iter().filter(|(codec, ..)| codec.kind() == kind);
        let mut formats: Vec<Chosen> = of_kind.map(|&format| chosen(format)).collect();
        // Stable: the order of the table stays on both sides.
        formats.sort_by_key(|chosen| !self.live.contains(&chosen.format.codec));
        formats
    }
}

impl OwnAnswer {
    /// Reads the answer of a client.
    ///
    /// # Errors
    /// What is wrong with the text, that it does not belong to our offer, or that nothing of what we send can be received.
    pub fn parse(text: &str) -> Result<OwnAnswer, AnswerError> {
        let answer = Offer::parse(text).map_err(AnswerError::Sdp)?;
        if !are_ours(&answer.lines) {
            return Err(AnswerError::OtherLines);
        }
        // What flows does not depend on the numbers of what is sent.
        let role = Role::Viewer(NO_SSRCS);
        let accepted = answer.lines.iter().map(|section| negotiate::negotiate(section, role));
        let accepted = accepted.collect::<Result<Vec<_>, _>>().map_err(AnswerError::Sdp)?;
        if !accepted.iter().flatten().any(|line| line.flows) {
            return Err(AnswerError::Sdp(SdpError::CannotReceive));
        }
        let negotiated = answer::agreed(accepted, role);
        Ok(OwnAnswer {
            remote: answer.remote().clone(),
            negotiated,
        })
    }
}

impl AnswerError {
    /// Whether the answer was understood but cannot be used (HTTP 422), as opposed to not understood (HTTP 400).
    pub fn is_unusable(&self) -> bool {
        match self {
            AnswerError::Sdp(error) => error.is_unusable(),
            AnswerError::OtherLines => true,
        }
    }

    /// What to do about it, one sentence; `None` where the message says it all.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            AnswerError::Sdp(SdpError::NoCommonCodec { .. }) => {
                Some("Enable one of the codecs of the offer in the client.")
            }
            AnswerError::Sdp(error) if error.is_unusable() => Some(FROM_THE_CLIENT),
            AnswerError::Sdp(error) => error.hint(),
            AnswerError::OtherLines => Some(FROM_THE_CLIENT),
        }
    }
}

/// The words are those for offers, since the reader is the same.
fn of_answer(error: &SdpError) -> String {
    error.to_string().replace("the offer", "the answer")
}

/// An answer has as many lines as the offer, in its order (RFC 3264 section 6). One that is rejected may say less of itself.
fn are_ours(lines: &[MediaSection]) -> bool {
    let ours = [Kind::Audio, Kind::Video];
    lines.len() == ours.len()
        && lines.iter().zip(ours).all(|(line, kind)| {
            let named = line.mid.as_deref().map_or(line.kind.is_none(), |its| its == mid(kind));
            named && &*line.media == media(kind)
        })
}

pub(super) fn chosen((codec, payload_type, rtx, fmtp): TableFormat) -> Chosen {
    let is_video = codec.kind() == Kind::Video;
    Chosen {
        format: Format {
            codec,
            payload_type,
            rtx,
            fmtp: fmtp.into(),
            nack: is_video,
            pli: is_video,
            transport_cc: false,
        },
        fir: is_video,
    }
}

pub(super) fn is_of(extension: Extension, kind: Kind) -> bool {
    kind == Kind::Video || extension == Extension::AbsCaptureTime
}

const fn mid(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => AUDIO_MID,
        Kind::Video => VIDEO_MID,
    }
}

pub(super) const fn media(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

pub(super) type TableFormat = (Codec, u8, Option<u8>, &'static str);

/// Everything that is carried, under the payload types and with the parameters that browsers use themselves: the profiles of H264
/// and VP9 are formats of their own, and a browser takes those that it can decode.
pub(super) const FORMATS: [TableFormat; 10] = [
    (Codec::Opus, 111, None, "minptime=10;useinbandfec=1"),
    (Codec::Vp8, 96, Some(97), ""),
    (
        Codec::H264,
        102,
        Some(103),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ),
    (
        Codec::H264,
        104,
        Some(105),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
    ),
    (
        Codec::H264,
        106,
        Some(107),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
    ),
    (Codec::Vp9, 98, Some(99), "profile-id=0"),
    (Codec::Vp9, 100, Some(101), "profile-id=2"),
    (Codec::Av1, 45, Some(46), "level-idx=5;profile=0;tier=0"),
    (
        Codec::H265,
        49,
        Some(50),
        "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
    ),
    (
        Codec::H265,
        51,
        Some(52),
        "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST",
    ),
];
/// Those that are passed on to viewers. One id means one extension in the whole bundle (RFC 8843 section 7).
pub(super) const EXTENSIONS: [(Extension, u8); 3] = [
    (Extension::AbsCaptureTime, 1),
    (Extension::VideoOrientation, 2),
    (Extension::DependencyDescriptor, 3),
];
const AUDIO_MID: &str = "0";
const VIDEO_MID: &str = "1";
/// RFC 9429 section 5.1.2: of all lines of an offer.
pub(super) const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
const NO_SSRCS: TrackSsrcs = TrackSsrcs {
    video: 0,
    video_rtx: 0,
    audio: 0,
};
pub(super) const FROM_THE_CLIENT: &str =
    "Give the offer to setRemoteDescription() and send what createAnswer() makes, unchanged and whole.";
/// It is 3.5 KB with one candidate.
const TYPICAL_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{DtlsRole, Fingerprint, IceCredentials};

    const SSRCS: TrackSsrcs = TrackSsrcs {
        video: 1001,
        video_rtx: 1002,
        audio: 1003,
    };

    fn offer(live: &[Codec]) -> String {
        let ice = IceCredentials {
            ufrag: "ours".into(),
            pwd: "ourpasswordisalittlelong".into(),
        };
        let candidates: [SocketAddr; 1] = ["192.0.2.7:8080".parse().unwrap()];
        let params = AnswerParams {
            ice: &ice,
            fingerprint: Fingerprint([0xAB; 32]),
            candidates: &candidates,
            session_id: 42,
            stream: "live",
        };
        OwnOffer {
            params: &params,
            ssrcs: SSRCS,
            live,
        }
        .write()
    }

    /// What a client that takes everything answers.
    fn answer() -> String {
        offer(&[])
            .replace("a=ice-lite\r\n", "")
            .replace("a=sendonly", "a=recvonly")
            .replace("a=setup:actpass", "a=setup:active")
    }

    fn payload_types(sdp: &str, media: &str) -> Vec<u8> {
        let line = sdp
            .lines()
            .find(|line| line.starts_with(&format!("m={media}")))
            .unwrap();
        line.split(' ').skip(3).map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn the_offer_is_one_that_can_be_read_and_names_every_payload_type_once() {
        let sdp = offer(&[]);
        assert!(
            sdp.starts_with("v=0\r\n") && sdp.lines().all(|line| line.len() > 2),
            "{sdp}"
        );
        assert_eq!(sdp.matches("a=sendonly\r\n").count(), 2);
        assert_eq!(sdp.matches("a=candidate:").count(), 1);
        assert!(sdp.contains("a=ssrc-group:FID 1001 1002\r\na=ssrc:1001 ") && sdp.contains("a=ssrc:1003 "));
        let mut all = [payload_types(&sdp, "audio"), payload_types(&sdp, "video")].concat();
        all.sort_unstable();
        // RFC 5761 section 4: 64 to 95 would be taken for RTCP.
        assert!(all.iter().all(|number| *number < 64 || *number >= 96));
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(Offer::parse(&sdp.replace("a=ice-lite\r\n", "")).unwrap().can_send());
    }

    #[test]
    fn every_codec_is_offered_and_the_publishers_come_first() {
        for codec in Codec::ALL {
            assert!(FORMATS.iter().any(|(known, ..)| *known == codec), "{codec}");
        }
        assert_eq!(payload_types(&offer(&[]), "video")[..2], [96, 97]);
        let h264 = payload_types(&offer(&[Codec::Opus, Codec::H264]), "video");
        assert_eq!(h264[..8], [102, 103, 104, 105, 106, 107, 96, 97]);
    }

    #[test]
    fn the_answer_of_a_client_says_what_it_takes() {
        let answer = OwnAnswer::parse(&answer()).unwrap();
        assert_eq!(answer.remote.role, DtlsRole::Server);
        let (audio, video) = (answer.negotiated.audio.unwrap(), answer.negotiated.video.unwrap());
        assert_eq!((&*audio.mid, audio.formats.len()), ("0", 1));
        assert_eq!((&*video.mid, video.formats.len()), ("1", 9));
        assert_eq!(video.formats[0].rtx, Some(97));
        assert_eq!(video.extensions.dependency_descriptor, Some(3));
    }

    #[test]
    fn a_client_may_reject_one_of_the_lines_and_shake_hands_either_way() {
        let (head, video) = answer()
            .split_once("m=video")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let audio_only = format!("{head}m=video 0{}", video.strip_prefix(" 9").unwrap())
            .replace("BUNDLE 0 1", "BUNDLE 0")
            .replace("a=setup:active", "a=setup:passive");
        let answer = OwnAnswer::parse(&audio_only).unwrap();
        assert!(answer.negotiated.audio.is_some() && answer.negotiated.video.is_none());
        assert_eq!(answer.remote.role, DtlsRole::Client);
    }

    #[test]
    fn what_does_not_answer_our_offer_is_refused() {
        let error = |text: &str| OwnAnswer::parse(text).unwrap_err();
        assert_eq!(error("hello"), AnswerError::Sdp(SdpError::NotSdp));
        assert!(!error("hello").is_unusable());
        assert_eq!(
            error(
                &answer()
                    .replace("a=mid:1", "a=mid:v")
                    .replace("BUNDLE 0 1", "BUNDLE 0 v")
            ),
            AnswerError::OtherLines
        );
        let swapped = answer()
            .replace("m=audio", "m=x")
            .replace("m=video", "m=audio")
            .replace("m=x", "m=video");
        assert!(OwnAnswer::parse(&swapped).is_err());
        let sends = error(&answer().replace("a=recvonly", "a=sendonly"));
        assert_eq!(sends, AnswerError::Sdp(SdpError::CannotReceive));
        assert!(
            sends.is_unusable() && sends.to_string().contains("of the answer can receive"),
            "{sends}"
        );
        let ours = error(&offer(&[]));
        assert!(ours.is_unusable() && ours.hint().is_some(), "our own offer sent back");
    }
}
