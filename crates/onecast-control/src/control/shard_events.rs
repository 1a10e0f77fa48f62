//! What the shards report.

use std::time::Duration;

use onecast_engine::fanout::{CloseCause, Event};
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::{Path, Profile, SessionId};

use super::{Control, Now};
use crate::effect::{Notice, Party};
use crate::ended::EndReason;
use crate::registry::{Purpose, Succession};

impl Control {
    /// A shard reports something about a session, which may have ended meanwhile.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Connected { session, path, cipher } => self.connected(now, session, path, cipher),
            Event::Media {
                session,
                stream,
                kind,
                codec,
            } => self.media(now, session, stream, kind, codec),
            Event::Keyframes {
                session,
                unanswered,
                interval,
            } => self.keyframes(session, unanswered, interval),
            Event::Restarted { session, path } => self.restarted(session, path),
            Event::Speaking {
                session,
                stream,
                speaking,
            } => {
                self.rooms.speaking(now.instant, session, stream, speaking);
                self.apply_room_effects(now);
            }
            Event::Layer {
                session, layer, reason, ..
            } => self.layer_sent(session, layer, reason),
            Event::Picture { session, after } => self.first_picture(session, after),
            Event::Closed { session, cause } => self.closed(now, session, cause),
        }
    }

    fn connected(&mut self, now: Now, id: SessionId, path: Path, cipher: Profile) {
        self.registry.set_path(id, path, cipher);
        if !self.succeed(now, id) {
            return;
        }
        let Some(connected) = self.registry.connected(now.instant, now.unix, id) else {
            return;
        };
        let stream = connected.stream.clone();
        self.announce(now, &stream);
        self.notice(Notice::Connected {
            stream: connected.stream,
            party: connected.party,
            address: path.remote,
            cipher,
            viewers: connected.viewers,
            missing: connected.missing,
        });
        match connected.purpose {
            Purpose::Publish => self.join_broadcast(now, &stream),
            Purpose::Watch => {}
            Purpose::Participate => {
                self.rooms.connected(now.instant, id);
                self.apply_room_effects(now);
            }
        }
    }

    /// A publisher that came while another was silent replaces it now, unless that one sends again: then it is ended, and this is false.
    fn succeed(&mut self, now: Now, id: SessionId) -> bool {
        match self.registry.succession(now.instant, id) {
            Succession::Free => true,
            Succession::Replaces { holder, silent } => {
                self.end(now, holder, EndReason::Replaced { silent });
                true
            }
            Succession::Refused => {
                let stream = self.registry.stream_of(id);
                self.end(now, id, EndReason::PlaceKept);
                // The shards, which know nothing of this, have given it the stream's tracks.
                if let Some(stream) = stream {
                    self.rooms.renew_program(now.instant, &stream);
                    self.apply_room_effects(now);
                }
                false
            }
        }
    }

    fn media(&mut self, now: Now, id: SessionId, stream: StreamKey, kind: Kind, codec: Codec) {
        let Some(name) = self.registry.media(id, kind, codec) else {
            return self.member_media(now, id, stream, kind, codec);
        };
        self.announce(now, &name);
        self.join_broadcast(now, &name);
        self.notice(Notice::Sends {
            stream: name,
            party: Party::Broadcaster,
            kind,
            codec,
        });
    }

    fn keyframes(&mut self, id: SessionId, unanswered: bool, interval: Option<Duration>) {
        if let Some(stream) = self.registry.stream_of(id) {
            self.notice(Notice::Keyframes {
                stream,
                unanswered,
                interval,
            });
        }
    }

    fn restarted(&mut self, id: SessionId, path: Path) {
        if let Some((stream, party)) = self.registry.party(id) {
            let address = path.remote;
            self.notice(Notice::Restarted { stream, party, address });
        }
    }

    /// A member of a room has many pictures, which are no news.
    fn first_picture(&mut self, id: SessionId, after: Duration) {
        if let Some((stream, Party::Viewer(viewer))) = self.registry.party(id) {
            self.notice(Notice::FirstPicture { stream, viewer, after });
        }
    }

    fn closed(&mut self, now: Now, id: SessionId, cause: CloseCause) {
        let was_present = self.end(now, id, EndReason::Peer(cause.clone()));
        if !was_present && cause != CloseCause::Commanded {
            self.notice(Notice::ClosedLate { session: id, cause });
        }
    }
}
