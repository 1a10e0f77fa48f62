//! Answers the offer of a publisher or a viewer of a broadcast.

use super::format::{self, Agreed};
use super::layers::SendLayers;
use super::media::{Direction, MediaSection};
use super::offer::Offer;
use super::write::{LineDescription, LiveLine, RejectedLine, SessionDescription, Setup, SourceDescription};
use super::{AnswerParams, Fault, MediaLine, Negotiated, Role, TrackSsrcs};
use crate::rtp::Kind;

/// The answer and what it agrees to.
#[derive(Debug)]
pub struct Answer {
    /// The text, lines end with CRLF.
    pub sdp: String,
    /// What was agreed.
    pub negotiated: Negotiated,
}

/// What an offer and this server have in common. The answer can be written later: the SSRCs that it names need not be known yet.
#[derive(Debug)]
pub struct Agreement<'a> {
    offer: &'a Offer,
    flow: Flow,
    lines: Vec<Option<AcceptedLine<'a>>>,
}

/// Which way media flows in a broadcast, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Inbound,
    Outbound,
}

impl Agreement<'_> {
    /// # Errors
    /// Media can flow on none of the lines, or one has no codec in common: never half of what was offered.
    pub(super) fn new(offer: &Offer, flow: Flow) -> Result<Agreement<'_>, Fault> {
        let lines = offer.lines.iter().map(|section| AcceptedLine::new(section, flow));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        if lines.iter().flatten().any(|line| line.flows) {
            return Ok(Agreement { offer, flow, lines });
        }
        Err(match flow {
            Flow::Inbound => Fault::CannotSend,
            Flow::Outbound => Fault::CannotReceive,
        })
    }

    /// The lines that media will flow on.
    pub fn negotiated(&self) -> Negotiated {
        let mut negotiated = Negotiated {
            audio: None,
            video: None,
        };
        for line in self.lines.iter().flatten().filter(|line| line.flows) {
            let ssrcs = match self.flow {
                Flow::Inbound => line.section.ssrcs(),
                Flow::Outbound => (None, None),
            };
            let place = match line.kind {
                Kind::Audio => &mut negotiated.audio,
                Kind::Video => &mut negotiated.video,
            };
            *place = Some(MediaLine {
                layers: line.layers,
                ..line.agreed.media_line(line.section, ssrcs)
            });
        }
        negotiated
    }

    /// Accepts the layers of the publisher's video line: the answer lists its rids (RFC 8853 section 5.3.2) and takes the header
    /// extensions that bind packets to them. Without this the answer is for one encoding.
    #[must_use]
    pub fn with_layers(mut self) -> Self {
        let lines = self.lines.iter_mut().flatten();
        for line in lines.filter(|line| line.flows && line.kind == Kind::Video) {
            line.layers = (self.flow == Flow::Inbound).then(|| line.section.send_layers());
        }
        self
    }

    /// The accepted layers of the video line; `None` without [`with_layers`](Self::with_layers), and for a viewer.
    pub fn layers(&self) -> Option<SendLayers> {
        self.lines.iter().flatten().find_map(|line| line.layers)
    }

    /// Index of the m-line on which video will flow; `None` without one.
    pub fn video_line(&self) -> Option<usize> {
        let is_video = |line: &AcceptedLine<'_>| line.flows && line.kind == Kind::Video;
        self.lines.iter().position(|line| line.as_ref().is_some_and(is_video))
    }

    /// The answer, lines end with CRLF. `role` is the role of the negotiation, with the SSRCs of what a viewer will be sent.
    pub fn write(&self, role: Role, params: &AnswerParams<'_>) -> String {
        let sections = &self.offer.lines;
        let in_bundle = self
            .offer
            .bundle
            .iter()
            .copied()
            .filter(|index| self.lines[*index].is_some());
        let bundle: Vec<usize> = in_bundle.collect();
        let tagged = bundle.first().copied().or(self.lines.iter().position(Option::is_some));
        let lines = sections.iter().zip(&self.lines).enumerate();
        let lines = lines.map(|(index, (section, accepted))| match accepted {
            Some(line) => LineDescription::Live(line.describe(role, params.stream, tagged == Some(index))),
            None => LineDescription::Rejected(RejectedLine {
                media: &section.media,
                protocol: &section.protocol,
                first_format: &section.first_format,
                mid: section.mid.as_deref(),
            }),
        });
        let description = SessionDescription {
            session_id: params.session_id,
            version: ANSWER_VERSION,
            bundle: bundle
                .iter()
                .filter_map(|index| sections[*index].mid.as_deref())
                .collect(),
            allow_mixed: self.offer.allow_mixed,
            is_lite: true,
            ice: params.ice,
            fingerprint: params.fingerprint,
            setup: Setup::of(self.offer.remote().role),
            candidates: params.candidates,
            lines: lines.collect(),
        };
        description.to_sdp(TYPICAL_ANSWER_BYTES)
    }
}

impl Flow {
    pub(super) const fn of(role: Role) -> Flow {
        match role {
            Role::Publisher => Flow::Inbound,
            Role::Viewer(_) => Flow::Outbound,
        }
    }
}

/// An m-line that is not rejected.
#[derive(Debug)]
struct AcceptedLine<'a> {
    kind: Kind,
    section: &'a MediaSection,
    /// Whether media will flow; if not, the line is inactive.
    flows: bool,
    agreed: Agreed,
    /// Where they are accepted.
    layers: Option<SendLayers>,
}

impl AcceptedLine<'_> {
    /// `Ok(None)` for a line that is rejected: it is not in use, or not carried.
    ///
    /// A line on which media does not flow is kept as inactive: it may be the tagged line of the bundle, and Chromium refuses an answer
    /// that rejects that one.
    ///
    /// # Errors
    /// [`Fault::NoCommonCodec`] for a line on which media could flow.
    fn new(section: &MediaSection, flow: Flow) -> Result<Option<AcceptedLine<'_>>, Fault> {
        let Some(kind) = section.kind else {
            return Ok(None);
        };
        let flows = match flow {
            Flow::Inbound => section.direction().sends(),
            Flow::Outbound => section.direction().receives(),
        };
        let formats = format::common_formats(section, kind);
        if formats.is_empty() {
            return match flows {
                true => Err(format::no_common_codec(section, kind)),
                false => Ok(None),
            };
        }
        let agreed = match flow {
            _ if !flows => Agreed::outbound(section, formats, |_, _| false),
            Flow::Inbound => Agreed::inbound(section, formats, |_, _| true),
            Flow::Outbound => Agreed::outbound(section, formats, |_, _| true),
        };
        Ok(Some(AcceptedLine {
            kind,
            section,
            flows,
            agreed,
            layers: None,
        }))
    }

    fn describe<'a>(&'a self, role: Role, stream: &'a str, has_candidates: bool) -> LiveLine<'a> {
        let formats = &self.agreed.formats;
        LiveLine {
            media: &self.section.media,
            protocol: &self.section.protocol,
            mid: self.section.mid.as_deref(),
            direction: match role {
                _ if !self.flows => Direction::Inactive,
                Role::Publisher => Direction::RecvOnly,
                Role::Viewer(_) => Direction::SendOnly,
            },
            rtcp_rsize: self.section.rtcp_rsize,
            allow_mixed: self.section.allow_mixed,
            extensions: &self.agreed.extensions,
            formats,
            layers: self.layers.as_ref(),
            source: match role {
                Role::Viewer(ssrcs) if self.flows => Some(ssrcs.source(stream, self.kind, format::has_rtx(formats))),
                _ => None,
            },
            has_candidates,
        }
    }
}

impl TrackSsrcs {
    /// How the track is announced to a viewer.
    pub(super) fn source(self, stream: &str, kind: Kind, has_rtx: bool) -> SourceDescription<'_> {
        let (ssrc, rtx) = match kind {
            Kind::Audio => (self.audio, None),
            Kind::Video => (self.video, Some(self.video_rtx).filter(|_| has_rtx)),
        };
        SourceDescription {
            stream,
            kind,
            ssrc,
            rtx,
        }
    }
}

/// `o=` version of an answer: one more than that of offers, which is 1.
pub(super) const ANSWER_VERSION: u64 = 2;
/// An answer to a browser is 1.5 to 5 KB.
const TYPICAL_ANSWER_BYTES: usize = 4096;
