//! Whom a WebSocket speaks for, and what the frames of its client lead to.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;

use crate::http::Shared;
use crate::http::auth::requester::Asker;
use crate::http::conference::join::{self, Entered};
use crate::http::conference::messages::{self, Frame, Hello, HelloWish, OfferMessage};
use crate::http::conference::problem::{of_member, unknown_peer};
use crate::http::conference::replies::{self, Answer};
use crate::http::conference::{MemberOffer, RoomFeed};
use crate::http::problem::Problem;
use crate::http::server::connection::Connection;
use crate::http::service::Refusal;
use onecast_control::conference::Roster;
use onecast_control::{SessionId, StreamName};

/// Whom a socket speaks for.
pub(crate) struct Member {
    pub(crate) peer: SessionId,
    room: StreamName,
    pub(crate) feed: RoomFeed,
    /// What its client knows of the room.
    pub(crate) told: Arc<Roster>,
    may_send: bool,
}

/// What came of a frame.
pub(crate) enum Done {
    Quietly,
    Told(Value),
    Left,
}

/// The server as the client of one socket meets it.
pub(crate) struct Host {
    pub(crate) shared: Shared,
    pub(crate) asker: Asker,
    pub(crate) connection: Connection,
}

impl Host {
    /// What a first frame leads to: a member, and what to tell its client.
    pub(crate) async fn hello(&self, text: &str) -> Result<(Member, Value), Problem> {
        let Hello { wish, token } = messages::hello(text)?;
        let asker = self.asker.clone().with_token(token);
        match wish {
            HelloWish::Join(message) => self.join(&asker, message).await,
            HelloWish::Resume(peer) => self.resume(&asker, peer).await,
        }
    }

    async fn join(&self, asker: &Asker, message: OfferMessage) -> Result<(Member, Value), Problem> {
        if self.shared.service.operation().drain_state().is_some() {
            return Err(Refusal::Draining.into());
        }
        let Entered { joined, may_send } = join::join(&self.shared, asker, self.connection, &message).await?;
        let member = self.member(joined.peer, message.room, may_send).map_err(of_member)?;
        let greeting = self.answer(&member, &joined.answer);
        Ok((member, greeting))
    }

    async fn resume(&self, asker: &Asker, peer: SessionId) -> Result<(Member, Value), Problem> {
        let guard = join::recognise(&self.shared, asker, peer).await?;
        let may_send = join::may_send(&self.shared, asker, &guard).await;
        let member = self.member(peer, guard.stream, may_send).map_err(of_member)?;
        let greeting = replies::resumed(member.feed.id, &member.room);
        Ok((member, greeting))
    }

    fn member(&self, peer: SessionId, room: StreamName, may_send: bool) -> Result<Member, Refusal> {
        let mut feed = self.shared.service.conference().follow(peer)?;
        let told = feed.roster.borrow_and_update().clone();
        Ok(Member {
            peer,
            room,
            feed,
            told,
            may_send,
        })
    }

    /// Does what a member asks for.
    pub(crate) fn perform(&self, member: &Member, frame: Frame) -> Result<Done, Refusal> {
        let conference = self.shared.service.conference();
        let done = match frame {
            Frame::Offer { sdp, words } => {
                let offer = MemberOffer {
                    sdp: &sdp,
                    words: &words,
                    may_send: member.may_send,
                };
                let answer = conference.offer(member.peer, offer)?;
                return Ok(Done::Told(self.answer(member, &answer)));
            }
            Frame::Answer(answer) => conference.answer(member.peer, answer.offer, &answer.sdp),
            Frame::Change(change) => conference.change(member.peer, &change),
            Frame::Leave => {
                conference.leave(member.peer)?;
                return Ok(Done::Left);
            }
        };
        done.map(|()| Done::Quietly)
    }

    fn answer(&self, member: &Member, sdp: &str) -> Value {
        let answer = Answer {
            sdp,
            peer: member.peer,
            id: Some(member.feed.id),
            room: &member.room,
        };
        replies::answer(answer, &self.shared.ice_servers)
    }

    /// Why a member's socket ends: somebody else follows in its place, or the member is no more.
    pub(crate) fn why_ended(&self, peer: SessionId) -> Problem {
        match self.shared.service.guard(peer) {
            Ok(Some(_)) => replaced(),
            Ok(None) => unknown_peer(),
            Err(refusal) => of_member(refusal),
        }
    }
}

fn replaced() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "resumed-elsewhere",
        "Another connection speaks for this peer",
        "another WebSocket has resumed this peer",
    )
}
