//! Viewers that start: they wait for the moment, are sent what came since the newest keyframe, and join the live edge.

use super::*;

/// The viewers of a shard that start, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Starting {
    entries: VecDeque<Entry>,
    next: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    peer: u32,
    generation: u32,
    slot: u32,
    /// When it is due; `None` when it waits for its stream's next batch.
    at: Option<Instant>,
    /// From when on it has had no place to start.
    since: Instant,
}

impl Starting {
    /// When the first is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A stream's batch went out: those who wait for it go on.
    pub(super) fn flushed(&mut self, slot: u32, now: Instant) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.slot == slot && entry.at.is_none())
        {
            entry.at = Some(now);
            self.next = Some(now);
        }
    }

    fn push(&mut self, entry: Entry) {
        self.next = [self.next, entry.at].into_iter().flatten().min();
        self.entries.push_back(entry);
    }

    /// The viewer left.
    pub(super) fn remove(&mut self, peer: u32, slot: u32) {
        self.entries.retain(|entry| entry.peer != peer || entry.slot != slot);
        self.next = self.entries.iter().filter_map(|entry| entry.at).min();
    }

    /// The stream is no more.
    pub(super) fn remove_slot(&mut self, slot: u32) {
        self.entries.retain(|entry| entry.slot != slot);
        self.next = self.entries.iter().filter_map(|entry| entry.at).min();
    }

    /// A viewer that starts is due at once.
    fn wake(&mut self, peer: u32, slot: u32, now: Instant) {
        let of_viewer = |entry: &&mut Entry| entry.peer == peer && entry.slot == slot;
        for entry in self.entries.iter_mut().filter(of_viewer) {
            entry.at = Some(now);
            self.next = Some(now);
        }
    }
}

impl Shard {
    /// From the finished handshake to the first packet of video. Some receivers do not exist before: without a wait Firefox lost the
    /// beginning of 20 of 48 starts, with 10 ms none of 81.
    pub(super) const START_WAIT: Duration = Duration::from_millis(20);
    /// Packets of the past that one turn sends: a third of a millisecond, which is as long as live packets ever wait for them.
    const START_PACKETS_PER_TURN: usize = 256;
    /// Between looks for a place to start that is expected at any moment.
    const START_RETRY: Duration = Duration::from_millis(10);
    /// Longest wait for a packet that is missing since the newest keyframe.
    const START_PATIENCE: Duration = Duration::from_millis(300);

    /// The viewer is to start then, if it watches video.
    pub(super) fn start_later(&mut self, index: u32, slot: u32, at: Instant) {
        let Some(viewer) = self.viewer(index, slot) else { return };
        if viewer.forwarder(Kind::Video).is_none() {
            return;
        }
        viewer.starting = true;
        self.starting.push(Entry {
            peer: index,
            generation: self.peers.generation(index),
            slot,
            at: Some(at),
            since: at,
        });
    }

    /// The viewer is alive: its receiver is ready for what waits.
    pub(super) fn hear_of(&mut self, now: Instant, index: u32, slot: u32) {
        if let Some(viewer) = self.viewer(index, slot)
            && viewer.starting
            && viewer.started_at.is_none()
        {
            self.starting.wake(index, slot, now);
        }
    }

    /// The viewer asks for a keyframe.
    pub(super) fn keyframe_wanted(&mut self, now: Instant, index: u32, slot: u32) {
        self.serve_keyframe(now, index, slot, false);
    }

    fn serve_keyframe(&mut self, now: Instant, index: u32, slot: u32, lost: bool) {
        let Some(position) = self.position(index, slot) else {
            return;
        };
        let Some(stream) = self.stream(slot) else { return };
        let tracks = stream.tracks().clone();
        match stream.keyframe_wanted(now, position, lost) {
            Server::Cache { ask } => {
                ask.into_iter().for_each(|need| tracks.request_keyframe(need));
                self.start_again(now, index, slot);
            }
            Server::Publisher { need } => tracks.request_keyframe(need),
            Server::Nobody => {}
        }
    }

    /// What a viewer needs that packets alone do not mend.
    pub(super) fn bring_remedy(&mut self, now: Instant, index: u32, slot: u32, remedy: Remedy) {
        match remedy {
            Remedy::None => {}
            Remedy::Keyframe => self.serve_keyframe(now, index, slot, true),
            Remedy::Start => self.start_again(now, index, slot),
        }
    }

    fn start_again(&mut self, now: Instant, index: u32, slot: u32) {
        let Some(viewer) = self.viewer(index, slot) else { return };
        viewer.again = viewer.started_at.is_some();
        if viewer.starting {
            self.starting.wake(index, slot, now);
        } else {
            self.start_later(index, slot, now);
        }
    }

    /// A stream's batch went out: if it brought a keyframe, those who waited for one start.
    pub(super) fn find_startable(&mut self, now: Instant, slot: u32) {
        let mut found = Vec::new();
        if let Some(stream) = self.stream(slot) {
            stream.take_startable(now, &mut found);
        }
        found.into_iter().for_each(|index| self.start_later(index, slot, now));
    }

    /// Sends viewers that start what is due, each its slice and all of them together a bounded number of packets.
    pub(super) fn run_starts(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if self.starting.next.is_none_or(|next| next > now) {
            return;
        }
        let mut budget = Shard::START_PACKETS_PER_TURN;
        let mut flow = Flow::default();
        let entries = std::mem::take(&mut self.starting.entries);
        let (mut waiting, mut served) = (VecDeque::with_capacity(entries.len()), VecDeque::new());
        for mut entry in entries {
            let has_turn = entry.at.is_some_and(|at| at <= now) && !self.is_flushing_stream(entry.slot);
            if budget == 0 || !has_turn {
                waiting.push_back(entry);
                continue;
            }
            if let Some(at) = self.run_start(now, &mut entry, &mut budget, outlet, &mut flow) {
                entry.at = at;
                served.push_back(entry);
            }
        }
        // Whoever had no turn is first in the next.
        waiting.append(&mut served);
        self.starting.next = waiting.iter().filter_map(|entry| entry.at).min();
        self.starting.entries = waiting;
        self.send(outlet);
        self.finish(now, &flow);
    }

    /// One viewer's turn. Returns when its next is, `Some(None)` for with the next batch; `None` when it needs no more.
    fn run_start(
        &mut self,
        now: Instant,
        entry: &mut Entry,
        budget: &mut usize,
        outlet: &mut dyn Outlet,
        flow: &mut Flow,
    ) -> Option<Option<Instant>> {
        if self.peers.generation(entry.peer) != entry.generation {
            return None;
        }
        let position = self.position(entry.peer, entry.slot)?;
        let stream = self.streams.get_mut(entry.slot as usize)?.as_mut()?;
        let mut out = Out {
            now,
            slot: entry.slot,
            queue: &mut self.queue,
            outlet,
            flow,
            first: &mut self.first_pictures,
            failed: &mut self.failed,
        };
        // A newer keyframe on the way means one more start; more of them do not fit one turn.
        for _ in 0..2 {
            match stream.start(now, position) {
                Started::Yes { again, blind } => {
                    entry.since = now;
                    self.counters.starts.add(1);
                    self.counters.starts_without_keyframe.add(u64::from(blind));
                    if blind {
                        stream.tracks().request_keyframe(stream.need(position));
                    }
                    self.counters.starts_repeated.add(u64::from(again));
                }
                Started::NotYet if now < entry.since + Shard::START_PATIENCE => {
                    return Some(Some(now + Shard::START_RETRY));
                }
                Started::NotYet | Started::NextKeyframe => {
                    self.counters.starts_waiting.add(1);
                    let need = stream.need(position);
                    stream.tracks().request_keyframe(need);
                    stream.await_startable(now);
                    stream.viewer(position).starting = false;
                    return None;
                }
                Started::OnItsWay => entry.since = now,
                Started::No => break,
            }
            match stream.catch_up(position, budget, &mut out) {
                Progress::Until(at) => return Some(Some(at)),
                Progress::Edge => return Some(None),
                Progress::Level => break,
                Progress::Lost => {}
            }
        }
        stream.viewer(position).starting = false;
        None
    }

    fn viewer(&mut self, index: u32, slot: u32) -> Option<&mut Viewer> {
        let position = self.position(index, slot)?;
        Some(self.stream(slot)?.viewer(position))
    }
}
