//! One m-line as it is read. Optional features that cannot be read count as not offered; what the connection needs must be right.

use super::extension::OfferedExtensions;
use super::layers::{OfferedLayers, SendLayers};
use super::payload::PayloadTable;
use super::text::{TextLine, is_token};
use super::{Fault, MAX_STREAM_ID_BYTES};
use crate::rtp::{Kind, Mid, Ssrc};

/// An m-line with the attributes that matter.
#[derive(Debug)]
pub(super) struct MediaSection {
    /// `Some` for audio and video over RTP, in use: what this server can carry.
    pub(super) kind: Option<Kind>,
    /// `audio`, `video`, `application`, ..
    pub(super) media: Box<str>,
    pub(super) protocol: Box<str>,
    /// A rejected line repeats the first format, since an m-line must have one.
    pub(super) first_format: Box<str>,
    pub(super) mid: Option<Mid>,
    /// An attribute that could not be read: a fault where the line is in use.
    pub(super) unreadable: Option<Fault>,
    /// `None` where the line has none; the session may have one.
    pub(super) direction: Option<Direction>,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    pub(super) payloads: PayloadTable,
    pub(super) extensions: OfferedExtensions,
    layers: OfferedLayers,
    /// Stream id of the first `a=msid`; empty for none (`-`), and for one that is not a short token.
    pub(super) stream: Box<str>,
    /// First `a=ssrc`.
    first_ssrc: Option<Ssrc>,
    /// First `a=ssrc-group:FID`: main and RTX.
    flow: Option<(Ssrc, Ssrc)>,
    port: u16,
    bundle_only: bool,
}

/// `a=sendrecv` and its like. What is read is as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl MediaSection {
    /// Reads the value of an `m=` line: `media port[/count] protocol format ..` (RFC 8866 section 5.14).
    pub(super) fn new(line: TextLine<'_>) -> Result<MediaSection, Fault> {
        let bad = Fault::BadMediaLine { line: line.number };
        let mut words = line.value.split_ascii_whitespace();
        let (Some(media), Some(port), Some(protocol)) = (words.next(), words.next(), words.next()) else {
            return Err(bad);
        };
        let formats = words;
        let port = port.split_once('/').map_or(port, |(port, _)| port).parse::<u16>();
        let mut kind = rtp_kind(media, protocol);
        // A line of a kind that is not carried is answered with port 0, so its port may be odd.
        let port = match (port, kind) {
            (Ok(port), _) => port,
            (Err(_), None) => 0,
            (Err(_), Some(_)) => return Err(bad),
        };
        let first_format = formats
            .clone()
            .next()
            .or((port == 0).then_some("0"))
            .unwrap_or_default();
        if !is_readable(media, protocol, first_format) {
            return Err(bad);
        }
        let payloads = match PayloadTable::new(formats).filter(|_| kind.is_some()) {
            Some(payloads) => payloads,
            None if kind.is_some() && port != 0 => return Err(bad),
            None => {
                kind = None;
                PayloadTable::default()
            }
        };
        Ok(MediaSection {
            kind,
            media: media.into(),
            protocol: protocol.into(),
            first_format: first_format.into(),
            mid: None,
            unreadable: None,
            direction: None,
            rtcp_mux: false,
            rtcp_rsize: false,
            allow_mixed: false,
            payloads,
            extensions: OfferedExtensions::default(),
            layers: OfferedLayers::default(),
            stream: Box::default(),
            first_ssrc: None,
            flow: None,
            port,
            bundle_only: false,
        })
    }

    /// Takes an attribute that is not the transport's.
    pub(super) fn take(&mut self, line: usize, name: &str, value: &str) {
        if self.kind == Some(Kind::Video) {
            self.layers.take(name, value);
        }
        match name {
            "mid" => match Mid::parse(value) {
                Some(mid) => self.mid = Some(mid),
                None => self.unreadable = Some(Fault::BadAttribute { line, name: "mid" }),
            },
            "bundle-only" => self.bundle_only = true,
            // RFC 8858 section 3: a client that says the latter should say both.
            "rtcp-mux" | "rtcp-mux-only" => self.rtcp_mux = true,
            "rtcp-rsize" => self.rtcp_rsize = true,
            "extmap-allow-mixed" => self.allow_mixed = true,
            "rtpmap" => self.payloads.take_rtpmap(value),
            "fmtp" => self.payloads.take_fmtp(value),
            "rtcp-fb" => self.payloads.take_feedback(value),
            "extmap" => self.extensions.take(value),
            "msid" => self.take_msid(value),
            "ssrc" => self.take_ssrc(value),
            "ssrc-group" => self.take_ssrc_group(value),
            _ => self.direction = Direction::from_name(name).or(self.direction),
        }
    }

    /// Port 0 without `a=bundle-only`: the client itself has switched the line off (RFC 9143 section 6).
    pub(super) fn is_disabled(&self) -> bool {
        self.port == 0 && !self.bundle_only
    }

    /// The direction of the line; without any, RFC 8866 section 6.7 says sendrecv.
    pub(super) fn direction(&self) -> Direction {
        self.direction.unwrap_or(Direction::SendRecv)
    }

    /// Main and RTX SSRC that the client announced.
    pub(super) fn ssrcs(&self) -> (Option<Ssrc>, Option<Ssrc>) {
        match self.flow {
            Some((main, rtx)) => (Some(main), Some(rtx)),
            None => (self.first_ssrc, None),
        }
    }

    /// The encodings that the client offers to send; one without a rid unless it offers simulcast.
    pub(super) fn send_layers(&self) -> SendLayers {
        self.layers.resolve(self.ssrcs(), |id| self.extensions.has_id(id))
    }

    /// `<stream> <track>` (RFC 8830 section 2).
    fn take_msid(&mut self, value: &str) {
        let stream = value.split(' ').next().unwrap_or_default();
        if self.stream.is_empty() && stream != "-" && is_token(stream, MAX_STREAM_ID_BYTES) {
            self.stream = stream.into();
        }
    }

    fn take_ssrc(&mut self, value: &str) {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok()).map(Ssrc);
        self.first_ssrc = self.first_ssrc.or(ssrc);
    }

    /// `FID main rtx` (RFC 5576 section 4.2, RFC 4588 section 8.8).
    fn take_ssrc_group(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        if self.flow.is_some() || words.next() != Some("FID") {
            return;
        }
        let mut ssrc = || words.next()?.parse().ok().map(Ssrc);
        self.flow = ssrc().zip(ssrc()).filter(|(main, rtx)| main != rtx);
    }
}

impl Direction {
    const ALL: [Direction; 4] = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];

    pub(super) fn from_name(name: &str) -> Option<Direction> {
        Direction::ALL.into_iter().find(|direction| direction.name() == name)
    }

    /// The name of the attribute.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The direction as the other side sees it.
    pub(super) const fn mirrored(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            both_ways => both_ways,
        }
    }

    pub(super) const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub(super) const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// The answer repeats these parts, so they have to be plain visible ASCII.
fn is_readable(media: &str, protocol: &str, first_format: &str) -> bool {
    is_token(media, 32)
        && is_token(first_format, 64)
        && protocol.len() <= 64
        && protocol.bytes().all(|b| b.is_ascii_graphic())
}

/// Audio or video, if the protocol is RTP. RFC 9429 section 5.1.2: every `RTP/[S]AVP[F]`, however prefixed, means the same here.
fn rtp_kind(media: &str, protocol: &str) -> Option<Kind> {
    let profile = protocol.split_once("RTP/").map(|(_, profile)| profile);
    let is_rtp = matches!(profile, Some("SAVPF" | "SAVP" | "AVPF" | "AVP"));
    match media {
        "audio" if is_rtp => Some(Kind::Audio),
        "video" if is_rtp => Some(Kind::Video),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(value: &str) -> Result<MediaSection, Fault> {
        MediaSection::new(TextLine {
            number: 3,
            letter: b'm',
            value,
        })
    }

    #[test]
    fn m_lines_that_cannot_be_read_are_refused() {
        for value in [
            "",
            "audio",
            "audio 9",
            "audio 9 UDP/TLS/RTP/SAVPF",
            "audio 65536 UDP/TLS/RTP/SAVPF 111",
            "audio -1 UDP/TLS/RTP/SAVPF 111",
            "audio nine UDP/TLS/RTP/SAVPF 111",
            "audio 9 UDP/TLS/RTP/SAVPF 128",
            "audio 9 UDP/TLS/RTP/SAVPF opus",
            "vidéo 9 UDP/TLS/RTP/SAVPF 96",
            "application 9 UDP/DTLS/SCTP",
        ] {
            assert_eq!(section(value).unwrap_err(), Fault::BadMediaLine { line: 3 }, "{value}");
        }
    }

    #[test]
    fn lines_that_are_not_carried_may_be_odd() {
        for value in [
            "text 70000 RTP/AVP 98",
            "application x UDP/DTLS/SCTP webrtc-datachannel",
            "video 0 UDP/TLS/RTP/SAVPF",
            "video 0 UDP/TLS/RTP/SAVPF none",
        ] {
            let line = section(value).unwrap();
            assert!(line.kind.is_none() && !line.first_format.is_empty(), "{value}");
        }
        let line = section("video 9 UDP/TLS/RTP/SAVPF 300 96").unwrap();
        assert_eq!(line.payloads.len(), 1);
    }

    #[test]
    fn a_mid_that_cannot_be_read_is_noted() {
        for (mid, is_fine) in [
            ("a/0", true),
            ("urn:a:0", true),
            ("{a.0~}", true),
            ("a b", false),
            ("\u{e9}", false),
            ("", false),
        ] {
            let mut line = section("video 9 UDP/TLS/RTP/SAVPF 96").unwrap();
            line.take(4, "mid", mid);
            assert_eq!(
                (line.mid.is_some(), line.unreadable.is_none()),
                (is_fine, is_fine),
                "{mid}"
            );
        }
    }

    #[test]
    fn port_zero_is_in_use_only_when_bundled() {
        let mut line = section("video 0 UDP/TLS/RTP/SAVPF 96").unwrap();
        assert!(line.is_disabled());
        line.take(4, "bundle-only", "");
        assert!(!line.is_disabled());
    }

    #[test]
    fn only_rtp_audio_and_video_are_carried() {
        let kind = |value| section(value).unwrap().kind;
        assert_eq!(kind("audio 9/2 RTP/AVP 0"), Some(Kind::Audio));
        assert_eq!(kind("video 9 TCP/DTLS/RTP/SAVPF 96"), Some(Kind::Video));
        assert_eq!(kind("application 9 UDP/DTLS/SCTP webrtc-datachannel"), None);
        assert_eq!(kind("video 9 udp mp2t"), None);
    }

    #[test]
    fn a_stream_id_is_a_short_token_or_none() {
        let stream = |values: &[&str]| {
            let mut line = section("video 9 UDP/TLS/RTP/SAVPF 96").unwrap();
            values.iter().for_each(|value| line.take(4, "msid", value));
            line.stream
        };
        assert_eq!(&*stream(&["camera track", "screen track"]), "camera");
        assert_eq!(&*stream(&["alone"]), "alone");
        assert_eq!(&*stream(&["- track"]), "");
        assert_eq!(&*stream(&["\u{e9} track"]), "");
        assert_eq!(&*stream(&[&"x".repeat(MAX_STREAM_ID_BYTES + 1)]), "");
    }

    #[test]
    fn main_and_rtx_ssrc_come_from_the_first_fid_group() {
        let mut line = section("video 9 UDP/TLS/RTP/SAVPF 96").unwrap();
        line.take(4, "ssrc", "1 cname:x");
        assert_eq!(line.ssrcs(), (Some(Ssrc(1)), None));
        line.take(5, "ssrc-group", "SIM 2 3");
        line.take(6, "ssrc-group", "FID 2 nonsense");
        line.take(7, "ssrc-group", "FID 2 4");
        line.take(8, "ssrc-group", "FID 5 6");
        assert_eq!(line.ssrcs(), (Some(Ssrc(2)), Some(Ssrc(4))));
    }
}
