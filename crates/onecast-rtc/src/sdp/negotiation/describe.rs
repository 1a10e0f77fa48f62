//! Our offers and answers in a room.

use super::super::format;
use super::super::media::Direction;
use super::super::write::{LineDescription, LiveLine, RejectedLine, SessionDescription, Setup, SourceDescription};
use super::line::NegotiatedLine;
use super::state::State;
use super::{Description, NegotiationParams};
use crate::DtlsRole;
use crate::rtp::Kind;

/// A description of what is agreed, or offered.
pub(super) struct Describing<'a> {
    pub(super) what: Description,
    pub(super) state: &'a State,
    pub(super) params: &'a NegotiationParams,
    pub(super) version: u64,
}

impl<'a> Describing<'a> {
    /// The text, lines end with CRLF.
    pub(super) fn write(&self) -> String {
        let State { lines, allow_mixed, .. } = self.state;
        let tagged = self.state.alive().next();
        // Clients of the Pion family skip inactive lines when they look for candidates.
        let is_active = |index: &usize| self.direction(&lines[*index]) != Direction::Inactive;
        let active = self.state.alive().find(is_active);
        let described = lines.iter().enumerate().map(|(index, line)| match line.is_dead {
            true => LineDescription::Rejected(rejected(line)),
            false => LineDescription::Live(self.live(line, tagged == Some(index) || active == Some(index))),
        });
        let description = SessionDescription {
            session_id: self.params.session_id,
            version: self.version,
            bundle: self.state.alive().map(|index| &*lines[index].mid).collect(),
            allow_mixed: *allow_mixed || self.what == Description::Offer,
            is_lite: true,
            ice: &self.params.ice,
            fingerprint: self.params.fingerprint,
            setup: self.setup(),
            candidates: &self.params.candidates,
            lines: described.collect(),
        };
        description.to_sdp(TYPICAL_LINE_BYTES * lines.len().max(2))
    }

    fn live(&self, line: &'a NegotiatedLine, has_candidates: bool) -> LiveLine<'a> {
        LiveLine {
            media: &line.media,
            protocol: &line.protocol,
            mid: Some(&line.mid),
            direction: self.direction(line),
            rtcp_rsize: line.rtcp_rsize,
            allow_mixed: line.allow_mixed && self.what == Description::Answer,
            extensions: &line.extensions,
            formats: &line.formats,
            layers: None,
            source: self.source(line),
            has_candidates,
        }
    }

    fn direction(&self, line: &NegotiatedLine) -> Direction {
        match (self.sends(line), line.received.is_some()) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// RFC 8842 section 5: an offer leaves the roles open, though they stay what they are.
    fn setup(&self) -> Setup {
        let role = self.state.remote.as_ref().map(|remote| remote.role);
        match self.what {
            Description::Offer => Setup::ActPass,
            Description::Answer => Setup::of(role.unwrap_or(DtlsRole::Server)),
        }
    }

    /// An offer asks for all tracks on their lines, an answer has those that the client takes.
    fn sends(&self, line: &NegotiatedLine) -> bool {
        match self.what {
            Description::Offer => line.track.is_some(),
            Description::Answer => line.sent.is_some(),
        }
    }

    fn source(&self, line: &'a NegotiatedLine) -> Option<SourceDescription<'a>> {
        let track = line.track.as_ref().filter(|_| self.sends(line))?;
        let has_rtx = track.id.kind == Kind::Video && format::has_rtx(&line.formats);
        Some(SourceDescription {
            stream: &track.stream,
            kind: track.id.kind,
            ssrc: track.ssrc,
            rtx: has_rtx.then_some(track.rtx_ssrc),
        })
    }
}

fn rejected(line: &NegotiatedLine) -> RejectedLine<'_> {
    RejectedLine {
        media: &line.media,
        protocol: &line.protocol,
        first_format: &line.first_format,
        mid: Some(&*line.mid).filter(|mid| !mid.is_empty()),
    }
}

/// A line of video in one codec has 900 bytes.
const TYPICAL_LINE_BYTES: usize = 1024;
