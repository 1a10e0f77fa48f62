//! Conference rooms over HTTP: `/offer`, `/answer`, `/renegotiate/:peer`, `/peer/:peer` and `/api/rooms/:room`. The same messages also
//! work over a WebSocket: [`crate::http::conference::ws`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::auth::Action;
use crate::http::api::sessions;
use crate::http::api::sessions::StrictQuery;
use crate::http::auth::requester::Requester;
use crate::http::conference::join::{self, JoinedMember};
use crate::http::conference::messages::{self, OfferMessage};
use crate::http::conference::replies::{self, AnswerReply};
use crate::http::cors::{ACCEPT_PATCH, ACCEPT_POST, Methods, options};
use crate::http::path_params::StreamPath;
use crate::http::problem::{Problem, kinds, of_member, unknown_peer};
use crate::http::server::connection::{Connection, Stop};
use crate::http::server::request_permit::RequestPermit;
use crate::http::whip::routes::wrong_type;
use crate::http::{Shared, body};
use onecast_control::SessionId;
use onecast_control::conference::ServerOffer;
use onecast_control::port::MemberOffer;

pub(crate) fn routes() -> Router<Shared> {
    let posting = || options_of("POST, OPTIONS", ACCEPT_POST);
    let peer = patch(change)
        .delete(leave)
        .options(|| options_of("PATCH, DELETE, OPTIONS", ACCEPT_PATCH));
    Router::new()
        .route("/offer", post(offer).options(posting))
        .route("/answer", post(answer).options(posting))
        .route(
            "/renegotiate/{peer}",
            get(renegotiate).options(|| options(Methods("GET, HEAD, OPTIONS"))),
        )
        .route("/peer/{peer}", peer)
        .route(
            "/api/rooms/{stream}",
            get(room).options(|| options(Methods("GET, HEAD, OPTIONS"))),
        )
}

async fn options_of(methods: &'static str, accept: HeaderName) -> Response {
    ([(accept, JSON)], options(Methods(methods)).await).into_response()
}

async fn offer(
    State(shared): State<Shared>,
    connection: Connection,
    requester: Requester,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let message = messages::offer(&json(&shared, &headers, body, ACCEPT_POST).await?)?;
    if let Some(peer) = message.peer {
        return offer_again(&shared, &requester, peer, &message).await;
    }
    if let Some(elsewhere) = sessions::elsewhere(&shared, &uri) {
        return Ok(elsewhere);
    }
    let JoinedMember { joined, .. } = join::join(&shared, &requester, connection, &message).await?;
    let answer = AnswerReply {
        sdp: &joined.answer,
        peer: joined.peer,
        id: Some(joined.id),
        room: &message.room,
    };
    Ok(fresh(replies::answer(answer, &shared.ice_servers)))
}

async fn offer_again(
    shared: &Shared,
    requester: &Requester,
    peer: SessionId,
    message: &OfferMessage,
) -> Result<Response, Problem> {
    let guard = join::authorize_member(shared, requester, peer).await?;
    let offer = MemberOffer {
        sdp: &message.sdp,
        words: &message.words,
        may_send: join::may_send(shared, requester, &guard).await,
    };
    let renewed = shared.service.conference().offer(peer, offer);
    let sdp = renewed.map_err(of_member)?;
    let answer = AnswerReply {
        sdp: &sdp,
        peer,
        id: None,
        room: &guard.stream,
    };
    Ok(fresh(replies::answer(answer, &shared.ice_servers)))
}

async fn answer(
    State(shared): State<Shared>,
    requester: Requester,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let (peer, answer) = messages::answer(&json(&shared, &headers, body, ACCEPT_POST).await?)?;
    join::authorize_member(&shared, &requester, peer).await?;
    let taken = shared.service.conference().answer(peer, answer.offer, &answer.sdp);
    taken.map_err(of_member)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `?wait=`, possibly beside a token.
#[derive(Debug, Deserialize)]
struct WaitQuery {
    wait: Option<u64>,
}

async fn renegotiate(
    State(shared): State<Shared>,
    PeerPath(peer): PeerPath,
    StrictQuery(WaitQuery { wait }): StrictQuery<WaitQuery>,
    Stop(stop): Stop,
    Connection { client, .. }: Connection,
) -> Result<Response, Problem> {
    let mut offer = shared.service.conference().next_offer(peer).map_err(of_member)?;
    let wait = Duration::from_secs(wait.unwrap_or_default()).min(WAIT_MAX);
    if offer.is_none() && !wait.is_zero() {
        let _permit = RequestPermit::acquire(&shared, client)?;
        offer = match tokio::time::timeout(wait, awaited(&shared, peer, &stop)).await {
            Ok(offer) => offer?,
            Err(_) => None,
        };
    }
    Ok(match offer {
        Some(offer) => fresh(replies::offer(&offer)),
        None => (StatusCode::NO_CONTENT, [(CACHE_CONTROL, NO_STORE)]).into_response(),
    })
}

/// Waits for the next offer; `None` when the server stops.
async fn awaited(shared: &Shared, peer: SessionId, stop: &CancellationToken) -> Result<Option<ServerOffer>, Problem> {
    let conference = shared.service.conference();
    let mut wakes = shared.service.wakes(peer).map_err(of_member)?;
    loop {
        wakes.borrow_and_update();
        if let Some(offer) = conference.next_offer(peer).map_err(of_member)? {
            return Ok(Some(offer));
        }
        tokio::select! {
            woken = wakes.changed() => if woken.is_err() {
                // The peer has gone; this returns why.
                return conference.next_offer(peer).map_err(of_member);
            },
            // There is no wake-up for the repetition of an offer.
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

async fn change(
    State(shared): State<Shared>,
    PeerPath(peer): PeerPath,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let change = messages::change(&json(&shared, &headers, body, ACCEPT_PATCH).await?)?;
    shared.service.conference().change(peer, &change).map_err(of_member)?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200 rather than 204, like WHIP.
async fn leave(State(shared): State<Shared>, PeerPath(peer): PeerPath) -> Result<StatusCode, Problem> {
    shared.service.conference().leave(peer).map_err(of_member)?;
    Ok(StatusCode::OK)
}

async fn room(
    State(shared): State<Shared>,
    StreamPath(room): StreamPath,
    requester: Requester,
) -> Result<Response, Problem> {
    let unknown = || Problem::new(kinds::UNKNOWN_ROOM, "there is no room with this name");
    requester.authorize(&shared, Action::Watch, Some(&room)).await?;
    let roster = shared.service.conference().roster(&room).ok_or_else(unknown)?;
    Ok(fresh(Value::Object(replies::roster(&roster))))
}

/// The `{peer}` of a route, for a client that may control it.
#[derive(Debug)]
struct PeerPath(SessionId);

impl FromRequestParts<Shared> for PeerPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<PeerPath, Problem> {
        let path = Path::<String>::from_request_parts(parts, shared).await;
        let peer = path.ok().and_then(|Path(text)| messages::peer_id(&text));
        let peer = peer.ok_or_else(unknown_peer)?;
        let requester = Requester::from_request_parts(parts, shared).await?;
        join::authorize_member(shared, &requester, peer).await?;
        Ok(PeerPath(peer))
    }
}

/// The text of a body whose content type is JSON.
async fn json(shared: &Shared, headers: &HeaderMap, body: Body, accept: HeaderName) -> Result<String, Problem> {
    if body::has_type(headers, JSON) {
        return body::text(headers, body, shared.limits.body_timeout).await;
    }
    let problem = wrong_type(headers, JSON).header(accept, HeaderValue::from_static(JSON));
    Err(body::refuse(headers, body, problem).await)
}

/// Responses contain secrets, so they must not be cached.
fn fresh(value: Value) -> Response {
    ([(CACHE_CONTROL, NO_STORE)], Json(value)).into_response()
}

/// The longest poll: proxies time out after a minute.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Interval at which a waiting poll checks whether an offer is due again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const JSON: &str = "application/json";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
