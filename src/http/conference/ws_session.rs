//! The member behind a WebSocket, and the requests in its frames.

use std::sync::Arc;

use serde_json::Value;

use crate::http::Shared;
use crate::http::auth::requester::Requester;
use crate::http::conference::join::{self, JoinedMember};
use crate::http::conference::messages::{self, FirstFrame, FirstRequest, Frame, OfferMessage};
use crate::http::conference::replies::{self, AnswerReply};
use crate::http::feeds::RoomFeed;
use crate::http::problem::{Problem, kinds, of_member, unknown_peer};
use crate::http::server::connection::Connection;
use onecast_control::conference::Roster;
use onecast_control::port::MemberOffer;
use onecast_control::{Refusal, SessionId, StreamName};

/// The member that a socket controls.
pub(crate) struct WsMember {
    pub(crate) peer: SessionId,
    room: StreamName,
    pub(crate) feed: RoomFeed,
    /// The roster that the client knows.
    pub(crate) known_roster: Arc<Roster>,
    may_send: bool,
}

/// The outcome of a frame.
pub(crate) enum FrameOutcome {
    Silent,
    Reply(Value),
    Left,
}

/// What one socket needs of the server.
pub(crate) struct WsSession {
    pub(crate) shared: Shared,
    pub(crate) requester: Requester,
    pub(crate) connection: Connection,
}

impl WsSession {
    /// Handles a first frame: joins or resumes a member, and returns it with the greeting for its client.
    pub(crate) async fn first_frame(&self, text: &str) -> Result<(WsMember, Value), Problem> {
        let FirstFrame { request, token } = messages::first_frame(text)?;
        let requester = self.requester.clone().with_token(token);
        match request {
            FirstRequest::Join(message) => self.join(&requester, message).await,
            FirstRequest::Resume(peer) => self.resume(&requester, peer).await,
        }
    }

    async fn join(&self, requester: &Requester, message: OfferMessage) -> Result<(WsMember, Value), Problem> {
        if self.shared.service.operation().drain_state().is_some() {
            return Err(Refusal::Draining.into());
        }
        let JoinedMember { joined, may_send } = join::join(&self.shared, requester, self.connection, &message).await?;
        let member = self.member(joined.peer, message.room, may_send).map_err(of_member)?;
        let greeting = self.answer(&member, &joined.answer);
        Ok((member, greeting))
    }

    async fn resume(&self, requester: &Requester, peer: SessionId) -> Result<(WsMember, Value), Problem> {
        let guard = join::authorize_member(&self.shared, requester, peer).await?;
        let may_send = join::may_send(&self.shared, requester, &guard).await;
        let member = self.member(peer, guard.stream, may_send).map_err(of_member)?;
        let greeting = replies::resumed(member.feed.id, &member.room);
        Ok((member, greeting))
    }

    fn member(&self, peer: SessionId, room: StreamName, may_send: bool) -> Result<WsMember, Refusal> {
        let mut feed = self.shared.service.follow_room(peer)?;
        let known_roster = feed.roster.borrow_and_update().clone();
        Ok(WsMember {
            peer,
            room,
            feed,
            known_roster,
            may_send,
        })
    }

    /// Performs the request of a member.
    pub(crate) fn perform(&self, member: &WsMember, frame: Frame) -> Result<FrameOutcome, Refusal> {
        let conference = self.shared.service.conference();
        let done = match frame {
            Frame::Offer { sdp, words } => {
                let offer = MemberOffer {
                    sdp: &sdp,
                    words: &words,
                    may_send: member.may_send,
                };
                let answer = conference.offer(member.peer, offer)?;
                return Ok(FrameOutcome::Reply(self.answer(member, &answer)));
            }
            Frame::Answer(answer) => conference.answer(member.peer, answer.offer, &answer.sdp),
            Frame::Change(change) => conference.change(member.peer, &change),
            Frame::Leave => {
                conference.leave(member.peer)?;
                return Ok(FrameOutcome::Left);
            }
        };
        done.map(|()| FrameOutcome::Silent)
    }

    fn answer(&self, member: &WsMember, sdp: &str) -> Value {
        let answer = AnswerReply {
            sdp,
            peer: member.peer,
            id: Some(member.feed.id),
            room: &member.room,
        };
        replies::answer(answer, &self.shared.ice_servers)
    }

    /// Why a socket ends: another socket has resumed the member, or the member has gone.
    pub(crate) fn why_ended(&self, peer: SessionId) -> Problem {
        match self.shared.service.guard(peer) {
            Ok(Some(_)) => replaced(),
            Ok(None) => unknown_peer(),
            Err(refusal) => of_member(refusal),
        }
    }
}

fn replaced() -> Problem {
    Problem::new(kinds::RESUMED_ELSEWHERE, "another WebSocket has resumed this peer")
}
