//! SDP of a load: offers that other servers accept, too, and the parts of their answers that matter.

use std::net::{IpAddr, SocketAddr};

use crate::load::layers::{AnsweredLayers, LayerSet, SenderKind};
use crate::load::workload::Workload;
use onecast_rtc::client_peer::Answered;
use onecast_rtc::rtp::{Codec, Pt, Ssrc};
use onecast_rtc::{Fingerprint, IceCredentials};

/// Writes a viewer's offer: Opus and VP8, VP9, H264, AV1, each with RTX. It does not announce transport-wide feedback, which these
/// viewers never send: servers that rely on it would reduce their rate.
pub(super) fn viewer_offer(ice: &IceCredentials, fingerprint: Fingerprint) -> String {
    let transport = transport(ice, fingerprint, "recvonly");
    let mut sdp = head(&["0", "1"]);
    sdp.push_str(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\na=mid:0\r\n{transport}"));
    sdp.push_str(&opus());
    let types: Vec<String> = VIDEO.iter().map(|(pt, _)| format!("{pt} {}", pt.0 + 1)).collect();
    let types = types.join(" ");
    sdp.push_str(&format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {types}\r\na=mid:1\r\n{transport}"
    ));
    for (pt, codec) in VIDEO {
        sdp.push_str(&video(pt, codec));
        sdp.push_str(&format!("a=rtpmap:{0} rtx/90000\r\na=fmtp:{0} apt={pt}\r\n", pt.0 + 1));
    }
    sdp
}

/// What a publisher offers.
#[derive(Debug, Clone)]
pub struct PublisherOffer<'a> {
    /// Its ICE credentials.
    pub ice: &'a IceCredentials,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// Its media lines are those of the workload.
    pub workload: Workload,
    /// The layers of the video.
    pub layers: LayerSet,
}

impl PublisherOffer<'_> {
    /// Writes the offer: only the media lines of the workload. As from a browser, a line with simulcast announces no SSRC; as from OBS,
    /// the first one.
    pub fn to_sdp(&self) -> String {
        let transport = transport(self.ice, self.fingerprint, "sendonly");
        let mut lines = Vec::new();
        if self.workload.has_audio() {
            lines.push((
                format!("audio 9 UDP/TLS/RTP/SAVPF {OPUS}"),
                opus() + &source(AUDIO_SSRC),
            ));
        }
        if self.workload.video().is_some() {
            lines.push((format!("video 9 UDP/TLS/RTP/SAVPF {VP8}"), self.video_lines()));
        }
        let mut sdp = head(&["0", "1"][..lines.len()]);
        for (mid, (line, rest)) in lines.into_iter().enumerate() {
            sdp.push_str(&format!("m={line}\r\na=mid:{mid}\r\n{transport}{rest}"));
        }
        sdp
    }

    fn video_lines(&self) -> String {
        let formats = video(VP8, Codec::Vp8);
        let layers = self.layers.offer_lines();
        let source = match (self.layers.is_simulcast(), self.layers.sender()) {
            (true, SenderKind::Browser) => format!("a=msid:load load{VIDEO_SSRC}\r\n"),
            (true, SenderKind::Obs) | (false, _) => source(VIDEO_SSRC),
        };
        formats + &layers + &source
    }
}

fn source(ssrc: Ssrc) -> String {
    format!("a=msid:load load{ssrc}\r\na=ssrc:{ssrc} cname:load\r\n")
}

/// What a payload type of these offers carries.
pub(super) fn payload_type(number: Pt) -> Option<Payload> {
    if number == OPUS {
        return Some(Payload::Audio);
    }
    VIDEO.iter().find_map(|(pt, codec)| match number {
        _ if number == *pt => Some(Payload::Video(*codec)),
        _ if number.0 == pt.0 + 1 => Some(Payload::Rtx(*codec)),
        _ => None,
    })
}

/// Kinds of media packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// Opus.
    Audio,
    /// Video.
    Video(Codec),
    /// Retransmitted video (RFC 4588).
    Rtx(Codec),
}

/// A usable answer.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub(super) answered: Answered,
    /// The server's media address.
    pub media: SocketAddr,
    /// The client begins the DTLS handshake, as with nearly all servers.
    pub(super) we_begin: bool,
    /// What it says about the layers of a published video.
    pub layers: AnsweredLayers,
}

impl Accepted {
    /// Whether OBS goes on with this answer.
    ///
    /// # Errors
    /// [`AnswerError::MissingLayers`] when it does not accept all layers.
    pub fn check_as_obs(&self, layers: &LayerSet) -> Result<(), AnswerError> {
        match self.layers.satisfies_obs(layers) {
            true => Ok(()),
            false => Err(AnswerError::MissingLayers {
                offered: layers.specs().len(),
                answered: self.layers.counted_as_obs(),
            }),
        }
    }
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is not an SDP answer.
    #[error("the body is no SDP answer with ICE credentials and a SHA-256 fingerprint")]
    Nonsense,
    /// It has no address for UDP.
    #[error("the answer has no UDP candidate with an IP address")]
    NoCandidate,
    /// All its addresses are on other hosts.
    #[error(
        "the answer directs media to {media}, which is not the URL's host; a load goes only to the host of the URL"
    )]
    OtherHost {
        /// The first of them.
        media: SocketAddr,
    },
    /// OBS ends its broadcast then.
    #[error("the answer has {answered} of {offered} layers, and OBS publishes only if all are accepted")]
    MissingLayers {
        /// Layers that OBS offered.
        offered: usize,
        /// Layers that it counts in the answer.
        answered: usize,
    },
}

/// Reads an answer. `is_host` tells whether an address belongs to the URL's host.
pub(super) fn read_answer(sdp: &str, is_host: impl Fn(IpAddr) -> bool) -> Result<Accepted, AnswerError> {
    let answered = Answered::parse(sdp).filter(|answered| answered.fingerprint.is_some());
    let answered = answered.ok_or(AnswerError::Nonsense)?;
    let addresses: Vec<SocketAddr> = sdp.lines().filter_map(udp_candidate).collect();
    let first = *addresses.first().ok_or(AnswerError::NoCandidate)?;
    let media = addresses.into_iter().find(|address| is_host(address.ip()));
    let media = media.ok_or(AnswerError::OtherHost { media: first })?;
    let we_begin = !sdp.lines().any(|line| line.trim_end() == "a=setup:active");
    Ok(Accepted {
        answered,
        media,
        we_begin,
        layers: AnsweredLayers::parse(sdp),
    })
}

/// `a=candidate:1 1 udp 2130706431 192.0.2.1 8080 typ host`, of component 1.
fn udp_candidate(line: &str) -> Option<SocketAddr> {
    let mut fields = line.trim_end().strip_prefix("a=candidate:")?.split_ascii_whitespace();
    let (component, protocol) = (fields.nth(1)?, fields.next()?);
    let ip: IpAddr = fields.nth(1)?.parse().ok()?;
    let port: u16 = fields.next()?.parse().ok()?;
    (component == "1" && protocol.eq_ignore_ascii_case("udp") && port != 0).then(|| SocketAddr::new(ip, port))
}

fn head(mids: &[&str]) -> String {
    let mids = mids.join(" ");
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\na=msid-semantic: WMS *\r\n")
}

fn transport(ice: &IceCredentials, fingerprint: Fingerprint, direction: &str) -> String {
    format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
        ice.ufrag, ice.pwd
    )
}

fn opus() -> String {
    format!("a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n")
}

fn video(Pt(pt): Pt, codec: Codec) -> String {
    let mut lines = format!("a=rtpmap:{pt} {}/90000\r\n", codec.encoding_name());
    for feedback in ["nack", "nack pli", "ccm fir"] {
        lines.push_str(&format!("a=rtcp-fb:{pt} {feedback}\r\n"));
    }
    if codec == Codec::H264 {
        let parameters = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
        lines.push_str(&format!("a=fmtp:{pt} {parameters}\r\n"));
    }
    lines
}

/// Payload type of Opus.
pub(super) const OPUS: Pt = Pt(111);
/// Payload type of VP8.
pub(super) const VP8: Pt = Pt(96);
/// The payload type of RTX is one higher.
const VIDEO: [(Pt, Codec); 4] = [
    (VP8, Codec::Vp8),
    (Pt(98), Codec::Vp9),
    (Pt(102), Codec::H264),
    (Pt(45), Codec::Av1),
];
/// SSRC of the published audio.
pub(super) const AUDIO_SSRC: Ssrc = Ssrc(0x0c0f_fee0);
/// SSRC of the published video.
pub(super) const VIDEO_SSRC: Ssrc = Ssrc(0x0c0f_fee1);

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::sdp::{AnswerParams, Offer, Role};

    const ANSWER: &str = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 \
        00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=candidate:1 1 tcp 9 192.0.2.1 9 typ host tcptype passive\r\n\
        a=candidate:2 1 udp 8 0a.local 8 typ host\r\na=candidate:3 2 UDP 8 192.0.2.1 7 typ host\r\n\
        a=candidate:4 1 UDP 8 198.51.100.1 81 typ host\r\na=candidate:5 1 udp 7 192.0.2.1 82 typ host generation 0\r\n";

    fn host(ip: IpAddr) -> bool {
        ip == IpAddr::from([192, 0, 2, 1])
    }

    fn offer(workload: Workload, layers: LayerSet) -> String {
        let ice = IceCredentials {
            ufrag: "load".into(),
            pwd: "0123456789012345678901".into(),
        };
        let fingerprint = Fingerprint([7; 32]);
        let offer = PublisherOffer {
            ice: &ice,
            fingerprint,
            workload,
            layers,
        };
        offer.to_sdp()
    }

    /// Of the lines that announce layers.
    fn layer_lines(sdp: &str) -> Vec<&str> {
        let is_about_layers = |line: &&str| {
            ["a=extmap", "a=rid", "a=simulcast", "a=ssrc"]
                .iter()
                .any(|start| line.starts_with(start))
        };
        let (_, video) = sdp.split_once("m=video").unwrap_or_default();
        video.lines().filter(is_about_layers).collect()
    }

    #[test]
    fn a_browser_offers_rids_without_ssrcs_and_obs_with_the_first() {
        let sdp = offer(Workload::W1a, LayerSet::new(SenderKind::Browser, 3));
        assert_eq!(
            layer_lines(&sdp),
            [
                "a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
                "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
                "a=rid:q send",
                "a=rid:h send",
                "a=rid:f send",
                "a=simulcast:send q;h;f",
            ]
        );
        let sdp = offer(Workload::W1a, LayerSet::new(SenderKind::Obs, 2));
        assert_eq!(
            layer_lines(&sdp),
            [
                "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
                "a=rid:0 send",
                "a=rid:1 send",
                "a=simulcast:send 0;1",
                &format!("a=ssrc:{VIDEO_SSRC} cname:load"),
            ]
        );
    }

    /// The server's answer, with or without simulcast.
    fn answer(offer: &str, accepts_layers: bool) -> Accepted {
        let offer = Offer::parse(offer).unwrap();
        let mut agreement = offer.negotiate(Role::Publisher).unwrap();
        if accepts_layers {
            agreement = agreement.with_layers();
        }
        let params = AnswerParams {
            ice: &IceCredentials {
                ufrag: "u".into(),
                pwd: "p".into(),
            },
            fingerprint: Fingerprint([7; 32]),
            candidates: &["192.0.2.1:80".parse().unwrap()],
            session_id: 1,
            stream: "live",
        };
        read_answer(&agreement.write(Role::Publisher, &params), host).unwrap()
    }

    #[test]
    fn the_server_accepts_the_layers_of_the_offers() {
        for sender in [SenderKind::Browser, SenderKind::Obs] {
            for count in 2..=LayerSet::MAX {
                let layers = LayerSet::new(sender, count);
                let sdp = offer(Workload::W1a, layers);
                let rids: Vec<_> = layers.specs().iter().filter_map(|spec| spec.rid).collect();
                let accepted = answer(&sdp, true);
                assert_eq!(accepted.layers.rids, rids, "{sdp}");
                assert!(accepted.layers.mid_id.is_some() && accepted.layers.rid_id.is_some());
                assert_eq!(accepted.check_as_obs(&layers), Ok(()));
                let refused = answer(&sdp, false);
                assert_eq!(refused.layers.rids, [""; 0]);
                let missing = AnswerError::MissingLayers {
                    offered: count,
                    answered: 0,
                };
                assert_eq!(refused.check_as_obs(&layers), Err(missing));
            }
        }
    }

    #[test]
    fn media_goes_to_the_first_udp_candidate_on_the_host() {
        let accepted = read_answer(ANSWER, host).unwrap();
        assert_eq!(accepted.media.to_string(), "192.0.2.1:82");
        assert_eq!(&*accepted.answered.ice.ufrag, "u");
    }

    #[test]
    fn unusable_answers_are_distinguished() {
        let read = |sdp: &str, is_host: fn(IpAddr) -> bool| read_answer(sdp, is_host).unwrap_err();
        assert_eq!(
            read(ANSWER, |_| false),
            AnswerError::OtherHost {
                media: "198.51.100.1:81".parse().unwrap()
            }
        );
        let bare: String = ANSWER.lines().take(4).map(|line| format!("{line}\r\n")).collect();
        assert_eq!(read(&bare, host), AnswerError::NoCandidate);
        assert_eq!(read(&ANSWER.replace("fingerprint", "x"), host), AnswerError::Nonsense);
        for nonsense in ["", "<html>", "a=candidate:", "a=ice-ufrag:x"] {
            assert_eq!(read(nonsense, host), AnswerError::Nonsense);
        }
    }

    #[test]
    fn payload_types_are_those_of_the_offer() {
        assert_eq!(payload_type(Pt(111)), Some(Payload::Audio));
        assert_eq!(payload_type(Pt(102)), Some(Payload::Video(Codec::H264)));
        assert_eq!(payload_type(Pt(46)), Some(Payload::Rtx(Codec::Av1)));
        assert_eq!((payload_type(Pt(0)), payload_type(Pt(112))), (None, None));
    }
}
