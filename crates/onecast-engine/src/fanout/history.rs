//! Where a subscriber that catches up reads the past from.

use std::time::{Duration, Instant};

use super::forwarder::Forwarder;
use super::stream::Progress;
use crate::media::Window;
use crate::media::window::{Slot, Start};

/// Packets of a track's past, by number: those in its window, or a recording of it.
pub(super) trait History {
    fn get(&self, index: u64) -> Option<&Slot>;

    /// The number of the newest packet.
    fn newest(&self) -> Option<u64>;

    /// Whether a packet is older than everything that is kept.
    fn has_left(&self, index: u64) -> bool;

    /// Whether there is a newer place to start than a packet's group of pictures. The rest of that would only be decoded to be thrown
    /// away.
    fn is_outdated(&self, index: u64) -> bool;
}

impl History for Window {
    #[inline]
    fn get(&self, index: u64) -> Option<&Slot> {
        Window::get(self, index)
    }

    #[inline]
    fn newest(&self) -> Option<u64> {
        Window::newest(self)
    }

    #[inline]
    fn has_left(&self, index: u64) -> bool {
        Window::has_left(self, index)
    }

    fn is_outdated(&self, index: u64) -> bool {
        self.gop().is_keyframe()
            && self.gop().start().is_some_and(|start| start > index)
            && matches!(self.start(), Start::At(_))
    }
}

/// What is at a subscriber's cursor.
pub(super) enum Next<'a> {
    /// The packet that it is sent next.
    Packet(&'a Slot),
    /// Nothing, and nothing is waited for.
    Missing,
    /// It goes on later, or not at all.
    Stop(Progress),
}

/// What comes next on a subscriber's way to the live edge.
pub(super) fn next_packet<'a>(history: &'a impl History, forwarder: &mut Forwarder, now: Instant) -> Next<'a> {
    let Some(cursor) = forwarder.cursor() else {
        return Next::Stop(if forwarder.is_live() {
            Progress::Level
        } else {
            Progress::Lost
        });
    };
    match history.get(cursor) {
        Some(slot) if slot.settled => return Next::Packet(slot),
        Some(_) => return Next::Stop(Progress::Edge),
        None => {}
    }
    if history.newest().is_none_or(|newest| cursor >= newest) {
        let level = forwarder.reach_edge(now);
        return Next::Stop(if level { Progress::Level } else { Progress::Edge });
    }
    if history.has_left(cursor) {
        return Next::Stop(Progress::Lost);
    }
    let may_come = |at| now < at + GAP_TIMEOUT;
    if !forwarder.is_true() && missing_since(history, cursor).is_some_and(may_come) {
        return Next::Stop(Progress::Edge);
    }
    Next::Missing
}

/// When the packet behind a gap came.
fn missing_since(history: &impl History, index: u64) -> Option<Instant> {
    let newest = history.newest()?;
    let behind = (index..=newest).find_map(|index| history.get(index))?;
    Some(behind.packet.arrived)
}

/// How long a subscriber that catches up waits for a packet that the publisher is asked for again: about a round trip.
const GAP_TIMEOUT: Duration = Duration::from_millis(100);
