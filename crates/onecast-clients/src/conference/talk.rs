//! What a member and its server say to each other, by requests or over a WebSocket, until one of them goes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::Notify;

use super::course::{Course, OnOffer, OnRefusal};
use super::door::{Door, DoorError, TIMEOUT};
use super::lines::agree;
use super::member::{MemberEvent, OnEvent, Signalling};
use super::received::Received;
use super::socket::{Broken, Socket};
use super::words::{AnswerSaid, Heard, Joined, Offer, OfferSaid, Refused, Said};
use crate::patience::{self, Patience};
use crate::peer::{Peer, PeerError};
use crate::signal::SignalError;
use crate::watch::lock;
use onecast_udp::clock;

/// One side of the conversation.
pub(super) struct Talk {
    pub(super) door: Door,
    pub(super) peer: Arc<Peer>,
    pub(super) peer_id: String,
    pub(super) course: Arc<Mutex<Course>>,
    pub(super) received: Arc<Mutex<Received>>,
    pub(super) wanted: Arc<Notify>,
    pub(super) on_event: OnEvent,
    /// The offer of ours that is with the server.
    offer: Option<String>,
}

/// Somebody who was let in.
pub(super) struct Entered {
    pub(super) joined: Joined,
    /// Open, if it came this way.
    pub(super) socket: Option<Socket>,
}

/// Joins a room; a busy server is asked until patience ends, if somebody hears of it.
pub(super) async fn enter(
    door: &Door,
    signalling: Signalling,
    offer: OfferSaid<'_>,
    on_busy: Option<&(dyn Fn(MemberEvent) + Send + Sync)>,
) -> Result<Entered, PeerError> {
    let mut patience = Patience::default();
    loop {
        let entered = match signalling {
            Signalling::Socket => enter_by_socket(door, offer.clone()).await,
            _ => door.offer(&offer).await.map(|joined| Entered { joined, socket: None }),
        };
        let error = match entered {
            Ok(entered) => return Ok(entered),
            Err(error) => SignalError::from(error),
        };
        let told = on_busy.and_then(|on_busy| Some((on_busy, patience.after(&error, patience::chance())?)));
        let Some((on_busy, wait)) = told else {
            return Err(error.into());
        };
        let why = error.to_string();
        on_busy(MemberEvent::Busy { why, wait });
        tokio::time::sleep(wait).await;
    }
}

async fn enter_by_socket(door: &Door, offer: OfferSaid<'_>) -> Result<Entered, DoorError> {
    let said = Said::Offer(OfferSaid {
        token: door.token(),
        ..offer
    });
    let understand = |heard| match heard {
        Heard::Answer(joined) => Some(joined),
        _ => None,
    };
    let (socket, joined) = begin(door, &said, understand).await?;
    Ok(Entered {
        joined,
        socket: Some(socket),
    })
}

/// Opens a socket, says the first thing, and waits for what the server says to that.
async fn begin<T>(door: &Door, said: &Said<'_>, understand: fn(Heard) -> Option<T>) -> Result<(Socket, T), DoorError> {
    let mut socket = Socket::open(door).await?;
    let answered = async {
        socket.say(said).await?;
        loop {
            match socket.hear().await? {
                Heard::Error(refused) => return Ok(Err(refused)),
                Heard::Closed { problem, detail } => return Ok(Err(closed(problem, detail))),
                heard => match understand(heard) {
                    Some(understood) => return Ok(Ok(understood)),
                    None => continue,
                },
            }
        }
    };
    let answered: Result<Result<T, Refused>, Broken> =
        tokio::time::timeout(TIMEOUT, answered).await.unwrap_or(Err(Broken));
    match answered {
        Ok(Ok(understood)) => Ok((socket, understood)),
        Ok(Err(refused)) => {
            let error = in_words(door, &refused);
            Err(DoorError::Refused(Box::new(refused), error))
        }
        Err(Broken) => Err(DoorError::Unreachable(SignalError::Unreachable {
            url: door.base().to_string(),
            why: "the WebSocket broke before an answer came".to_owned(),
        })),
    }
}

fn closed(problem: String, detail: String) -> Refused {
    Refused {
        status: StatusCode::GONE.as_u16(),
        problem,
        detail,
        ..Refused::default()
    }
}

/// An `error` frame as the same refusal would be over HTTP.
fn in_words(door: &Door, refused: &Refused) -> SignalError {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
    let said = serde_json::json!({"title": refused.title, "detail": refused.detail, "hint": refused.hint});
    let seconds = refused.retry_after.unwrap_or(RETRY_S);
    SignalError::Refused {
        url: door.base().to_string(),
        status,
        why: crate::signal::reason(status, &said.to_string()),
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

impl Talk {
    /// Of a member that has just come in.
    pub(super) fn new(
        door: Door,
        peer: Peer,
        peer_id: String,
        received: Arc<Mutex<Received>>,
        on_event: OnEvent,
    ) -> Talk {
        Talk {
            door,
            peer: Arc::new(peer),
            peer_id,
            course: Arc::default(),
            received,
            wanted: Arc::default(),
            on_event,
            offer: None,
        }
    }

    /// Until the member is in the room no more; returns why.
    pub(super) async fn follow(mut self, signalling: Signalling, socket: Option<Socket>) -> PeerError {
        let loss = self.peer.loss();
        let door = self.door.clone();
        let peer_id = self.peer_id.clone();
        let talked = async {
            match (signalling, socket) {
                (_, Some(socket)) => self.follow_socket(socket).await,
                (Signalling::Poll(pause), None) => self.follow_polls(None, pause).await,
                (_, None) => self.follow_polls(Some(LONG_POLL), Duration::ZERO).await,
            }
        };
        tokio::select! {
            ended = talked => ended.err().unwrap_or(PeerError::Lost),
            () = loss => how_lost(&door, &peer_id).await,
        }
    }

    /// Asks for offers. Never returns well.
    async fn follow_polls(&mut self, wait: Option<Duration>, pause: Duration) -> Result<(), PeerError> {
        let mut failures = 0;
        loop {
            let offers_now = lock(&self.course).offers_now();
            if offers_now {
                self.offer_by_request().await?;
            }
            // An offer that was fetched and lost on the way is repeated to who asks later, not to who waits already.
            let yields = lock(&self.course).yields();
            let (wait, pause) = if yields { (None, YIELD) } else { (wait, pause) };
            let wanted = self.wanted.clone();
            let polled = tokio::select! {
                polled = self.door.next_offer(&self.peer_id, wait) => polled,
                () = wanted.notified() => {
                    lock(&self.course).want();
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
                Err(DoorError::Unreachable(error)) => {
                    failures += 1;
                    tracing::debug!(%error, failures, "no answer to a poll");
                    if failures == FAILURES_MAX {
                        return Err(error.into());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(DoorError::Refused(refused, error)) => self.on_refused(&refused, error).await?,
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn answer_by_request(&mut self, offer: Offer) -> Result<(), PeerError> {
        let number = offer.number;
        let Some(sdp) = self.answer(offer).await? else {
            return Ok(());
        };
        let answer = AnswerSaid {
            peer_id: Some(&self.peer_id),
            sdp: &sdp,
            offer: number,
        };
        match self.door.answer(&answer).await {
            Ok(()) => {
                (self.on_event)(MemberEvent::Answered { number });
                Ok(())
            }
            // The offer comes again, and so does the answer.
            Err(DoorError::Unreachable(error)) => {
                tracing::debug!(%error, "an answer was not delivered");
                Ok(())
            }
            Err(DoorError::Refused(refused, error)) => self.on_refused(&refused, error).await,
        }
    }

    async fn make_offer(&self) -> Result<String, PeerError> {
        let restarts = lock(&self.course).makes_offer();
        if restarts {
            self.peer.connection().restart_ice().await?;
        }
        self.peer.offer().await
    }

    async fn offer_by_request(&mut self) -> Result<(), PeerError> {
        let sdp = self.make_offer().await?;
        let offer = OfferSaid {
            sdp: &sdp,
            peer_id: Some(&self.peer_id),
            ..OfferSaid::default()
        };
        let answered = self.door.offer(&offer).await;
        match answered {
            Ok(joined) => {
                self.offer = Some(sdp);
                self.take_answer(joined).await
            }
            Err(DoorError::Refused(refused, error)) => self.on_refused(&refused, error).await,
            Err(DoorError::Unreachable(error)) => Err(error.into()),
        }
    }

    /// Says and hears over a socket, and over another one when it breaks. Never returns well.
    async fn follow_socket(&mut self, mut socket: Socket) -> Result<(), PeerError> {
        loop {
            if self.talk_over(&mut socket).await?.is_err() {
                (self.on_event)(MemberEvent::SocketBroken);
                socket.close().await;
                socket = self.resume().await?;
                lock(&self.course).on_resumed();
                (self.on_event)(MemberEvent::Resumed);
            }
        }
    }

    /// One turn; the inner error is a broken socket, the outer the end.
    async fn talk_over(&mut self, socket: &mut Socket) -> Result<Result<(), Broken>, PeerError> {
        let offers_now = lock(&self.course).offers_now();
        if offers_now {
            let sdp = self.make_offer().await?;
            let said = Said::Offer(OfferSaid {
                sdp: &sdp,
                ..OfferSaid::default()
            });
            let sent = socket.say(&said).await;
            self.offer = Some(sdp);
            if sent.is_err() {
                return Ok(Err(Broken));
            }
        }
        let wanted = self.wanted.clone();
        let heard = tokio::select! {
            heard = socket.hear() => heard,
            () = wanted.notified() => {
                lock(&self.course).want();
                return Ok(Ok(()));
            }
        };
        match heard {
            Ok(Heard::Offer(offer)) => self.answer_over(socket, offer).await,
            Ok(heard) => self.on_heard(heard).await.map(Ok),
            Err(Broken) => Ok(Err(Broken)),
        }
    }

    async fn answer_over(&mut self, socket: &mut Socket, offer: Offer) -> Result<Result<(), Broken>, PeerError> {
        let number = offer.number;
        let Some(sdp) = self.answer(offer).await? else {
            return Ok(Ok(()));
        };
        let said = Said::Answer(AnswerSaid {
            peer_id: None,
            sdp: &sdp,
            offer: number,
        });
        let sent = socket.say(&said).await;
        if sent.is_ok() {
            (self.on_event)(MemberEvent::Answered { number });
        }
        Ok(sent)
    }

    async fn on_heard(&mut self, heard: Heard) -> Result<(), PeerError> {
        match heard {
            Heard::Answer(joined) => self.take_answer(joined).await?,
            Heard::Error(refused) => {
                let error = in_words(&self.door, &refused);
                self.on_refused(&refused, error).await?;
            }
            Heard::Closed { problem, detail } => {
                let why = if detail.is_empty() { problem } else { detail };
                return Err(PeerError::Ended(why));
            }
            Heard::Joined { member } => (self.on_event)(MemberEvent::Joined {
                member: member.id,
                name: member.name,
            }),
            Heard::Left { id } => (self.on_event)(MemberEvent::Left { member: id }),
            Heard::Offer(_) | Heard::Resumed {} | Heard::Other => {}
        }
        Ok(())
    }

    /// A new socket in place of a broken one.
    async fn resume(&mut self) -> Result<Socket, PeerError> {
        let until = clock::now() + RESUME;
        loop {
            let said = Said::Resume { peer_id: &self.peer_id };
            let is_it = |heard| matches!(heard, Heard::Resumed {}).then_some(());
            let error = match begin(&self.door, &said, is_it).await {
                Ok((socket, ())) => return Ok(socket),
                Err(DoorError::Refused(refused, error)) if matches!(refused.status, 404 | 410) => {
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

    /// What to answer to an offer of the server's, if anything.
    async fn answer(&mut self, offer: Offer) -> Result<Option<String>, PeerError> {
        let Offer { sdp, number, tracks } = offer;
        let course = lock(&self.course).on_offer(number);
        match course {
            OnOffer::Repeat(answer) => return Ok(Some(answer)),
            OnOffer::Ignore => return Ok(None),
            OnOffer::Answer => {}
        }
        (self.on_event)(MemberEvent::Offered {
            number,
            tracks: tracks.len(),
        });
        lock(&self.received).offered(clock::now(), &tracks);
        let answer = self.peer.answer(sdp, agree).await?;
        lock(&self.course).on_answered(number, answer.clone());
        Ok(Some(answer))
    }

    async fn take_answer(&mut self, joined: Joined) -> Result<(), PeerError> {
        let is_ours = lock(&self.course).on_answer();
        if let Some(offer) = self.offer.take().filter(|_| is_ours) {
            self.peer.take_answer(offer, joined.sdp).await?;
            (self.on_event)(MemberEvent::Accepted);
        }
        Ok(())
    }

    async fn on_refused(&mut self, refused: &Refused, error: SignalError) -> Result<(), PeerError> {
        let course = lock(&self.course).on_refused(refused);
        match course {
            OnRefusal::GoOn => {}
            OnRefusal::Wait(wait) => {
                let (why, wait) = (error.to_string(), wait.min(Patience::WAIT_MAX));
                (self.on_event)(MemberEvent::Busy { why, wait });
                tokio::time::sleep(wait).await;
            }
            OnRefusal::Gone => return Err(PeerError::Ended(error.to_string())),
            OnRefusal::Fail => return Err(error.into()),
        }
        Ok(())
    }
}

/// Media does not flow any more: the server may know why.
async fn how_lost(door: &Door, peer_id: &str) -> PeerError {
    match door.next_offer(peer_id, None).await {
        Err(DoorError::Refused(refused, error)) if matches!(refused.status, 404 | 410) => {
            PeerError::Ended(error.to_string())
        }
        Err(DoorError::Unreachable(error)) => error.into(),
        _ => PeerError::Lost,
    }
}

/// Between polls for an offer that the server says is there.
const YIELD: Duration = Duration::from_millis(500);
/// Below the server's bound, and below what proxies wait.
const LONG_POLL: Duration = Duration::from_secs(25);
/// Polls in a row that fail before the server is taken for gone.
const FAILURES_MAX: u32 = 3;
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The server keeps a member that is away for so long.
const RESUME: Duration = Duration::from_secs(10);
/// For a server that is busy and does not say how long, s.
const RETRY_S: u64 = 2;
