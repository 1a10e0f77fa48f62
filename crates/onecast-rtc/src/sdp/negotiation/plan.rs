//! Which track goes on which line in our next offer, and whether an offer is needed.

use std::collections::BTreeMap;

use super::super::MAX_CALL_LINES;
use super::super::format::Chosen;
use super::line::NegotiatedLine;
use super::numbers::Numbers;
use super::state::State;
use super::{TrackId, WantedTrack};

/// The tracks of our next offer on their lines.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// By line; those after the last line get new lines.
    pub(super) assignments: Vec<Option<Assignment<'a>>>,
    /// With the numbers that the new formats take.
    pub(super) numbers: Numbers,
    /// Whether it differs from what is agreed.
    pub(super) differs: bool,
}

/// A track on a line.
#[derive(Debug)]
pub(super) struct Assignment<'a> {
    pub(super) track: &'a WantedTrack,
    /// What to offer; `None` where it stays as agreed.
    pub(super) formats: Option<Vec<Chosen>>,
}

impl<'a> Plan<'a> {
    /// A track keeps its line, a new one takes a free line of its kind or a new line.
    pub(super) fn new(state: &State, wanted: &'a [WantedTrack]) -> Plan<'a> {
        let mut left: BTreeMap<TrackId, &WantedTrack> = wanted.iter().map(|track| (track.id, track)).collect();
        let mut plan = Plan {
            assignments: Vec::with_capacity(state.lines.len()),
            numbers: state.numbers.clone(),
            differs: false,
        };
        for line in &state.lines {
            let kept = plan.keep(state, line, &left);
            if let Some(kept) = &kept {
                left.remove(&kept.track.id);
            }
            plan.assignments.push(kept);
        }
        for track in wanted {
            if left.remove(&track.id).is_some() {
                plan.assign(state, track);
            }
        }
        plan
    }

    fn keep(
        &mut self,
        state: &State,
        line: &NegotiatedLine,
        left: &BTreeMap<TrackId, &'a WantedTrack>,
    ) -> Option<Assignment<'a>> {
        let held = line.track.as_ref()?;
        let wanted = left.get(&held.id).copied();
        if line.is_dead {
            return wanted.map(|track| Assignment { track, formats: None });
        }
        let is_as_agreed = wanted.is_some_and(|wanted| is_same(held, wanted));
        let formats = match wanted {
            Some(_) if is_as_agreed && line.sent.is_some() => None,
            Some(wanted) => Some(self.numbers.formats(&state.offerable(wanted))),
            None => Some(Vec::new()),
        };
        if formats.as_ref().is_some_and(Vec::is_empty) {
            self.differs |= line.sent.is_some();
            return None;
        }
        self.differs |= !is_as_agreed;
        wanted.map(|track| Assignment { track, formats })
    }

    /// Takes a free line, or a new one. Lines whose last track the client has turned off come last: it may have meant the line, and would
    /// not show the new track.
    fn assign(&mut self, state: &State, track: &'a WantedTrack) {
        let formats = self.numbers.formats(&state.offerable(track));
        if formats.is_empty() {
            return;
        }
        let kind = track.id.kind;
        let free = |which: &dyn Fn(&NegotiatedLine) -> bool| {
            let mut free = state.lines.iter().zip(&self.assignments);
            free.position(|(line, taken)| taken.is_none() && line.is_free(kind) && which(line))
        };
        let known = free(&|line| line.is_ours && line.takes).or_else(|| free(&|line| !line.is_ours && line.takes));
        let next = Some(self.assignments.len()).filter(|lines| *lines < MAX_CALL_LINES);
        let index = known.or(next).or_else(|| free(&|line| line.is_ours));
        let assignment = Some(Assignment {
            track,
            formats: Some(formats),
        });
        match index {
            None => return,
            Some(index) if index == self.assignments.len() => self.assignments.push(assignment),
            Some(index) => self.assignments[index] = assignment,
        }
        self.differs = true;
    }
}

/// The order of the codecs does not matter.
fn is_same(held: &WantedTrack, wanted: &WantedTrack) -> bool {
    let covers = |a: &WantedTrack, b: &WantedTrack| a.codecs.iter().all(|codec| b.codecs.contains(codec));
    (held.ssrc, held.rtx_ssrc, &held.stream) == (wanted.ssrc, wanted.rtx_ssrc, &wanted.stream)
        && covers(held, wanted)
        && covers(wanted, held)
}
