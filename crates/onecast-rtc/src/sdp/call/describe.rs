//! Writes our offers and answers.

use std::fmt::{self, Write};

use super::super::TrackSsrcs;
use super::super::answer;
use super::line::Line;
use super::state::State;
use super::{CallParams, Description};
use crate::DtlsRole;

/// A description of ours.
pub(super) struct Describing<'a> {
    pub(super) what: Description,
    pub(super) state: &'a State,
    pub(super) params: &'a CallParams,
    /// `o=`: grows with each description (RFC 3264 section 8).
    pub(super) version: u64,
}

impl Describing<'_> {
    /// The text, lines end with CRLF.
    pub(super) fn write(&self) -> String {
        let lines = self.state.lines.len();
        let mut out = String::with_capacity(TYPICAL_LINE_BYTES * lines.max(2));
        self.write_to(&mut out).expect("a String takes all that is written");
        out
    }

    fn write_to(&self, out: &mut String) -> fmt::Result {
        self.session(out)?;
        let tagged = self.state.alive().next();
        // Clients of the Pion family skip inactive lines when they look for candidates.
        let is_active = |index: &usize| self.direction(&self.state.lines[*index]) != INACTIVE;
        let active = self.state.alive().find(is_active);
        for (index, line) in self.state.lines.iter().enumerate() {
            if line.is_dead {
                let mid = Some(&*line.mid).filter(|mid| !mid.is_empty());
                answer::write_rejected(out, &line.media, &line.protocol, &line.first_format, mid)?;
                continue;
            }
            self.line(out, line)?;
            if tagged == Some(index) || active == Some(index) {
                answer::candidates(out, &self.params.candidates)?;
            }
        }
        Ok(())
    }

    fn session(&self, out: &mut String) -> fmt::Result {
        // RFC 9429 section 5.2.1: the session id is a positive 63-bit number.
        let session_id = self.params.session_id & i64::MAX as u64;
        let version = self.version;
        write!(
            out,
            "v=0\r\no=- {session_id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        )?;
        let mut mids = self.state.alive().map(|index| &self.state.lines[index].mid).peekable();
        if mids.peek().is_some() {
            out.write_str("a=group:BUNDLE")?;
            mids.try_for_each(|mid| write!(out, " {mid}"))?;
            out.write_str("\r\n")?;
        }
        if self.state.allow_mixed || self.what == Description::Offer {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        // RFC 8445 section 10 wants `ice2` from who follows it; `trickle` because candidates are taken at any time.
        out.write_str("a=ice-lite\r\na=ice-options:trickle ice2\r\n")
    }

    fn line(&self, out: &mut String, line: &Line) -> fmt::Result {
        answer::write_media(out, &line.media, &line.protocol, &line.formats)?;
        write!(out, "a=mid:{}\r\n", line.mid)?;
        answer::write_transport(out, &self.params.ice, self.params.fingerprint, self.setup())?;
        write!(out, "a={}\r\na=rtcp-mux\r\n", self.direction(line))?;
        if line.rtcp_rsize {
            out.write_str("a=rtcp-rsize\r\n")?;
        }
        if line.allow_mixed && self.what == Description::Answer {
            out.write_str("a=extmap-allow-mixed\r\n")?;
        }
        for (extension, extmap) in &line.extensions {
            answer::write_extension(out, *extension, *extmap)?;
        }
        for chosen in &line.formats {
            answer::write_format(out, chosen)?;
        }
        self.source(out, line)
    }

    fn direction(&self, line: &Line) -> &'static str {
        match (self.sends(line), line.received.is_some()) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => INACTIVE,
        }
    }

    /// RFC 8842 section 5: an offer leaves the roles open, though they stay what they are.
    fn setup(&self) -> &'static str {
        let role = self
            .state
            .remote
            .as_ref()
            .map_or(DtlsRole::Server, |remote| remote.role);
        match self.what {
            Description::Offer => "actpass",
            Description::Answer => answer::setup(role),
        }
    }

    /// An offer asks for all tracks on their lines, an answer has those that the client takes.
    fn sends(&self, line: &Line) -> bool {
        match self.what {
            Description::Offer => line.track.is_some(),
            Description::Answer => line.sent.is_some(),
        }
    }

    fn source(&self, out: &mut String, line: &Line) -> fmt::Result {
        let Some(track) = line.track.as_ref().filter(|_| self.sends(line)) else {
            return Ok(());
        };
        let ssrcs = TrackSsrcs {
            video: track.ssrc,
            video_rtx: track.rtx_ssrc,
            audio: track.ssrc,
        };
        let has_rtx = line.formats.iter().any(|chosen| chosen.format.rtx.is_some());
        answer::write_source(out, &track.stream, track.id.kind, ssrcs, has_rtx)
    }
}

const INACTIVE: &str = "inactive";
/// A line of video in one codec has 900 bytes.
const TYPICAL_LINE_BYTES: usize = 1024;
