//! Which track stands on which line in our next offer, and whether there has to be one.

use std::collections::BTreeMap;

use super::super::MAX_CALL_LINES;
use super::super::negotiate::Chosen;
use super::line::Line;
use super::numbers::Numbers;
use super::state::State;
use super::{TrackId, WantedTrack};

/// The tracks of our next offer on their lines.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// By line; those after the last get lines of their own.
    pub(super) places: Vec<Option<Place<'a>>>,
    /// With the numbers that the new formats take.
    pub(super) numbers: Numbers,
    /// Whether it differs from what is agreed.
    pub(super) is_news: bool,
}

/// A track and its line.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) track: &'a WantedTrack,
    /// What to offer; `None` where it stays as agreed.
    pub(super) formats: Option<Vec<Chosen>>,
}

impl<'a> Plan<'a> {
    /// A track keeps its line, a new one takes a free line of its kind or a new line.
    pub(super) fn new(state: &State, wanted: &'a [WantedTrack]) -> Plan<'a> {
        let mut left: BTreeMap<TrackId, &WantedTrack> = wanted.iter().map(|track| (track.id, track)).collect();
        let mut plan = Plan {
            places: Vec::with_capacity(state.lines.len()),
            numbers: state.numbers.clone(),
            is_news: false,
        };
        for line in &state.lines {
            let place = plan.keep(state, line, &left);
            if let Some(place) = &place {
                left.remove(&place.track.id);
            }
            plan.places.push(place);
        }
        for track in wanted {
            if left.remove(&track.id).is_some() {
                plan.place(state, track);
            }
        }
        plan
    }

    fn keep(&mut self, state: &State, line: &Line, left: &BTreeMap<TrackId, &'a WantedTrack>) -> Option<Place<'a>> {
        let held = line.track.as_ref()?;
        let wanted = left.get(&held.id).copied();
        if line.is_dead {
            return wanted.map(|track| Place { track, formats: None });
        }
        let is_as_agreed = wanted.is_some_and(|wanted| is_same(held, wanted));
        let formats = match wanted {
            Some(_) if is_as_agreed && line.sent.is_some() => None,
            Some(wanted) => Some(self.numbers.formats(&state.offerable(wanted))),
            None => Some(Vec::new()),
        };
        if formats.as_ref().is_some_and(Vec::is_empty) {
            self.is_news |= line.sent.is_some();
            return None;
        }
        self.is_news |= !is_as_agreed;
        wanted.map(|track| Place { track, formats })
    }

    /// Places where the client has turned off what was there come last: it may mean the place, and would not see the new track.
    fn place(&mut self, state: &State, track: &'a WantedTrack) {
        let formats = self.numbers.formats(&state.offerable(track));
        if formats.is_empty() {
            return;
        }
        let kind = track.id.kind;
        let free = |which: &dyn Fn(&Line) -> bool| {
            let mut free = state.lines.iter().zip(&self.places);
            free.position(|(line, place)| place.is_none() && line.is_free(kind) && which(line))
        };
        let known = free(&|line| line.is_ours && line.takes).or_else(|| free(&|line| !line.is_ours && line.takes));
        let next = Some(self.places.len()).filter(|lines| *lines < MAX_CALL_LINES);
        let index = known.or(next).or_else(|| free(&|line| line.is_ours));
        let place = Some(Place {
            track,
            formats: Some(formats),
        });
        match index {
            None => return,
            Some(index) if index == self.places.len() => self.places.push(place),
            Some(index) => self.places[index] = place,
        }
        self.is_news = true;
    }
}

/// The order of the codecs does not matter.
fn is_same(held: &WantedTrack, wanted: &WantedTrack) -> bool {
    let covers = |a: &WantedTrack, b: &WantedTrack| a.codecs.iter().all(|codec| b.codecs.contains(codec));
    (held.ssrc, held.rtx_ssrc, &held.stream) == (wanted.ssrc, wanted.rtx_ssrc, &wanted.stream)
        && covers(held, wanted)
        && covers(wanted, held)
}
