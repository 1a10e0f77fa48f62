//! Requests that wait for changes.

use onecast_control::Refusal;
use onecast_control::whep_events::EventStreamId;
use onecast_rtc::SessionId;
use tokio::sync::watch;

use super::App;
use super::channels::Update;
use crate::http::feeds::{EventFeed, Feeds, Presence, RoomFeed};

impl Feeds for App {
    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal> {
        let (feed, before) = self.plane().with(|state, _| {
            let (of, playable, video_line) = state.control.events_of(events)?;
            let followed = state.channels.follow_events(events, &of, playable);
            let (feed, before) = followed.ok_or(Refusal::UnknownEventStream)?;
            Ok::<_, Refusal>((EventFeed { video_line, ..feed }, before))
        })?;
        before.into_iter().for_each(Update::send);
        Ok(feed)
    }

    fn follow_room(&self, peer: SessionId) -> Result<RoomFeed, Refusal> {
        let (id, follower, (channels, before)) = self.plane().with(|state, now| {
            let follower = state.control.handle_follow(now, peer)?;
            let (_, id) = state.control.membership(peer)?;
            let channels = state.channels.follow_room(peer).ok_or(Refusal::UnknownSession)?;
            Ok::<_, Refusal>((id, follower, channels))
        })?;
        before.into_iter().for_each(Update::send);
        // It takes the lock when it is dropped, so it is made without.
        let inner = self.inner.clone();
        let presence = Presence::new(move || {
            inner
                .plane
                .control(|control, now| control.handle_unfollow(now, peer, follower));
        });
        Ok(RoomFeed {
            id,
            roster: channels.roster,
            wakes: channels.wakes,
            ended: channels.ended,
            presence,
        })
    }

    fn wakes(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal> {
        self.plane().with(|state, _| {
            let wakes = state.channels.wakes(peer);
            wakes.ok_or_else(|| Refusal::gone(state.control.why_ended(peer)))
        })
    }
}
