//! The descriptions of the client's end: its offer, and what it needs of the answer.

use std::net::SocketAddr;

use super::Format;
use super::extension::{Extension, Extmap};
use super::format::{Chosen, PROTOCOL};
use super::media::Direction;
use super::transport::read_digest;
use super::write::{LineDescription, LiveLine, SessionDescription, Setup};
use crate::rtp::{Codec, Kind, Pt, Ssrc};
use crate::{Fingerprint, IceCredentials};

/// What a client says in its offer.
#[derive(Debug, Clone)]
pub struct OfferParams<'a> {
    /// Its ICE credentials.
    pub ice: &'a IceCredentials,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// It will be the DTLS client (`actpass`), as browsers are; otherwise it offers `passive`, as FFmpeg does.
    pub active: bool,
    /// It publishes; otherwise it watches.
    pub publishes: bool,
    /// Retransmissions use RTX; otherwise the media's own SSRC.
    pub rtx: bool,
}

/// Writes an offer of one audio line (Opus 111) and one video line (VP8 96, VP9 98, H264 102, AV1 45; each with RTX one higher).
pub fn write_offer(params: &OfferParams<'_>) -> String {
    let audio = [client_format(Codec::Opus, OPUS, None)];
    let video = VIDEO.map(|(codec, number)| client_format(codec, number, params.rtx.then_some(Pt(number.0 + 1))));
    let transport_cc = Extmap {
        id: TRANSPORT_CC_ID,
        direction: None,
    };
    let of_video = [(Extension::TransportCc, transport_cc)];
    let line = |kind: Kind, mid, extensions, formats| {
        LineDescription::Live(LiveLine {
            media: kind.name(),
            protocol: PROTOCOL,
            mid: Some(mid),
            direction: match params.publishes {
                true => Direction::SendOnly,
                false => Direction::RecvOnly,
            },
            rtcp_rsize: true,
            allow_mixed: false,
            extensions,
            formats,
            layers: None,
            source: None,
            has_candidates: false,
        })
    };
    let description = SessionDescription {
        session_id: 1,
        version: 1,
        bundle: vec!["0", "1"],
        allow_mixed: false,
        is_lite: false,
        ice: params.ice,
        fingerprint: params.fingerprint,
        setup: match params.active {
            true => Setup::ActPass,
            false => Setup::Passive,
        },
        candidates: &[],
        lines: vec![
            line(Kind::Audio, "0", &[], &audio),
            line(Kind::Video, "1", &of_video, &video),
        ],
    };
    description.to_sdp(TYPICAL_BYTES)
}

/// What a client needs of an answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The server's ICE credentials.
    pub ice: IceCredentials,
    /// The server's certificate, if the answer has its SHA-256.
    pub fingerprint: Option<Fingerprint>,
    /// Candidates in the order of the answer.
    pub candidates: Vec<SocketAddr>,
    /// SSRCs that the answer announces, in its order.
    pub ssrcs: Vec<Ssrc>,
}

impl Answered {
    /// Reads the lines that matter, of any server; `None` without ICE credentials.
    pub fn parse(sdp: &str) -> Option<Answered> {
        let values = |name: &'static str| sdp.lines().filter_map(move |line| line.trim_end().strip_prefix(name));
        let ice = IceCredentials {
            ufrag: values("a=ice-ufrag:").next()?.into(),
            pwd: values("a=ice-pwd:").next()?.into(),
        };
        let candidate = |line: &str| {
            let mut fields = line.split(' ');
            let ip = fields.nth(4)?.parse().ok()?;
            Some(SocketAddr::new(ip, fields.next()?.parse().ok()?))
        };
        let ssrc = |line: &str| line.split(' ').next()?.parse().ok();
        let mut ssrcs: Vec<Ssrc> = values("a=ssrc:").filter_map(ssrc).map(Ssrc).collect();
        // Each has several lines.
        ssrcs.dedup();
        let digest = values("a=fingerprint:sha-256 ").next();
        Some(Answered {
            ice,
            fingerprint: digest.and_then(|digest| read_digest(digest.trim()).map(Fingerprint)),
            candidates: values("a=candidate:").filter_map(candidate).collect(),
            ssrcs,
        })
    }
}

fn client_format(codec: Codec, payload_type: Pt, rtx: Option<Pt>) -> Chosen {
    let is_video = codec.kind() == Kind::Video;
    let fmtp = match codec {
        Codec::Opus => "minptime=10;useinbandfec=1",
        Codec::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        _ => "",
    };
    Chosen {
        format: Format {
            codec,
            payload_type,
            rtx,
            fmtp: fmtp.into(),
            nack: is_video,
            pli: is_video,
            transport_cc: is_video,
        },
        fir: is_video,
    }
}

const OPUS: Pt = Pt(111);
/// Each with RTX one higher.
const VIDEO: [(Codec, Pt); 4] = [
    (Codec::Vp8, Pt(96)),
    (Codec::Vp9, Pt(98)),
    (Codec::H264, Pt(102)),
    (Codec::Av1, Pt(45)),
];
const TRANSPORT_CC_ID: u8 = 3;
/// With RTX it is 1.9 KB.
const TYPICAL_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::super::{AnswerParams, Offer, Role, TrackSsrcs};
    use super::*;

    fn ice(ufrag: &str) -> IceCredentials {
        IceCredentials {
            ufrag: ufrag.into(),
            pwd: "0123456789012345678901".into(),
        }
    }

    fn offer(publishes: bool) -> String {
        write_offer(&OfferParams {
            ice: &ice("client"),
            fingerprint: Fingerprint([7; 32]),
            active: true,
            publishes,
            rtx: true,
        })
    }

    #[test]
    fn offers_are_good_for_the_server() {
        for publishes in [false, true] {
            let offer = Offer::parse(&offer(publishes)).unwrap();
            assert_eq!((offer.can_send(), offer.can_receive()), (publishes, !publishes));
            assert_eq!(offer.remote().ice, ice("client"));
        }
    }

    #[test]
    fn an_answer_names_the_server_and_its_ssrcs() {
        let server = ice("server");
        let candidates = ["192.0.2.7:8080".parse().unwrap(), "[2001:db8::7]:8080".parse().unwrap()];
        let params = AnswerParams {
            ice: &server,
            fingerprint: Fingerprint([0xAB; 32]),
            candidates: &candidates,
            session_id: 42,
            stream: "live",
        };
        let ssrcs = TrackSsrcs {
            video: Ssrc(1),
            video_rtx: Ssrc(2),
            audio: Ssrc(3),
        };
        let offer = Offer::parse(&offer(false)).unwrap();
        let answer = offer.answer(Role::Viewer(ssrcs), &params).unwrap();
        let answered = Answered::parse(&answer.sdp).unwrap();
        assert_eq!(answered.ice, server);
        assert_eq!(answered.fingerprint, Some(Fingerprint([0xAB; 32])));
        assert_eq!(answered.candidates, candidates);
        assert_eq!(answered.ssrcs, [3, 1, 2].map(Ssrc));
        assert!(Answered::parse("v=0\r\n").is_none());
    }
}
