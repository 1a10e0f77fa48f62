//! Streams by name: publisher, codecs and counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::media::StreamTracks;
use onecast_rtc::SessionId;
use onecast_rtc::rtp::{Codec, Kind};

use super::sessions::SessionEntry;
use super::slot::Slot;
use super::{Applicant, Purpose};
use crate::StreamName;
use crate::conference::Program;

/// Every stream that has a session.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) by_name: BTreeMap<StreamName, StreamEntry>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) tracks: Arc<StreamTracks>,
    pub(super) publisher: Option<SessionId>,
    /// Replaces the publisher, which is silent, when it has connected.
    pub(super) successor: Option<SessionId>,
    pub(super) since: Option<Duration>,
    /// Its viewers see a member of the room that has its name.
    pub(super) member_on_air: bool,
    /// Since when the publisher has sent nothing, if that was announced.
    pub(super) silent_since: Option<Instant>,
    /// What its viewers are sent.
    pub(super) codecs: [Option<Codec>; 2],
    /// The codecs for which viewers that cannot play them have been looked for.
    pub(super) codecs_checked: [Option<Codec>; 2],
    /// What its publisher sends, which is something else while viewers see a member of a conference room.
    pub(super) published: [Option<Codec>; 2],
    /// Connected viewers.
    pub(super) watching: usize,
    /// Viewers, connecting ones included.
    pub(super) viewers: usize,
    /// Members of the conference room, connecting ones included.
    pub(super) members: usize,
    /// All sessions: the last one takes the stream with it.
    pub(super) sessions: usize,
    /// Viewers and members so far.
    numbered: u64,
    /// Since when it has had no publisher; `None` while it has one.
    pub(super) alone_since: Option<Instant>,
}

impl Streams {
    pub(super) fn get(&self, name: &StreamName) -> Option<&StreamEntry> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &StreamName) -> Option<&mut StreamEntry> {
        self.by_name.get_mut(name)
    }

    /// The stream, which begins with these tracks if it is new.
    pub(super) fn open(
        &mut self,
        now: Instant,
        name: &StreamName,
        tracks: impl FnOnce() -> Arc<StreamTracks>,
    ) -> &mut StreamEntry {
        let entry = self.by_name.entry(name.clone());
        entry.or_insert_with(|| StreamEntry::new(now, tracks()))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &StreamEntry> {
        self.by_name.values()
    }
}

impl StreamEntry {
    fn new(now: Instant, tracks: Arc<StreamTracks>) -> StreamEntry {
        StreamEntry {
            tracks,
            publisher: None,
            successor: None,
            since: None,
            member_on_air: false,
            silent_since: None,
            codecs: [None; 2],
            codecs_checked: [None; 2],
            published: [None; 2],
            watching: 0,
            viewers: 0,
            members: 0,
            sessions: 0,
            numbered: 0,
            alone_since: Some(now),
        }
    }

    /// A session takes its place. Gives the number of a viewer or a member, 0 for a publisher.
    pub(super) fn enter(&mut self, applicant: &Applicant<'_>, slot: &Slot) -> u64 {
        self.sessions += 1;
        match applicant.purpose {
            Purpose::Publish => {
                let holder = if slot.is_contested() {
                    &mut self.successor
                } else {
                    &mut self.publisher
                };
                *holder = Some(applicant.id);
                return 0;
            }
            Purpose::Watch => self.viewers += 1,
            Purpose::Participate => self.members += 1,
        }
        self.numbered += 1;
        self.numbered
    }

    /// A session has finished its handshake.
    pub(super) fn connected(&mut self, purpose: Purpose, unix: Duration) {
        match purpose {
            Purpose::Publish => {
                self.since = Some(unix);
                self.alone_since = None;
            }
            Purpose::Watch => self.watching += 1,
            Purpose::Participate => {}
        }
    }

    /// A session is over.
    pub(super) fn leave(&mut self, now: Instant, id: SessionId, session: &SessionEntry) {
        self.sessions -= 1;
        match session.caller.purpose {
            Purpose::Publish if self.successor == Some(id) => self.successor = None,
            Purpose::Publish => {
                self.publisher = self.successor.take();
                self.silent_since = None;
                // One that never connected has changed nothing: a room of that name may be on air.
                if session.connected.is_some() {
                    self.since = None;
                    self.codecs = [None; 2];
                    self.published = [None; 2];
                    self.alone_since.get_or_insert(now);
                }
            }
            Purpose::Watch => {
                self.viewers -= 1;
                self.watching -= usize::from(session.connected.is_some());
            }
            Purpose::Participate => self.members -= 1,
        }
    }

    /// The publisher sends a track in this codec.
    pub(super) fn set_published(&mut self, kind: Kind, codec: Codec) {
        self.codecs[kind as usize] = Some(codec);
        self.published[kind as usize] = Some(codec);
    }

    /// Viewers see a member of the room that has the stream's name, or nothing of it any more. `has_publisher`: one is connected.
    pub(super) fn set_program(&mut self, now: Instant, unix: Duration, program: Option<Program>, has_publisher: bool) {
        let codecs = program.map(|program| program.codecs);
        let otherwise = if has_publisher { self.published } else { [None; 2] };
        self.codecs = codecs.unwrap_or(otherwise);
        self.member_on_air = program.is_some_and(|program| !program.is_broadcast);
        if has_publisher {
            return;
        }
        if codecs.is_some() {
            self.since.get_or_insert(unix);
            self.alone_since = None;
        } else {
            self.since = None;
            self.alone_since.get_or_insert(now);
        }
    }
}
