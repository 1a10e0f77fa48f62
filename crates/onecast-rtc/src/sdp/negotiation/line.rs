//! One m-line between the server and a member, and what both sides have agreed on it.

use super::super::MediaLine;
use super::super::extension::Extensions;
use super::super::format::{self, Agreed, Chosen, PROTOCOL};
use super::super::media::{Direction, MediaSection};
use super::numbers::{Meaning, Numbers};
use super::{Description, Fault, ReceivedLine, SentLine, WantedTrack};
use crate::rtp::{Kind, Mid, Pt};

/// An m-line. It keeps its place for as long as the session lasts.
#[derive(Debug, Clone)]
pub(super) struct NegotiatedLine {
    pub(super) mid: Mid,
    /// `audio`, `video`, `application`, ..
    pub(super) media: Box<str>,
    pub(super) protocol: Box<str>,
    /// What a rejected line repeats.
    pub(super) first_format: Box<str>,
    /// `None` where it is neither audio nor video.
    pub(super) kind: Option<Kind>,
    pub(super) is_ours: bool,
    /// Rejected or stopped, with port 0. Only the client may use the place again (RFC 9429 section 5.2.2).
    pub(super) is_dead: bool,
    /// The client receives, or would.
    pub(super) takes: bool,
    /// The client has sent here: the line is its own, and no track of others is put there.
    pub(super) has_received: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    /// What the next description lists; empty when dead.
    pub(super) formats: Vec<Chosen>,
    pub(super) extensions: Extensions,
    /// The track that was put here. It stays on a dead line, and on one that the client has turned off, so that it is not offered again.
    pub(super) track: Option<WantedTrack>,
    pub(super) sent: Option<SentLine>,
    pub(super) received: Option<ReceivedLine>,
}

/// Which ways a description of the client lets media flow on a line, seen from the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flows {
    pub(super) inbound: bool,
    pub(super) outbound: bool,
}

impl NegotiatedLine {
    /// A line that the client has appended.
    pub(super) fn of_client(section: &MediaSection) -> NegotiatedLine {
        NegotiatedLine {
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

    /// A line that we append.
    pub(super) fn ours(mid: Mid, kind: Kind) -> NegotiatedLine {
        NegotiatedLine {
            mid,
            media: kind.name().into(),
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

    /// Port 0. The track stays: the client was offered it and does not want it.
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
        flows: Flows,
        numbers: &Numbers,
        what: Description,
    ) -> Result<(), Fault> {
        let Some(kind) = section.kind else {
            self.kill();
            return Ok(());
        };
        let common = format::common_formats(section, kind);
        if common.is_empty() && flows.inbound {
            return Err(format::no_common_codec(section, kind));
        }
        if flows.inbound {
            self.check_kept(&common, self.received.as_ref().map(|known| &known.line))?;
        }
        let may_use = |extension, extmap| numbers.means(extension, extmap);
        let inbound = flows.inbound.then(|| Agreed::inbound(section, common.clone(), may_use));
        let outbound = match self.track.as_ref().filter(|_| flows.outbound) {
            Some(track) => self
                .sent_formats(track, &common, what)?
                .map(|formats| (track.id, formats)),
            None => None,
        };
        let outbound = outbound.map(|(track, formats)| (track, Agreed::outbound(section, formats, may_use)));
        self.received = inbound.as_ref().map(|agreed| ReceivedLine {
            stream: section.stream.clone(),
            line: agreed.media_line(section, section.ssrcs()),
        });
        self.sent = outbound.as_ref().map(|(track, agreed)| SentLine {
            track: *track,
            line: agreed.media_line(section, (None, None)),
        });
        self.has_received |= self.received.is_some();
        self.protocol = section.protocol.clone();
        self.settle(common, inbound, outbound.map(|(_, agreed)| agreed));
        Ok(())
    }

    /// The formats that the client takes of those that the track may be sent in; `None` if there are none.
    fn sent_formats(
        &self,
        track: &WantedTrack,
        common: &[Chosen],
        what: Description,
    ) -> Result<Option<Vec<Chosen>>, Fault> {
        let mut formats = common.to_vec();
        formats.retain(|chosen| track.codecs.contains(&chosen.format.codec));
        // Our own offer may have changed the codecs, and an answer is to that.
        let known = self.sent.as_ref().filter(|_| what == Description::Offer);
        self.check_kept(&formats, known.map(|known| &known.line))?;
        Ok(Some(formats).filter(|formats| !formats.is_empty()))
    }

    /// What the next description lists, by what flows now.
    fn settle(&mut self, common: Vec<Chosen>, inbound: Option<Agreed>, outbound: Option<Agreed>) {
        let flows = inbound.is_some() || outbound.is_some();
        (self.formats, self.extensions) = match (inbound, outbound) {
            (None, None) => (common, Extensions::new()),
            (Some(one), None) | (None, Some(one)) => (one.formats, one.extensions),
            (Some(mut inbound), Some(outbound)) => {
                add_extensions(&mut inbound.extensions, outbound.extensions);
                (inbound.formats, inbound.extensions)
            }
        };
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
    pub(super) fn check_meanings(&self, section: &MediaSection) -> Result<(), Fault> {
        for Chosen { format, .. } in &self.formats {
            let codec = (
                Some(format.payload_type),
                Meaning::Codec(format.codec),
                format.codec.encoding_name(),
            );
            for (number, meaning, was) in [codec, (format.rtx, Meaning::Rtx, "rtx")] {
                let mut listed = section.payloads.iter().filter(|payload| Some(payload.number) == number);
                if let Some(now) = listed.find(|now| Meaning::of(now) != meaning) {
                    return Err(self.changed(now.number, was));
                }
            }
        }
        Ok(())
    }

    /// Media that runs continues in the format that came first, so that has to stay.
    fn check_kept(&self, new: &[Chosen], old: Option<&MediaLine>) -> Result<(), Fault> {
        let Some(first) = old.map(|old| &old.formats[0]) else {
            return Ok(());
        };
        let is_first = |chosen: &Chosen| chosen.format.payload_type == first.payload_type;
        if new.iter().any(is_first) {
            return Ok(());
        }
        Err(self.changed(first.payload_type, first.codec.encoding_name()))
    }

    fn changed(&self, payload_type: Pt, was: &'static str) -> Fault {
        Fault::ChangedCodecs {
            mid: self.mid.clone(),
            payload_type,
            was,
        }
    }
}

impl Flows {
    /// By the direction as the client sees it.
    pub(super) fn of(direction: Direction) -> Flows {
        Flows {
            inbound: direction.sends(),
            outbound: direction.receives(),
        }
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

/// The fault of a line that the client would send or receive on, and cannot.
pub(super) fn no_common_codec(section: &MediaSection) -> Option<Fault> {
    Some(format::no_common_codec(section, section.kind?))
}
