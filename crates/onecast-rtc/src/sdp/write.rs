//! The one writer of session descriptions: answers to broadcasts, offers and answers in rooms, counter-offers, and the offers of the
//! client peer.
//!
//! Callers describe a session as a value; how the text looks is decided here, by what clients need. It begins with `v=`, FFmpeg reads the
//! first candidate only, libdatachannel and the browsers look for the transport in every line, and Chromium takes the FID group before the
//! SSRCs and the main SSRC before that of its RTX.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::extension::{Extension, Extmap};
use super::format::Chosen;
use super::layers::SendLayers;
use super::media::Direction;
use super::payload::describes_sender;
use crate::rtp::{Kind, Ssrc};
use crate::{DtlsRole, Fingerprint, IceCredentials};

/// A session description that we write (RFC 8866).
pub(crate) struct SessionDescription<'a> {
    /// `o=` session id. RFC 9429 section 5.2.1 wants a positive 63-bit number, so the highest bit is dropped.
    pub(crate) session_id: u64,
    /// `o=` version: grows with each description of a session (RFC 3264 section 8).
    pub(crate) version: u64,
    /// Mids of the BUNDLE group, the tagged one first.
    pub(crate) bundle: Vec<&'a str>,
    /// `a=extmap-allow-mixed` for the session.
    pub(crate) allow_mixed: bool,
    /// Our ICE agent is lite.
    pub(crate) is_lite: bool,
    pub(crate) ice: &'a IceCredentials,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) setup: Setup,
    /// Best first. They are written into the lines that have [`LiveLine::has_candidates`].
    pub(crate) candidates: &'a [SocketAddr],
    pub(crate) lines: Vec<LineDescription<'a>>,
}

/// One m-line.
pub(crate) enum LineDescription<'a> {
    Live(LiveLine<'a>),
    Rejected(RejectedLine<'a>),
}

/// An m-line that is in use, or may be again.
pub(crate) struct LiveLine<'a> {
    /// `audio` or `video`.
    pub(crate) media: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) mid: Option<&'a str>,
    /// As we see it.
    pub(crate) direction: Direction,
    pub(crate) rtcp_rsize: bool,
    pub(crate) allow_mixed: bool,
    /// Their directions are as the client sees them, and are mirrored.
    pub(crate) extensions: &'a [(Extension, Extmap)],
    pub(crate) formats: &'a [Chosen],
    /// The encodings that we take on the line, where they are accepted one by one.
    pub(crate) layers: Option<&'a SendLayers>,
    /// What we send on the line.
    pub(crate) source: Option<SourceDescription<'a>>,
    pub(crate) has_candidates: bool,
}

/// An m-line with port 0 (RFC 3264 section 6).
pub(crate) struct RejectedLine<'a> {
    pub(crate) media: &'a str,
    pub(crate) protocol: &'a str,
    /// An m-line must have a format.
    pub(crate) first_format: &'a str,
    pub(crate) mid: Option<&'a str>,
}

/// A track that we send: its name, and its SSRCs.
pub(crate) struct SourceDescription<'a> {
    /// Stream id of `a=msid`, and the CNAME.
    pub(crate) stream: &'a str,
    pub(crate) kind: Kind,
    pub(crate) ssrc: Ssrc,
    /// SSRC of its RTX, where that is negotiated.
    pub(crate) rtx: Option<Ssrc>,
}

/// `a=setup` (RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    ActPass,
    Active,
    Passive,
}

impl SessionDescription<'_> {
    /// The text, lines end with CRLF. `capacity` is how long it will be, as far as the caller knows.
    pub(crate) fn to_sdp(&self, capacity: usize) -> String {
        let mut out = String::with_capacity(capacity);
        self.write(&mut out).expect("a String takes all that is written");
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let session_id = self.session_id & i64::MAX as u64;
        let version = self.version;
        write!(
            out,
            "v=0\r\no=- {session_id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        )?;
        if !self.bundle.is_empty() {
            out.write_str("a=group:BUNDLE")?;
            self.bundle.iter().try_for_each(|mid| write!(out, " {mid}"))?;
            out.write_str("\r\n")?;
        }
        if self.allow_mixed {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        if self.is_lite {
            out.write_str(LITE)?;
        }
        for line in &self.lines {
            match line {
                LineDescription::Live(line) => self.write_line(out, line)?,
                LineDescription::Rejected(line) => line.write(out)?,
            }
        }
        Ok(())
    }

    fn write_line(&self, out: &mut String, line: &LiveLine<'_>) -> fmt::Result {
        line.write_head(out)?;
        write_credentials(out, self.ice)?;
        let (fingerprint, setup) = (self.fingerprint, self.setup.name());
        write!(out, "a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\n")?;
        line.write_body(out)?;
        if line.has_candidates {
            write_candidates(out, self.candidates)?;
        }
        Ok(())
    }
}

impl LiveLine<'_> {
    fn write_head(&self, out: &mut String) -> fmt::Result {
        write!(out, "m={} 9 {}", self.media, self.protocol)?;
        for Chosen { format, .. } in self.formats {
            write!(out, " {}", format.payload_type)?;
            if let Some(rtx) = format.rtx {
                write!(out, " {rtx}")?;
            }
        }
        out.write_str("\r\nc=IN IP4 0.0.0.0\r\n")?;
        match self.mid {
            Some(mid) => write!(out, "a=mid:{mid}\r\n"),
            None => Ok(()),
        }
    }

    fn write_body(&self, out: &mut String) -> fmt::Result {
        write!(out, "a={}\r\na=rtcp-mux\r\n", self.direction.name())?;
        if self.rtcp_rsize {
            out.write_str("a=rtcp-rsize\r\n")?;
        }
        if self.allow_mixed {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        for (extension, extmap) in self.extensions {
            extmap.write_mirrored(out, extension.uri())?;
        }
        if let Some(layers) = self.layers {
            layers.write_extmaps(out)?;
        }
        self.formats.iter().try_for_each(|chosen| write_format(out, chosen))?;
        if let Some(layers) = self.layers {
            layers.write_rids(out)?;
        }
        self.source.as_ref().map_or(Ok(()), |source| source.write(out))
    }
}

impl RejectedLine<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let RejectedLine {
            media,
            protocol,
            first_format,
            ..
        } = self;
        write!(out, "m={media} 0 {protocol} {first_format}\r\nc=IN IP4 0.0.0.0\r\n")?;
        if let Some(mid) = self.mid {
            write!(out, "a=mid:{mid}\r\n")?;
        }
        out.write_str("a=inactive\r\n")
    }
}

impl SourceDescription<'_> {
    /// Chromium shows no video unless the FID group comes first, and then the main SSRC.
    fn write(&self, out: &mut String) -> fmt::Result {
        let (stream, kind, main) = (self.stream, self.kind, self.ssrc);
        write!(out, "a=msid:{stream} {stream}-{kind}\r\n")?;
        if let Some(rtx) = self.rtx {
            write!(out, "a=ssrc-group:FID {main} {rtx}\r\n")?;
        }
        for ssrc in [Some(main), self.rtx].into_iter().flatten() {
            write!(
                out,
                "a=ssrc:{ssrc} cname:{stream}\r\na=ssrc:{ssrc} msid:{stream} {stream}-{kind}\r\n"
            )?;
        }
        Ok(())
    }
}

impl Setup {
    /// What an answer says: the role that the offer left for us.
    pub(crate) const fn of(role: DtlsRole) -> Setup {
        match role {
            DtlsRole::Server => Setup::Passive,
            DtlsRole::Client => Setup::Active,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        }
    }
}

fn write_format(out: &mut String, chosen: &Chosen) -> fmt::Result {
    let format = &chosen.format;
    let (number, codec) = (format.payload_type, format.codec);
    // RFC 7587 section 7: Opus always has two channels in SDP.
    let channels = if codec.kind() == Kind::Audio { "/2" } else { "" };
    let (name, clock) = (codec.encoding_name(), codec.clock_rate());
    write!(out, "a=rtpmap:{number} {name}/{clock}{channels}\r\n")?;
    write_fmtp(out, number.0, &format.fmtp)?;
    let feedback = [
        (format.transport_cc, "transport-cc"),
        (chosen.fir, "ccm fir"),
        (format.nack, "nack"),
        (format.pli, "nack pli"),
    ];
    for (_, name) in feedback.into_iter().filter(|(negotiated, _)| *negotiated) {
        write!(out, "a=rtcp-fb:{number} {name}\r\n")?;
    }
    if let Some(rtx) = format.rtx {
        write!(out, "a=rtpmap:{rtx} rtx/{clock}\r\na=fmtp:{rtx} apt={number}\r\n")?;
    }
    Ok(())
}

/// The parameters as offered, but for `sprop-*`, which describe the stream of the side that writes them.
fn write_fmtp(out: &mut String, number: u8, fmtp: &str) -> fmt::Result {
    let parameters = fmtp.split(';').map(str::trim);
    let mut parameters = parameters.filter(|p| !p.is_empty() && !describes_sender(p));
    let Some(first) = parameters.next() else {
        return Ok(());
    };
    write!(out, "a=fmtp:{number} {first}")?;
    for parameter in parameters {
        write!(out, ";{parameter}")?;
    }
    out.write_str("\r\n")
}

pub(super) fn write_credentials(out: &mut String, ice: &IceCredentials) -> fmt::Result {
    write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.pwd)
}

/// All host candidates of component 1 (RFC 8839 section 5.1). Priorities fall in the order given (RFC 8445 section 5.1.2.1), and stay below
/// 2^31, because FFmpeg reads them into an `int`.
pub(super) fn write_candidates(out: &mut String, candidates: &[SocketAddr]) -> fmt::Result {
    for (index, address) in candidates.iter().enumerate() {
        let local_preference = u32::from(u16::MAX).saturating_sub(index as u32);
        let priority = (HOST_PREFERENCE << 24) | (local_preference << 8) | COMPONENT_PREFERENCE;
        // A socket for both families sees IPv4 as `::ffff:a.b.c.d`; clients want it as IPv4.
        let (foundation, ip, port) = (index + 1, address.ip().to_canonical(), address.port());
        write!(
            out,
            "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host\r\n"
        )?;
    }
    out.write_str("a=end-of-candidates\r\n")
}

/// RFC 8445 section 10 wants `ice2` from agents that follow it; `trickle` says that candidates are taken at any time.
pub(super) const LITE: &str = "a=ice-lite\r\na=ice-options:trickle ice2\r\n";
/// Type preference of host candidates (RFC 8445 section 5.1.2.2).
const HOST_PREFERENCE: u32 = 126;
/// 256 less the component, which is 1.
const COMPONENT_PREFERENCE: u32 = 255;
