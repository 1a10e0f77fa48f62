//! Writes the answer.
//!
//! What it looks like is what clients need: it begins with `v=` and FFmpeg reads the first candidate only, libdatachannel and
//! the browsers look for the transport in every line, Chromium takes the FID group before the SSRCs and the main one first.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::extension::{Extension, Extmap};
use super::media::{Direction, MediaSection};
use super::negotiate::{self, Accepted, Chosen};
use super::offer::Offer;
use super::payload::describes_sender;
use super::{AnswerParams, Negotiated, Role, SdpError, TrackSsrcs};
use crate::rtp::Kind;
use crate::{DtlsRole, Fingerprint, IceCredentials};

/// The answer and what it agrees to.
#[derive(Debug)]
pub struct Answer {
    /// The text, lines end with CRLF.
    pub sdp: String,
    /// What was agreed.
    pub negotiated: Negotiated,
}

/// See [`Offer::answer`].
pub(super) fn answer(offer: &Offer, role: Role, params: &AnswerParams<'_>) -> Result<Answer, SdpError> {
    let accepted = offer.lines.iter().map(|section| negotiate::negotiate(section, role));
    let accepted = accepted.collect::<Result<Vec<_>, _>>()?;
    if !accepted.iter().flatten().any(|line| line.flows) {
        return Err(match role {
            Role::Publisher => SdpError::CannotSend,
            Role::Viewer(_) => SdpError::CannotReceive,
        });
    }
    let writer = Writer { offer, role, params };
    let mut sdp = String::with_capacity(TYPICAL_ANSWER_BYTES);
    writer
        .write(&mut sdp, &accepted)
        .expect("a String takes all that is written");
    let negotiated = agreed(accepted, role);
    Ok(Answer { sdp, negotiated })
}

/// What flows of the lines that are not rejected.
pub(super) fn agreed(accepted: Vec<Option<Accepted<'_>>>, role: Role) -> Negotiated {
    let mut negotiated = Negotiated {
        audio: None,
        video: None,
    };
    for line in accepted.into_iter().flatten().filter(|line| line.flows) {
        let place = match line.kind {
            Kind::Audio => &mut negotiated.audio,
            Kind::Video => &mut negotiated.video,
        };
        *place = Some(line.into_media_line(role));
    }
    negotiated
}

struct Writer<'a> {
    offer: &'a Offer,
    role: Role,
    params: &'a AnswerParams<'a>,
}

impl Writer<'_> {
    fn write(&self, out: &mut String, accepted: &[Option<Accepted<'_>>]) -> fmt::Result {
        let bundle = self
            .offer
            .bundle
            .iter()
            .copied()
            .filter(|index| accepted[*index].is_some());
        let bundle: Vec<usize> = bundle.collect();
        self.session(out, &bundle)?;
        let first = accepted.iter().position(Option::is_some);
        let tagged = bundle.first().copied().or(first);
        for (index, (section, accepted)) in self.offer.lines.iter().zip(accepted).enumerate() {
            let Some(accepted) = accepted else {
                let MediaSection {
                    media,
                    protocol,
                    first_format,
                    mid,
                    ..
                } = section;
                write_rejected(out, media, protocol, first_format, mid.as_deref())?;
                continue;
            };
            self.media(out, accepted)?;
            if tagged == Some(index) {
                candidates(out, self.params.candidates)?;
            }
        }
        Ok(())
    }

    fn session(&self, out: &mut String, bundle: &[usize]) -> fmt::Result {
        // RFC 9429 section 5.2.1: the session id is a positive 63-bit number.
        let session_id = self.params.session_id & i64::MAX as u64;
        write!(out, "v=0\r\no=- {session_id} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")?;
        if !bundle.is_empty() {
            out.write_str("a=group:BUNDLE")?;
            for mid in bundle
                .iter()
                .filter_map(|index| self.offer.lines[*index].mid.as_deref())
            {
                write!(out, " {mid}")?;
            }
            out.write_str("\r\n")?;
        }
        if self.offer.allow_mixed {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        // RFC 8445 section 10 wants `ice2` from who follows it; `trickle` because candidates are taken at any time.
        out.write_str("a=ice-lite\r\na=ice-options:trickle ice2\r\n")
    }

    fn media(&self, out: &mut String, accepted: &Accepted<'_>) -> fmt::Result {
        let section = accepted.section;
        write_media(out, &section.media, &section.protocol, &accepted.formats)?;
        if let Some(mid) = &section.mid {
            write!(out, "a=mid:{mid}\r\n")?;
        }
        self.transport(out)?;
        out.write_str(match self.role {
            _ if !accepted.flows => "a=inactive\r\na=rtcp-mux\r\n",
            Role::Publisher => "a=recvonly\r\na=rtcp-mux\r\n",
            Role::Viewer(_) => "a=sendonly\r\na=rtcp-mux\r\n",
        })?;
        if section.rtcp_rsize {
            out.write_str("a=rtcp-rsize\r\n")?;
        }
        if section.allow_mixed {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        for (extension, extmap) in &accepted.extensions {
            write_extension(out, *extension, *extmap)?;
        }
        for chosen in &accepted.formats {
            write_format(out, chosen)?;
        }
        self.source(out, accepted)
    }

    fn transport(&self, out: &mut String) -> fmt::Result {
        let setup = setup(self.offer.remote().role);
        write_transport(out, self.params.ice, self.params.fingerprint, setup)
    }

    fn source(&self, out: &mut String, accepted: &Accepted<'_>) -> fmt::Result {
        match self.role {
            Role::Viewer(ssrcs) if accepted.flows => {
                write_source(out, self.params.stream, accepted.kind, ssrcs, accepted.has_rtx())
            }
            _ => Ok(()),
        }
    }
}

/// What a viewer will be sent: the track's name and SSRCs. Chromium shows no video unless the main SSRC comes first.
pub(super) fn write_source(
    out: &mut String,
    stream: &str,
    kind: Kind,
    ssrcs: TrackSsrcs,
    has_rtx: bool,
) -> fmt::Result {
    write!(out, "a=msid:{stream} {stream}-{kind}\r\n")?;
    let (main, rtx) = match kind {
        Kind::Audio => (ssrcs.audio, None),
        Kind::Video => (ssrcs.video, Some(ssrcs.video_rtx).filter(|_| has_rtx)),
    };
    if let Some(rtx) = rtx {
        write!(out, "a=ssrc-group:FID {main} {rtx}\r\n")?;
    }
    for ssrc in [Some(main), rtx].into_iter().flatten() {
        write!(
            out,
            "a=ssrc:{ssrc} cname:{stream}\r\na=ssrc:{ssrc} msid:{stream} {stream}-{kind}\r\n"
        )?;
    }
    Ok(())
}

/// The m-line itself, with its payload types.
pub(super) fn write_media(out: &mut String, media: &str, protocol: &str, formats: &[Chosen]) -> fmt::Result {
    write!(out, "m={media} 9 {protocol}")?;
    for chosen in formats {
        write!(out, " {}", chosen.format.payload_type)?;
        if let Some(rtx) = chosen.format.rtx {
            write!(out, " {rtx}")?;
        }
    }
    out.write_str("\r\nc=IN IP4 0.0.0.0\r\n")
}

/// RFC 3264 section 6: port 0, with one format since an m-line must have one.
pub(super) fn write_rejected(
    out: &mut String,
    media: &str,
    protocol: &str,
    first_format: &str,
    mid: Option<&str>,
) -> fmt::Result {
    write!(out, "m={media} 0 {protocol} {first_format}\r\nc=IN IP4 0.0.0.0\r\n")?;
    if let Some(mid) = mid {
        write!(out, "a=mid:{mid}\r\n")?;
    }
    out.write_str("a=inactive\r\n")
}

pub(super) fn write_transport(
    out: &mut String,
    ice: &IceCredentials,
    fingerprint: Fingerprint,
    setup: &str,
) -> fmt::Result {
    write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.pwd)?;
    write!(out, "a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\n")
}

/// `a=setup` of an answer: the role that the offer left for us.
pub(super) const fn setup(role: DtlsRole) -> &'static str {
    match role {
        DtlsRole::Server => "passive",
        DtlsRole::Client => "active",
    }
}

pub(super) fn write_extension(out: &mut String, extension: Extension, extmap: Extmap) -> fmt::Result {
    let direction = match extmap.direction {
        None => "",
        Some(Direction::SendOnly) => "/recvonly",
        Some(Direction::RecvOnly) => "/sendonly",
        Some(Direction::SendRecv) => "/sendrecv",
        Some(Direction::Inactive) => "/inactive",
    };
    write!(out, "a=extmap:{}{direction} {}\r\n", extmap.id, extension.uri())
}

pub(super) fn write_format(out: &mut String, chosen: &Chosen) -> fmt::Result {
    let format = &chosen.format;
    let (number, codec) = (format.payload_type, format.codec);
    let channels = if codec.kind() == Kind::Audio { "/2" } else { "" };
    let (name, clock) = (codec.encoding_name(), codec.clock_rate());
    write!(out, "a=rtpmap:{number} {name}/{clock}{channels}\r\n")?;
    write_fmtp(out, number, &format.fmtp)?;
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

/// Host candidates of component 1 (RFC 8839 section 5.1), all there are. Priorities fall in the order given (RFC 8445
/// section 5.1.2.1), and stay below 2^31, which FFmpeg reads into an `int`.
pub(super) fn candidates(out: &mut String, candidates: &[SocketAddr]) -> fmt::Result {
    for (index, address) in candidates.iter().enumerate() {
        let local_preference = u32::from(u16::MAX).saturating_sub(index as u32);
        let priority = (126 << 24) | (local_preference << 8) | 255;
        let (foundation, ip, port) = (index + 1, ip_as_written(*address), address.port());
        write!(
            out,
            "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host\r\n"
        )?;
    }
    out.write_str("a=end-of-candidates\r\n")
}

/// A socket for both families sees IPv4 as `::ffff:a.b.c.d`; clients want it as IPv4.
fn ip_as_written(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// An answer to a browser is 1.5 to 5 KB.
const TYPICAL_ANSWER_BYTES: usize = 4096;
