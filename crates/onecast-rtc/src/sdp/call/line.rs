//! One m-line of a call, and what both sides have agreed on it.

use super::super::extension::{Extension, Extensions};
use super::super::media::{Direction, MediaSection};
use super::super::negotiate::{self, Chosen};
use super::super::own_offer::{self, PROTOCOL};
use super::super::{MediaLine, SdpError};
use super::numbers::{Meaning, Numbers};
use super::{CallError, Description, ReceivedLine, SentLine, WantedTrack};
use crate::rtp::Kind;

/// An m-line; it keeps its place for as long as the call lasts.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) mid: Box<str>,
    /// `audio`, `video`, `application`, ..
    pub(super) media: Box<str>,
    pub(super) protocol: Box<str>,
    /// What a rejected line repeats.
    pub(super) first_format: Box<str>,
    /// `None` where it is neither audio nor video.
    pub(super) kind: Option<Kind>,
    pub(super) is_ours: bool,
    /// Rejected or stopped, with port 0. Only the client may use the place again.
    pub(super) is_dead: bool,
    /// The client receives, or would.
    pub(super) takes: bool,
    /// The client sent here: the line is its own, and nothing else is put there.
    pub(super) has_received: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    /// What the next description lists; empty when dead.
    pub(super) formats: Vec<Chosen>,
    pub(super) extensions: Extensions,
    /// What was put here. On a dead line, or one that the client has turned off, it stays as settled.
    pub(super) track: Option<WantedTrack>,
    pub(super) sent: Option<SentLine>,
    pub(super) received: Option<ReceivedLine>,
}

/// What a description of the client lets flow on a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// From the client.
    pub(super) sends: bool,
    /// To the client.
    pub(super) receives: bool,
}

impl Line {
    /// One that the client has appended.
    pub(super) fn of_client(section: &MediaSection) -> Line {
        Line {
            mid: section.mid.clone().unwrap_or_default(),
            media: section.media.clone(),
            protocol: section.protocol.clone(),
            first_format: section.first_format.clone(),
            kind: section.kind,
            is_ours: false,
            is_dead: section.kind.is_none(),
            takes: false,
            has_received: false,
            rtcp_rsize: section.rtcp_rsize,
            allow_mixed: section.allow_mixed,
            formats: Vec::new(),
            extensions: Vec::new(),
            track: None,
            sent: None,
            received: None,
        }
    }

    /// One that we append.
    pub(super) fn ours(mid: String, kind: Kind) -> Line {
        Line {
            mid: mid.into(),
            media: own_offer::media(kind).into(),
            protocol: PROTOCOL.into(),
            first_format: Box::default(),
            kind: Some(kind),
            is_ours: true,
            is_dead: false,
            takes: true,
            has_received: false,
            rtcp_rsize: true,
            allow_mixed: false,
            formats: Vec::new(),
            extensions: Vec::new(),
            track: None,
            sent: None,
            received: None,
        }
    }

    /// Whether the client has made something else of this dead line, or the same again.
    pub(super) fn is_replaced_by(&self, section: &MediaSection) -> bool {
        let mid = section.mid.as_deref().unwrap_or_default();
        section.kind.is_some() || section.media != self.media || mid != &*self.mid
    }

    /// Whether nothing flows as agreed, and a track may be put here that the client has not seen here before.
    ///
    /// A line whose track has just gone is not free until the client has agreed that it is inactive: browsers tell the page of a new
    /// track only where a line begins to send.
    pub(super) fn is_free(&self, kind: Kind) -> bool {
        self.kind == Some(kind) && !self.is_dead && !self.has_received && self.sent.is_none()
    }

    /// Puts a track here, which is not sent before the client's answer.
    pub(super) fn put(&mut self, track: &WantedTrack, formats: Option<Vec<Chosen>>, numbers: &mut Numbers) {
        if self.track.as_ref().is_none_or(|held| held.id != track.id) {
            self.sent = None;
        }
        self.track = Some(track.clone());
        let (Some(mut formats), Some(kind)) = (formats, self.kind) else {
            return;
        };
        let mut extensions = numbers.extensions(kind);
        if self.received.is_some() {
            let known = std::mem::take(&mut self.formats);
            formats.retain(|new| {
                known
                    .iter()
                    .all(|old| old.format.payload_type != new.format.payload_type)
            });
            formats.splice(..0, known);
            let passed_on = std::mem::replace(&mut extensions, std::mem::take(&mut self.extensions));
            add_extensions(&mut extensions, passed_on);
        }
        (self.formats, self.extensions) = (formats, extensions);
        self.first_format = first_format(&self.formats);
    }

    /// Takes the track away.
    pub(super) fn vacate(&mut self) {
        self.track = None;
        self.sent = None;
        if self.received.is_none() {
            self.rest();
        }
    }

    /// Port 0. The track stays as settled: it was offered and is not wanted by the client.
    pub(super) fn kill(&mut self) {
        self.is_dead = true;
        self.takes = false;
        (self.sent, self.received) = (None, None);
        self.formats.clear();
        self.extensions.clear();
    }

    /// Takes what the client's description says of this line, which is in use.
    pub(super) fn agree(
        &mut self,
        section: &MediaSection,
        flow: Flow,
        numbers: &Numbers,
        what: Description,
    ) -> Result<(), CallError> {
        let Some(kind) = section.kind else {
            self.kill();
            return Ok(());
        };
        let common = negotiate::common_formats(section, kind);
        if common.is_empty() && flow.sends {
            return Err(CallError::of(what, negotiate::no_common_codec(section, kind)));
        }
        let received = flow.sends.then(|| received(section, common.clone(), numbers));
        if received.is_some() {
            self.check_kept(&common, self.received.as_ref().map(|known| &known.line), what)?;
        }
        let sent = self.agree_sent(section, &common, flow, numbers, what)?;
        self.settle(section, common, received, sent);
        Ok(())
    }

    fn agree_sent(
        &self,
        section: &MediaSection,
        common: &[Chosen],
        flow: Flow,
        numbers: &Numbers,
        what: Description,
    ) -> Result<Option<Part<SentLine>>, CallError> {
        let Some(track) = self.track.as_ref().filter(|_| flow.receives) else {
            return Ok(None);
        };
        let formats = sent_formats(track, common);
        // Our own offer may have changed the codecs, and the answer is to that.
        let known = self.sent.as_ref().filter(|_| what == Description::Offer);
        self.check_kept(&formats, known.map(|known| &known.line), what)?;
        Ok((!formats.is_empty()).then(|| sent_line(track, section, formats, numbers)))
    }

    fn settle(
        &mut self,
        section: &MediaSection,
        common: Vec<Chosen>,
        received: Option<Part<ReceivedLine>>,
        sent: Option<Part<SentLine>>,
    ) {
        let flows = received.is_some() || sent.is_some();
        self.protocol = section.protocol.clone();
        self.has_received |= received.is_some();
        (self.received, self.sent) = (None, None);
        self.formats = common;
        self.extensions.clear();
        if let Some((line, formats, extensions)) = sent {
            (self.sent, self.formats, self.extensions) = (Some(line), formats, extensions);
        }
        if let Some((line, formats, extensions)) = received {
            let passed_on = std::mem::replace(&mut self.extensions, extensions);
            (self.received, self.formats) = (Some(line), formats);
            add_extensions(&mut self.extensions, passed_on);
        }
        if self.formats.is_empty() {
            self.kill();
        } else if !flows && self.is_ours {
            self.rest();
        }
    }

    /// A line on which nothing flows has to list a format, and there are many such lines.
    fn rest(&mut self) {
        self.formats.truncate(1);
        self.extensions.clear();
    }

    /// RFC 3264 section 8.3.2: the numbers of what runs, or was offered, keep their meaning.
    pub(super) fn check_meanings(&self, section: &MediaSection, what: Description) -> Result<(), CallError> {
        for Chosen { format, .. } in &self.formats {
            let codec = (
                Some(format.payload_type),
                Meaning::Codec(format.codec),
                format.codec.encoding_name(),
            );
            for (number, meaning, was) in [codec, (format.rtx, Meaning::Rtx, "rtx")] {
                let mut listed = section.payloads.iter().filter(|payload| Some(payload.number) == number);
                if let Some(now) = listed.find(|now| Meaning::of(now) != meaning) {
                    return Err(self.changed(what, now.number, was));
                }
            }
        }
        Ok(())
    }

    /// What runs goes on in the format that came first.
    fn check_kept(&self, new: &[Chosen], old: Option<&MediaLine>, what: Description) -> Result<(), CallError> {
        let Some(first) = old.map(|old| &old.formats[0]) else {
            return Ok(());
        };
        let is_first = |chosen: &Chosen| chosen.format.payload_type == first.payload_type;
        if new.iter().any(is_first) {
            return Ok(());
        }
        Err(self.changed(what, first.payload_type, first.codec.encoding_name()))
    }

    fn changed(&self, what: Description, payload_type: u8, was: &'static str) -> CallError {
        CallError::ChangedCodecs {
            what,
            mid: self.mid.clone(),
            payload_type,
            was,
        }
    }
}

/// One direction of a line, with what it adds to our description.
type Part<T> = (T, Vec<Chosen>, Extensions);

impl Flow {
    pub(super) fn of(direction: Direction) -> Flow {
        Flow {
            sends: direction.sends(),
            receives: direction.receives(),
        }
    }
}

fn received(section: &MediaSection, mut formats: Vec<Chosen>, numbers: &Numbers) -> Part<ReceivedLine> {
    let mut extensions = negotiate::publisher_extensions(section, &formats);
    extensions.retain(|(extension, extmap)| numbers.means(*extension, *extmap));
    // Feedback is made from the numbers that the extension carries.
    let numbered = extensions
        .iter()
        .any(|(extension, _)| *extension == Extension::TransportCc);
    formats
        .iter_mut()
        .for_each(|chosen| chosen.format.transport_cc &= numbered);
    let line = ReceivedLine {
        stream: section.stream.clone(),
        line: media_line(section, &formats, &extensions, section.ssrcs()),
    };
    (line, formats, extensions)
}

/// What the client takes of what the track may be sent in.
fn sent_formats(track: &WantedTrack, common: &[Chosen]) -> Vec<Chosen> {
    let mut formats = common.to_vec();
    formats.retain(|chosen| track.codecs.contains(&chosen.format.codec));
    formats.iter_mut().for_each(|chosen| chosen.format.transport_cc = false);
    formats
}

fn sent_line(track: &WantedTrack, section: &MediaSection, formats: Vec<Chosen>, numbers: &Numbers) -> Part<SentLine> {
    let mut extensions = negotiate::viewer_extensions(section);
    extensions.retain(|(extension, extmap)| numbers.means(*extension, *extmap));
    let line = SentLine {
        track: track.id,
        line: media_line(section, &formats, &extensions, (None, None)),
    };
    (line, formats, extensions)
}

fn media_line(
    section: &MediaSection,
    formats: &[Chosen],
    extensions: &Extensions,
    (ssrc, rtx_ssrc): (Option<u32>, Option<u32>),
) -> MediaLine {
    MediaLine {
        kind: formats[0].format.codec.kind(),
        mid: section.mid.clone().unwrap_or_default(),
        formats: formats.iter().map(|chosen| chosen.format.clone()).collect(),
        extensions: extensions.iter().copied().collect(),
        ssrc,
        rtx_ssrc,
    }
}

fn add_extensions(extensions: &mut Extensions, mut more: Extensions) {
    more.retain(|(new, _)| extensions.iter().all(|(known, _)| known != new));
    extensions.append(&mut more);
}

fn first_format(formats: &[Chosen]) -> Box<str> {
    let first = formats.first().map(|chosen| chosen.format.payload_type.to_string());
    first.unwrap_or_default().into()
}

/// The error of a line that the client would send or receive on, and cannot.
pub(super) fn no_common_codec(section: &MediaSection) -> Option<SdpError> {
    Some(negotiate::no_common_codec(section, section.kind?))
}
