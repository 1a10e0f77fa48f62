//! The counter-offer of WHEP: the server's own offer to a viewer that asked for one, and the reading of its answer.
//!
//! It offers everything that a publisher may send, because the viewer stays while publishers and their codecs change. The answer is
//! read as an offer is: it too says what the client can receive, under its own payload types.

use super::answer::{ANSWER_VERSION, Agreement, Flow};
use super::extension::{Extensions, Extmap};
use super::format::{self, Chosen, FORMATS, PROTOCOL};
use super::media::{Direction, MediaSection};
use super::write::{LineDescription, LiveLine, SessionDescription, Setup};
use super::{AnswerParams, Description, Fault, Negotiated, Offer, SdpError, TrackSsrcs};
use crate::RemoteTransport;
use crate::rtp::{Codec, Kind};

/// An offer of what a viewer is sent.
#[derive(Debug, Clone, Copy)]
pub struct CounterOffer<'a> {
    /// Our side of the connection.
    pub params: &'a AnswerParams<'a>,
    /// What the viewer will be sent.
    pub ssrcs: TrackSsrcs,
    /// Codecs that the publisher sends at this moment. They are listed first.
    pub live: &'a [Codec],
}

/// The answer to a [`CounterOffer`].
#[derive(Debug, Clone)]
pub struct CounterAnswer {
    /// What ICE and DTLS need to know of the client.
    pub remote: RemoteTransport,
    /// What was agreed.
    pub negotiated: Negotiated,
}

impl CounterOffer<'_> {
    /// Index of the video's m-line.
    pub const VIDEO_LINE: u8 = 1;

    /// The text, lines end with CRLF. Its length does not depend on the client.
    pub fn write(&self) -> String {
        let parts = KINDS.map(|kind| (kind, self.formats(kind), extensions(kind)));
        let lines = parts.iter().map(|(kind, formats, extensions)| LiveLine {
            media: kind.name(),
            protocol: PROTOCOL,
            mid: Some(mid(*kind)),
            direction: Direction::SendOnly,
            rtcp_rsize: true,
            allow_mixed: false,
            extensions,
            formats,
            layers: None,
            source: Some(self.ssrcs.source(self.params.stream, *kind, format::has_rtx(formats))),
            // The first line is the tagged one.
            has_candidates: *kind == KINDS[0],
        });
        let description = SessionDescription {
            session_id: self.params.session_id,
            version: ANSWER_VERSION - 1,
            bundle: KINDS.map(mid).to_vec(),
            allow_mixed: true,
            is_lite: true,
            ice: self.params.ice,
            fingerprint: self.params.fingerprint,
            setup: Setup::ActPass,
            candidates: self.params.candidates,
            lines: lines.map(LineDescription::Live).collect(),
        };
        description.to_sdp(TYPICAL_BYTES)
    }

    /// Those of the table, the publisher's first.
    fn formats(&self, kind: Kind) -> Vec<Chosen> {
        let of_kind = FORMATS.into_iter().filter(|(codec, ..)| codec.kind() == kind);
        let mut formats: Vec<Chosen> = of_kind.map(format::offered_format).collect();
        // Stable: the order of the table stays on both sides.
        formats.sort_by_key(|chosen| !self.live.contains(&chosen.format.codec));
        formats
    }
}

impl CounterAnswer {
    /// Reads the answer of a client.
    ///
    /// # Errors
    /// What is wrong with the text, that it does not belong to our offer, or that nothing of what we send can be received.
    pub fn parse(text: &str) -> Result<CounterAnswer, SdpError> {
        let read = |text| {
            let answer = Offer::read_broadcast(text)?;
            if !are_ours(&answer.lines) {
                return Err(Fault::NotOurLines);
            }
            Ok(CounterAnswer {
                remote: answer.remote().clone(),
                negotiated: Agreement::new(&answer, Flow::Outbound)?.negotiated(),
            })
        };
        read(text).map_err(|fault: Fault| fault.of(Description::Answer))
    }
}

/// An answer has as many lines as the offer, in its order (RFC 3264 section 6). One that is rejected may say less of itself.
fn are_ours(lines: &[MediaSection]) -> bool {
    lines.len() == KINDS.len()
        && lines.iter().zip(KINDS).all(|(line, kind)| {
            let named = line.mid.as_deref().map_or(line.kind.is_none(), |its| its == mid(kind));
            named && &*line.media == kind.name()
        })
}

fn extensions(kind: Kind) -> Extensions {
    let with_extmap = |(extension, id)| (extension, Extmap { id, direction: None });
    format::offered_extensions(kind).map(with_extmap).collect()
}

const fn mid(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => AUDIO_MID,
        Kind::Video => VIDEO_MID,
    }
}

/// The lines of the offer, in its order.
const KINDS: [Kind; 2] = [Kind::Audio, Kind::Video];
pub(super) const AUDIO_MID: &str = "0";
pub(super) const VIDEO_MID: &str = "1";
/// It is 3.5 KB with one candidate.
const TYPICAL_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::rtp::{Pt, Ssrc};
    use crate::{DtlsRole, Fingerprint, IceCredentials};

    const SSRCS: TrackSsrcs = TrackSsrcs {
        video: Ssrc(1001),
        video_rtx: Ssrc(1002),
        audio: Ssrc(1003),
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
        CounterOffer {
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

    #[test]
    fn the_video_line_is_where_it_is_said_to_be() {
        let media: Vec<String> = offer(&[])
            .lines()
            .filter_map(|line| Some(line.strip_prefix("m=")?.to_owned()))
            .collect();
        let video = media.iter().position(|line| line.starts_with("video"));
        assert_eq!(video, Some(usize::from(CounterOffer::VIDEO_LINE)));
    }

    fn payload_types(sdp: &str, media: &str) -> Vec<u8> {
        let line = sdp
            .lines()
            .find(|line| line.starts_with(&format!("m={media}")))
            .unwrap();
        line.split(' ').skip(3).map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn the_offer_parses_and_names_every_payload_type_once() {
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
    fn an_answer_names_the_formats_that_the_client_takes() {
        let answer = CounterAnswer::parse(&answer()).unwrap();
        assert_eq!(answer.remote.role, DtlsRole::Server);
        let (audio, video) = (answer.negotiated.audio.unwrap(), answer.negotiated.video.unwrap());
        assert_eq!((&*audio.mid, audio.formats.len()), ("0", 1));
        assert_eq!((&*video.mid, video.formats.len()), ("1", 9));
        assert_eq!(video.formats[0].rtx, Some(Pt(97)));
        assert_eq!(video.extensions.dependency_descriptor, Some(3));
    }

    #[test]
    fn a_client_may_reject_a_line_and_choose_its_dtls_role() {
        let (head, video) = answer()
            .split_once("m=video")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let audio_only = format!("{head}m=video 0{}", video.strip_prefix(" 9").unwrap())
            .replace("BUNDLE 0 1", "BUNDLE 0")
            .replace("a=setup:active", "a=setup:passive");
        let answer = CounterAnswer::parse(&audio_only).unwrap();
        assert!(answer.negotiated.audio.is_some() && answer.negotiated.video.is_none());
        assert_eq!(answer.remote.role, DtlsRole::Client);
    }

    #[test]
    fn answers_that_do_not_fit_the_offer_are_refused() {
        let error = |text: &str| CounterAnswer::parse(text).unwrap_err();
        assert_eq!(error("hello").fault, Fault::NotSdp);
        assert!(!error("hello").is_unusable());
        assert_eq!(
            error(
                &answer()
                    .replace("a=mid:1", "a=mid:v")
                    .replace("BUNDLE 0 1", "BUNDLE 0 v")
            )
            .fault,
            Fault::NotOurLines
        );
        let swapped = answer()
            .replace("m=audio", "m=x")
            .replace("m=video", "m=audio")
            .replace("m=x", "m=video");
        assert!(CounterAnswer::parse(&swapped).is_err());
        let sends = error(&answer().replace("a=recvonly", "a=sendonly"));
        assert_eq!(sends.fault, Fault::CannotReceive);
        assert!(
            sends.is_unusable() && sends.to_string().contains("of the answer can receive"),
            "{sends}"
        );
        let ours = error(&offer(&[]));
        assert!(ours.is_unusable() && ours.hint().is_some(), "our own offer sent back");
    }
}
