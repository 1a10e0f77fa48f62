//! All that is agreed between the server and one member. A description of the client leads to the next state, or to an error.

use super::super::Offer;
use super::super::media::{Direction, MediaSection};
use super::line::{self, Flows, NegotiatedLine};
use super::numbers::Numbers;
use super::plan::{Assignment, Plan};
use super::{Description, Fault, MAX_SENDING_LINES, WantedTrack};
use crate::RemoteTransport;
use crate::rtp::{Codec, Kind, Mid};

/// What both sides have agreed, or will have once our offer is answered.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) lines: Vec<NegotiatedLine>,
    /// Indices of the lines in the bundle, in its order: the first that is not dead is the tagged one.
    pub(super) bundle: Vec<usize>,
    pub(super) numbers: Numbers,
    pub(super) remote: Option<RemoteTransport>,
    /// `a=extmap-allow-mixed` for the session.
    pub(super) allow_mixed: bool,
    /// All that the client ever said it can receive. Nothing is known about a kind without an entry.
    receivable: Vec<Codec>,
    /// Number of our next mid.
    next_mid: u32,
}

impl State {
    pub(super) fn new() -> State {
        State {
            lines: Vec::new(),
            bundle: Vec::new(),
            numbers: Numbers::new(),
            remote: None,
            allow_mixed: false,
            receivable: Vec::new(),
            next_mid: 0,
        }
    }

    /// After an offer of the client.
    pub(super) fn offered(&self, offer: &Offer) -> Result<State, Fault> {
        self.check_lines(&offer.lines, Description::Offer)?;
        check_sending(&offer.lines)?;
        let mut next = self.clone();
        next.numbers = Numbers::new();
        take_numbers(&mut next.numbers, &offer.lines)?;
        for (index, section) in offer.lines.iter().enumerate() {
            match next.lines.get(index) {
                None => next.lines.push(NegotiatedLine::of_client(section)),
                // A stopped place is the client's to use again (RFC 9429 section 5.2.2).
                Some(line) if line.is_dead && line.is_replaced_by(section) => {
                    next.lines[index] = NegotiatedLine::of_client(section)
                }
                Some(_) => {}
            }
            next.take_offered(index, section)?;
        }
        next.bundle.clone_from(&offer.bundle);
        next.allow_mixed = offer.allow_mixed;
        next.take_transport(offer.remote());
        match offer.lines.iter().find_map(line::no_common_codec) {
            Some(fault) if self.remote.is_none() && next.lines.iter().all(|line| line.is_dead) => Err(fault),
            _ => Ok(next),
        }
    }

    fn take_offered(&mut self, index: usize, section: &MediaSection) -> Result<(), Fault> {
        let line = &mut self.lines[index];
        let flows = Flows::of(section.direction());
        line.takes = flows.outbound;
        line.agree(section, flows, &self.numbers, Description::Offer)?;
        // A line that also sends lists only what the client can do both ways.
        if flows.outbound && !flows.inbound && !line.is_ours {
            for codec in line.formats.iter().map(|chosen| chosen.format.codec) {
                if !self.receivable.contains(&codec) {
                    self.receivable.push(codec);
                }
            }
        }
        Ok(())
    }

    /// After the client's answer to the offer that this is.
    pub(super) fn answered(&self, answer: &Offer) -> Result<State, Fault> {
        let what = Description::Answer;
        self.check_lines(&answer.lines, what)?;
        let mut next = self.clone();
        take_numbers(&mut next.numbers, &answer.lines)?;
        for (line, section) in next
            .lines
            .iter_mut()
            .zip(&answer.lines)
            .filter(|(line, _)| !line.is_dead)
        {
            let (wants, is_sent) = (Flows::of(section.direction()), line.track.is_some());
            let flows = Flows {
                inbound: wants.inbound && line.received.is_some(),
                outbound: wants.outbound && is_sent,
            };
            if is_sent {
                line.takes = wants.outbound;
            }
            line.agree(section, flows, &next.numbers, what)?;
            if let Some(fault) = line::no_common_codec(section).filter(|_| flows.outbound && line.sent.is_none()) {
                return Err(fault);
            }
        }
        next.take_transport(answer.remote());
        Ok(next)
    }

    /// The plan carried out: the state of our offer, which the client has not answered yet.
    pub(super) fn planned(&self, plan: Plan<'_>) -> State {
        let mut next = self.clone();
        next.numbers = plan.numbers;
        for (index, assignment) in plan.assignments.into_iter().enumerate() {
            let Some(Assignment { track, formats }) = assignment else {
                next.lines[index].vacate();
                continue;
            };
            if index == next.lines.len() {
                let mid = next.new_mid();
                next.lines.push(NegotiatedLine::ours(mid, track.id.kind));
                next.bundle.push(index);
            }
            next.lines[index].put(track, formats, &mut next.numbers);
        }
        next
    }

    /// The codecs of the track that may be offered to the client.
    pub(super) fn offerable(&self, track: &WantedTrack) -> Vec<Codec> {
        let is_known = self.receivable.iter().any(|codec| codec.kind() == track.id.kind);
        if !is_known && self.is_hopeless(track.id.kind) {
            return Vec::new();
        }
        let mut codecs = Vec::new();
        for codec in &track.codecs {
            if codec.kind() == track.id.kind
                && !codecs.contains(codec)
                && (!is_known || self.receivable.contains(codec))
            {
                codecs.push(*codec);
            }
        }
        codecs
    }

    /// A client that has rejected every track of a kind, and never said that it receives any, is offered no more of them: each would leave
    /// a dead line.
    fn is_hopeless(&self, kind: Kind) -> bool {
        let ours = || self.lines.iter().filter(|line| line.is_ours && line.kind == Some(kind));
        ours().all(|line| line.is_dead) && ours().count() >= MAX_REJECTIONS
    }

    /// Lines that are not dead, as indices, in the bundle's order.
    pub(super) fn alive(&self) -> impl Iterator<Item = usize> {
        let bundle = self.bundle.iter().copied();
        bundle.filter(|index| !self.lines[*index].is_dead)
    }

    /// The lines have to be those that are agreed, each in its place; an offer may append others.
    fn check_lines(&self, sections: &[MediaSection], what: Description) -> Result<(), Fault> {
        let (lines, expected) = (sections.len(), self.lines.len());
        let is_whole = match what {
            Description::Offer => lines >= expected,
            Description::Answer => lines == expected,
        };
        if !is_whole {
            return Err(Fault::LineCount { lines, expected });
        }
        for (index, section) in sections.iter().enumerate() {
            let place = index + 1;
            if section.kind.is_some() && section.mid.is_none() {
                return Err(Fault::NoMid { place });
            }
            if let Some(line) = self.lines.get(index).filter(|line| !is_same(line, section, what)) {
                let (media, mid) = (line.media.clone(), line.mid.clone());
                return Err(Fault::OtherLine { place, media, mid });
            }
        }
        self.check_meanings(sections, what)
    }

    /// Payload types keep their meaning on lines that run on, and in answers to what we have offered.
    fn check_meanings(&self, sections: &[MediaSection], what: Description) -> Result<(), Fault> {
        for (line, section) in self.lines.iter().zip(sections) {
            let runs = line.sent.is_some() || line.received.is_some();
            if what == Description::Answer || (runs && section.direction() != Direction::Inactive) {
                line.check_meanings(section)?;
            }
        }
        Ok(())
    }

    /// The roles of a handshake stay while the certificates do: RFC 8842 section 5.5 has later offers say `actpass` again.
    fn take_transport(&mut self, said: &RemoteTransport) {
        let mut remote = said.clone();
        if let Some(known) = &self.remote
            && known.fingerprints.iter().any(|known| said.fingerprints.contains(known))
        {
            remote.role = known.role;
        }
        self.remote = Some(remote);
    }

    /// Never one that exists, or that we used before.
    fn new_mid(&mut self) -> Mid {
        loop {
            let mid = Mid::from(format!("s{}", self.next_mid));
            self.next_mid += 1;
            if self.lines.iter().all(|line| line.mid != mid) {
                return mid;
            }
        }
    }
}

/// Whether the section is this line. One with port 0 may lack its mid, and the protocol may change.
fn is_same(line: &NegotiatedLine, section: &MediaSection, what: Description) -> bool {
    if line.is_dead && what == Description::Offer {
        return true;
    }
    let is_kind = section.kind.is_none() || section.kind == line.kind;
    let is_named = section
        .mid
        .as_deref()
        .map_or(section.kind.is_none(), |mid| mid == &*line.mid);
    section.media == line.media && is_kind && is_named
}

fn check_sending(sections: &[MediaSection]) -> Result<(), Fault> {
    let in_use = sections.iter().filter(|section| section.kind.is_some());
    let lines = in_use.filter(|section| section.direction().sends()).count();
    match lines {
        0..=MAX_SENDING_LINES => Ok(()),
        _ => Err(Fault::TooManySending { lines }),
    }
}

fn take_numbers(numbers: &mut Numbers, sections: &[MediaSection]) -> Result<(), Fault> {
    sections.iter().try_for_each(|section| numbers.add(section))
}

/// So many tracks of one kind are offered to a client that rejects each of them.
const MAX_REJECTIONS: usize = 4;
