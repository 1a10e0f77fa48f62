//! Signalling between a member and its server, by HTTP requests or over a WebSocket, until the session ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::Notify;

use super::http_client::{HttpClient, RequestError, TIMEOUT};
use super::member::{MemberEvent, OnEvent, Signalling};
use super::messages::{AnswerMessage, ClientMessage, JoinAnswer, OfferMessage, Refusal, ServerMessage, ServerOffer};
use super::negotiation::{Negotiation, OnOffer, OnRefusal};
use super::received::ReceivedTracks;
use super::sdp_fixes::mirror_inactive;
use super::web_socket::{Broken, WebSocket};
use crate::peer::{Peer, PeerError};
use crate::retry::{RetryPolicy, jitter};
use crate::signal::SignalError;
use crate::watch::lock;
use onecast_udp::clock;

/// The member's side of the signalling.
pub(super) struct SignallingSession {
    pub(super) http: HttpClient,
    pub(super) peer: Arc<Peer>,
    pub(super) peer_id: String,
    pub(super) negotiation: Arc<Mutex<Negotiation>>,
    pub(super) received: Arc<Mutex<ReceivedTracks>>,
    pub(super) wanted: Arc<Notify>,
    pub(super) on_event: OnEvent,
    /// The member's offer that the server has not answered yet.
    offer: Option<String>,
}

/// A member that has joined.
pub(super) struct JoinedRoom {
    pub(super) joined: JoinAnswer,
    /// The open WebSocket, if it joined over one.
    pub(super) socket: Option<WebSocket>,
}

/// Joins a room. With `on_busy`, joining is retried while the server is busy.
pub(super) async fn join_room(
    http: &HttpClient,
    signalling: Signalling,
    offer: OfferMessage<'_>,
    on_busy: Option<&(dyn Fn(MemberEvent) + Send + Sync)>,
) -> Result<JoinedRoom, PeerError> {
    let mut retries = RetryPolicy::default();
    loop {
        let outcome = match signalling {
            Signalling::Socket => join_by_socket(http, offer.clone()).await,
            _ => http
                .offer(&offer)
                .await
                .map(|joined| JoinedRoom { joined, socket: None }),
        };
        let error = match outcome {
            Ok(joined) => return Ok(joined),
            Err(error) => SignalError::from(error),
        };
        let retry = on_busy.and_then(|on_busy| Some((on_busy, retries.after(&error, jitter())?)));
        let Some((on_busy, wait)) = retry else {
            return Err(error.into());
        };
        let why = error.to_string();
        on_busy(MemberEvent::Busy { why, wait });
        tokio::time::sleep(wait).await;
    }
}

async fn join_by_socket(http: &HttpClient, offer: OfferMessage<'_>) -> Result<JoinedRoom, RequestError> {
    let message = ClientMessage::Offer(OfferMessage {
        token: http.token(),
        ..offer
    });
    let select = |message| match message {
        ServerMessage::Answer(joined) => Some(joined),
        _ => None,
    };
    let (socket, joined) = exchange_first(http, &message, select).await?;
    Ok(JoinedRoom {
        joined,
        socket: Some(socket),
    })
}

/// Opens a WebSocket, sends the first message, and waits for the answer to it.
async fn exchange_first<T>(
    http: &HttpClient,
    message: &ClientMessage<'_>,
    select: fn(ServerMessage) -> Option<T>,
) -> Result<(WebSocket, T), RequestError> {
    let mut socket = WebSocket::open(http).await?;
    let answered = async {
        socket.send(message).await?;
        loop {
            match socket.receive().await? {
                ServerMessage::Error(refused) => return Ok(Err(refused)),
                ServerMessage::Closed { problem, detail } => return Ok(Err(closed(problem, detail))),
                message => match select(message) {
                    Some(answer) => return Ok(Ok(answer)),
                    None => continue,
                },
            }
        }
    };
    let answered: Result<Result<T, Refusal>, Broken> =
        tokio::time::timeout(TIMEOUT, answered).await.unwrap_or(Err(Broken));
    match answered {
        Ok(Ok(answer)) => Ok((socket, answer)),
        Ok(Err(refused)) => {
            let error = in_words(http, &refused);
            Err(RequestError::Refused(Box::new(refused), error))
        }
        Err(Broken) => Err(RequestError::Unreachable(SignalError::Unreachable {
            url: http.base().to_string(),
            why: "the WebSocket closed before an answer arrived".to_owned(),
        })),
    }
}

fn closed(problem: String, detail: String) -> Refusal {
    Refusal {
        status: StatusCode::GONE.as_u16(),
        problem,
        detail,
        ..Refusal::default()
    }
}

/// The error that the same refusal would be over HTTP.
fn in_words(http: &HttpClient, refused: &Refusal) -> SignalError {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
    let message = serde_json::json!({"title": refused.title, "detail": refused.detail, "hint": refused.hint});
    let seconds = refused.retry_after.unwrap_or(RETRY_S);
    SignalError::Refused {
        url: http.base().to_string(),
        status,
        why: crate::signal::reason(status, &message.to_string()),
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

impl SignallingSession {
    /// The session of a member that has just joined.
    pub(super) fn new(
        http: HttpClient,
        peer: Peer,
        peer_id: String,
        received: Arc<Mutex<ReceivedTracks>>,
        on_event: OnEvent,
    ) -> SignallingSession {
        SignallingSession {
            http,
            peer: Arc::new(peer),
            peer_id,
            negotiation: Arc::default(),
            received,
            wanted: Arc::default(),
            on_event,
            offer: None,
        }
    }

    /// Runs until the member is no longer in the room; returns why.
    pub(super) async fn run(mut self, signalling: Signalling, socket: Option<WebSocket>) -> PeerError {
        let loss = self.peer.loss();
        let http = self.http.clone();
        let peer_id = self.peer_id.clone();
        let running = async {
            match (signalling, socket) {
                (_, Some(socket)) => self.run_socket(socket).await,
                (Signalling::Poll(pause), None) => self.run_polls(None, pause).await,
                (_, None) => self.run_polls(Some(LONG_POLL), Duration::ZERO).await,
            }
        };
        tokio::select! {
            ended = running => ended.err().unwrap_or(PeerError::Lost),
            () = loss => how_lost(&http, &peer_id).await,
        }
    }

    /// Polls for offers until an error ends the session.
    async fn run_polls(&mut self, wait: Option<Duration>, pause: Duration) -> Result<(), PeerError> {
        let mut failures = 0;
        loop {
            let offers_now = lock(&self.negotiation).offers_now();
            if offers_now {
                self.offer_by_request().await?;
            }
            // The server repeats an offer that was lost on the way only to a new request, not to one that is already waiting.
            let yields = lock(&self.negotiation).yields();
            let (wait, pause) = if yields { (None, YIELD) } else { (wait, pause) };
            let wanted = self.wanted.clone();
            let polled = tokio::select! {
                polled = self.http.next_offer(&self.peer_id, wait) => polled,
                () = wanted.notified() => {
                    lock(&self.negotiation).want();
                    continue;
                }
            };
            match polled {
                Ok(offer) => {
                    failures = 0;
                    if let Some(offer) = offer {
                        self.answer_by_request(offer).await?;
                    }
                }
                Err(RequestError::Unreachable(error)) => {
                    failures += 1;
                    tracing::debug!(%error, failures, "no answer to a poll");
                    if failures == FAILURES_MAX {
                        return Err(error.into());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(RequestError::Refused(refused, error)) => self.on_refused(&refused, error).await?,
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn answer_by_request(&mut self, offer: ServerOffer) -> Result<(), PeerError> {
        let number = offer.number;
        let Some(sdp) = self.answer(offer).await? else {
            return Ok(());
        };
        let answer = AnswerMessage {
            peer_id: Some(&self.peer_id),
            sdp: &sdp,
            offer: number,
        };
        match self.http.answer(&answer).await {
            Ok(()) => {
                (self.on_event)(MemberEvent::Answered { number });
                Ok(())
            }
            // The server repeats the offer, and the client the answer.
            Err(RequestError::Unreachable(error)) => {
                tracing::debug!(%error, "an answer was not delivered");
                Ok(())
            }
            Err(RequestError::Refused(refused, error)) => self.on_refused(&refused, error).await,
        }
    }

    async fn make_offer(&self) -> Result<String, PeerError> {
        let restarts = lock(&self.negotiation).begins_offer();
        if restarts {
            self.peer.connection().restart_ice().await?;
        }
        self.peer.offer().await
    }

    async fn offer_by_request(&mut self) -> Result<(), PeerError> {
        let sdp = self.make_offer().await?;
        let offer = OfferMessage {
            sdp: &sdp,
            peer_id: Some(&self.peer_id),
            ..OfferMessage::default()
        };
        let answered = self.http.offer(&offer).await;
        match answered {
            Ok(joined) => {
                self.offer = Some(sdp);
                self.take_answer(joined).await
            }
            Err(RequestError::Refused(refused, error)) => self.on_refused(&refused, error).await,
            Err(RequestError::Unreachable(error)) => Err(error.into()),
        }
    }

    /// Exchanges messages over a WebSocket, and over a new one when it breaks, until an error ends the session.
    async fn run_socket(&mut self, mut socket: WebSocket) -> Result<(), PeerError> {
        loop {
            if self.run_socket_once(&mut socket).await?.is_err() {
                (self.on_event)(MemberEvent::SocketBroken);
                socket.close().await;
                socket = self.resume().await?;
                lock(&self.negotiation).on_resumed();
                (self.on_event)(MemberEvent::Resumed);
            }
        }
    }

    /// Sends or receives one message. The inner error is a broken WebSocket, the outer one ends the session.
    async fn run_socket_once(&mut self, socket: &mut WebSocket) -> Result<Result<(), Broken>, PeerError> {
        let offers_now = lock(&self.negotiation).offers_now();
        if offers_now {
            let sdp = self.make_offer().await?;
            let message = ClientMessage::Offer(OfferMessage {
                sdp: &sdp,
                ..OfferMessage::default()
            });
            let sent = socket.send(&message).await;
            self.offer = Some(sdp);
            if sent.is_err() {
                return Ok(Err(Broken));
            }
        }
        let wanted = self.wanted.clone();
        let message = tokio::select! {
            message = socket.receive() => message,
            () = wanted.notified() => {
                lock(&self.negotiation).want();
                return Ok(Ok(()));
            }
        };
        match message {
            Ok(ServerMessage::Offer(offer)) => self.answer_by_socket(socket, offer).await,
            Ok(message) => self.handle_message(message).await.map(Ok),
            Err(Broken) => Ok(Err(Broken)),
        }
    }

    async fn answer_by_socket(
        &mut self,
        socket: &mut WebSocket,
        offer: ServerOffer,
    ) -> Result<Result<(), Broken>, PeerError> {
        let number = offer.number;
        let Some(sdp) = self.answer(offer).await? else {
            return Ok(Ok(()));
        };
        let message = ClientMessage::Answer(AnswerMessage {
            peer_id: None,
            sdp: &sdp,
            offer: number,
        });
        let sent = socket.send(&message).await;
        if sent.is_ok() {
            (self.on_event)(MemberEvent::Answered { number });
        }
        Ok(sent)
    }

    async fn handle_message(&mut self, message: ServerMessage) -> Result<(), PeerError> {
        match message {
            ServerMessage::Answer(joined) => self.take_answer(joined).await?,
            ServerMessage::Error(refused) => {
                let error = in_words(&self.http, &refused);
                self.on_refused(&refused, error).await?;
            }
            ServerMessage::Closed { problem, detail } => {
                let why = if detail.is_empty() { problem } else { detail };
                return Err(PeerError::Ended(why));
            }
            ServerMessage::Joined { member } => (self.on_event)(MemberEvent::Joined {
                member: member.id,
                name: member.name,
            }),
            ServerMessage::Left { id } => (self.on_event)(MemberEvent::Left { member: id }),
            ServerMessage::Offer(_) | ServerMessage::Resumed {} | ServerMessage::Other => {}
        }
        Ok(())
    }

    /// Replaces a broken WebSocket.
    async fn resume(&mut self) -> Result<WebSocket, PeerError> {
        let until = clock::now() + RESUME;
        loop {
            let message = ClientMessage::Resume { peer_id: &self.peer_id };
            let is_resumed = |message| matches!(message, ServerMessage::Resumed {}).then_some(());
            let error = match exchange_first(&self.http, &message, is_resumed).await {
                Ok((socket, ())) => return Ok(socket),
                Err(RequestError::Refused(refused, error)) if matches!(refused.status, 404 | 410) => {
                    return Err(match refused.problem.as_str() {
                        "unknown-peer" => PeerError::Forgotten,
                        _ => PeerError::Ended(error.to_string()),
                    });
                }
                Err(error) => SignalError::from(error),
            };
            if clock::now() >= until {
                return Err(error.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The answer to an offer of the server, if it needs one.
    async fn answer(&mut self, offer: ServerOffer) -> Result<Option<String>, PeerError> {
        let ServerOffer { sdp, number, tracks } = offer;
        let reaction = lock(&self.negotiation).on_offer(number);
        match reaction {
            OnOffer::Repeat(answer) => return Ok(Some(answer)),
            OnOffer::Ignore => return Ok(None),
            OnOffer::Answer => {}
        }
        (self.on_event)(MemberEvent::Offered {
            number,
            tracks: tracks.len(),
        });
        lock(&self.received).offered(clock::now(), &tracks);
        let answer = self.peer.answer(sdp, mirror_inactive).await?;
        lock(&self.negotiation).on_answered(number, answer.clone());
        Ok(Some(answer))
    }

    async fn take_answer(&mut self, joined: JoinAnswer) -> Result<(), PeerError> {
        let is_ours = lock(&self.negotiation).on_answer();
        if let Some(offer) = self.offer.take().filter(|_| is_ours) {
            self.peer.take_answer(offer, joined.sdp).await?;
            (self.on_event)(MemberEvent::Accepted);
        }
        Ok(())
    }

    async fn on_refused(&mut self, refused: &Refusal, error: SignalError) -> Result<(), PeerError> {
        let reaction = lock(&self.negotiation).on_refused(refused);
        match reaction {
            OnRefusal::Continue => {}
            OnRefusal::Wait(wait) => {
                let (why, wait) = (error.to_string(), wait.min(RetryPolicy::WAIT_MAX));
                (self.on_event)(MemberEvent::Busy { why, wait });
                tokio::time::sleep(wait).await;
            }
            OnRefusal::Gone => return Err(PeerError::Ended(error.to_string())),
            OnRefusal::Fail => return Err(error.into()),
        }
        Ok(())
    }
}

/// Asks the server why media no longer flows.
async fn how_lost(http: &HttpClient, peer_id: &str) -> PeerError {
    match http.next_offer(peer_id, None).await {
        Err(RequestError::Refused(refused, error)) if matches!(refused.status, 404 | 410) => {
            PeerError::Ended(error.to_string())
        }
        Err(RequestError::Unreachable(error)) => error.into(),
        _ => PeerError::Lost,
    }
}

/// Time between polls for an offer that the server has announced.
const YIELD: Duration = Duration::from_millis(500);
/// Below the limits of the server and of common proxies.
const LONG_POLL: Duration = Duration::from_secs(25);
/// Consecutive failed polls after which the server counts as gone.
const FAILURES_MAX: u32 = 3;
/// Time between attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The server keeps a disconnected member for this long.
const RESUME: Duration = Duration::from_secs(10);
/// Used when a busy server gives no time, s.
const RETRY_S: u64 = 2;
