//! Joining a room and being known there: the same for HTTP and for WebSockets.

use crate::auth::Action;
use crate::http::Shared;
use crate::http::auth::requester::Asker;
use crate::http::conference::Joined;
use crate::http::conference::messages::OfferMessage;
use crate::http::conference::problem::{of_member, unknown_peer};
use crate::http::problem::Problem;
use crate::http::server::connection::Connection;
use crate::http::service::{PasteRights, Refusal, Request, SessionGuard};
use onecast_control::{Purpose, SessionId};

/// Somebody who has joined, and whether they may send.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) joined: Joined,
    pub(crate) may_send: bool,
}

/// Joins the room of the message. That takes the right to watch it, and sending there the right to publish.
pub(crate) async fn join(
    shared: &Shared,
    asker: &Asker,
    Connection { client, local }: Connection,
    message: &OfferMessage,
) -> Result<Entered, Problem> {
    let room = &message.room;
    let (publish, watch) = tokio::join!(
        asker.may(shared, Action::Publish, Some(room)),
        asker.may(shared, Action::Watch, Some(room)),
    );
    let watch = watch?;
    let request = Request {
        stream: room,
        offer: &message.sdp,
        client,
        local,
        right: &watch,
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
    Ok(Entered { joined, may_send })
}

/// What is known of a member, for somebody who may speak for it: as with the URLs of sessions, its id is the right, together with the
/// token if one came in a header.
pub(crate) async fn recognise(shared: &Shared, asker: &Asker, peer: SessionId) -> Result<SessionGuard, Problem> {
    let guard = shared.service.guard(peer).map_err(of_member)?;
    let guard = guard.filter(|guard| guard.purpose == Purpose::Confer);
    let guard = guard.ok_or_else(unknown_peer)?;
    asker.may_return(shared, &guard).await?;
    Ok(guard)
}

/// Whether who asks may send in the room of this member. The id alone does not say: who may only watch has one, too.
pub(crate) async fn may_send(shared: &Shared, asker: &Asker, guard: &SessionGuard) -> bool {
    asker.may(shared, Action::Publish, Some(&guard.stream)).await.is_ok()
}
