//! Joining a room and authorizing its members, for HTTP and WebSockets alike.

use crate::auth::Action;
use crate::http::Shared;
use crate::http::auth::requester::Requester;
use crate::http::conference::messages::OfferMessage;
use crate::http::problem::{Problem, of_member, unknown_peer};
use crate::http::server::connection::Connection;
use onecast_control::port::{JoinedRoom, PasteRights, Request, SessionGuard};
use onecast_control::{Purpose, Refusal, SessionId};

/// A new member, and whether it may send.
#[derive(Debug)]
pub(crate) struct JoinedMember {
    pub(crate) joined: JoinedRoom,
    pub(crate) may_send: bool,
}

/// Joins the room of the message. Joining requires permission to watch the room, sending also permission to publish.
pub(crate) async fn join(
    shared: &Shared,
    requester: &Requester,
    Connection { client, local }: Connection,
    message: &OfferMessage,
) -> Result<JoinedMember, Problem> {
    let room = &message.room;
    let (publish, watch) = tokio::join!(
        requester.authorize(shared, Action::Publish, Some(room)),
        requester.authorize(shared, Action::Watch, Some(room)),
    );
    let watch = watch?;
    let request = Request {
        stream: room,
        offer: &message.sdp,
        client,
        local,
        grant: &watch,
    };
    let rights = PasteRights {
        publish: publish.as_ref().ok(),
        watch: Some(&watch),
    };
    let joined = shared.service.conference().join(request, rights, &message.words);
    let joined = joined.map_err(|refusal| match (&refusal, &publish) {
        (Refusal::NotAllowed(Purpose::Publish), Err(problem)) => problem.clone(),
        _ => Problem::of_offer("conference offer", room, client, refusal),
    })?;
    let may_send = publish.is_ok();
    Ok(JoinedMember { joined, may_send })
}

/// Authorizes a request for a member: as with session URLs, knowing its id is enough, plus the token if the member joined with one in
/// a header.
pub(crate) async fn authorize_member(
    shared: &Shared,
    requester: &Requester,
    peer: SessionId,
) -> Result<SessionGuard, Problem> {
    let guard = shared.service.guard(peer).map_err(of_member)?;
    let guard = guard.filter(|guard| guard.purpose == Purpose::Participate);
    let guard = guard.ok_or_else(unknown_peer)?;
    requester.authorize_session(shared, &guard).await?;
    Ok(guard)
}

/// Whether the client may send in the room of this member. Members that may only watch have an id as well.
pub(crate) async fn may_send(shared: &Shared, requester: &Requester, guard: &SessionGuard) -> bool {
    requester
        .authorize(shared, Action::Publish, Some(&guard.stream))
        .await
        .is_ok()
}
