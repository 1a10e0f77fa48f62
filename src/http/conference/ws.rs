//! Conference rooms over a WebSocket (RFC 6455): `GET /ws`. Each socket has one task. It sends the latest state whenever the client has
//! taken the previous one.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::http::auth::requester::Requester;
use crate::http::conference::ws_limits::WsLimits;
use crate::http::conference::ws_session::{FrameOutcome, WsMember, WsSession};
use crate::http::conference::{messages, replies, roster_diff};
use crate::http::cors::{Methods, options};
use crate::http::problem::{Problem, kinds, of_member};
use crate::http::server::connection::{ActiveRequests, Connection, Stop, Upgrades};
use crate::http::server::request_permit::RequestPermit;
use crate::http::{MAX_BODY_BYTES, Shared};
use onecast_control::{Refusal, SessionId};
use onecast_udp::clock;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/ws", get(open).options(|| options(Methods("GET, HEAD, OPTIONS"))))
}

async fn open(
    State(shared): State<Shared>,
    Stop(stop): Stop,
    connection: Connection,
    active: ActiveRequests,
    upgrades: Upgrades,
    requester: Requester,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| no_socket())?;
    let permit = RequestPermit::acquire(&shared, connection.client)?;
    let open_socket = upgrades.begin();
    let session = WsSession {
        shared,
        requester,
        connection,
    };
    let upgrade = upgrade.max_message_size(READ_BYTES_MAX).max_frame_size(READ_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        let now = clock::now();
        let connection = WsConnection {
            socket,
            session,
            stop,
            limits: WsLimits::new(now),
            last_received: now,
            last_ping: now,
        };
        connection.run().await;
        drop((permit, active, open_socket));
    }))
}

fn no_socket() -> Problem {
    Problem::new(
        kinds::NO_WEBSOCKET,
        "the request does not open a WebSocket of version 13 over HTTP/1.1",
    )
    .header(UPGRADE, HeaderValue::from_static("websocket"))
    .header(CONNECTION, HeaderValue::from_static("upgrade"))
}

/// A socket and its client.
struct WsConnection {
    socket: WebSocket,
    session: WsSession,
    stop: CancellationToken,
    limits: WsLimits,
    last_received: Instant,
    last_ping: Instant,
}

/// Why a socket ends.
enum CloseReason {
    /// The client has gone, or does not read.
    Gone,
    /// The client has closed it.
    Closed,
    /// The server closes it, after a last frame if there is one.
    Closing {
        last_frame: Option<Value>,
        code: u16,
        reason: String,
    },
}

impl CloseReason {
    fn closing(code: u16, reason: impl Into<String>) -> CloseReason {
        let reason = reason.into();
        CloseReason::Closing {
            last_frame: None,
            code,
            reason,
        }
    }

    /// Closes with a last frame that describes the problem.
    fn with_problem(code: u16, problem: &Problem) -> CloseReason {
        CloseReason::Closing {
            last_frame: Some(replies::closed(problem)),
            code,
            reason: problem.name().to_owned(),
        }
    }

    fn stopping() -> CloseReason {
        CloseReason::with_problem(close_code::AWAY, &Refusal::ShuttingDown.into())
    }
}

impl WsConnection {
    async fn run(mut self) {
        let end = match self.enter().await {
            Ok(member) => self.follow(member).await,
            Err(end) => end,
        };
        self.close(end).await;
    }

    /// Waits for the frame that joins a room or resumes a member.
    async fn enter(&mut self) -> Result<WsMember, CloseReason> {
        let limit = self.session.shared.limits.header_timeout;
        loop {
            let text = timeout(limit, self.text()).await;
            let text = text.map_err(|_| CloseReason::closing(close_code::POLICY, "no first frame in time"))??;
            match self.session.first_frame(&text).await {
                Ok((member, greeting)) => {
                    self.limits.handle_success();
                    self.send_json(&greeting).await?;
                    self.send_json(&replies::roster_frame(&member.known_roster)).await?;
                    return Ok(member);
                }
                Err(problem) => self.refuse(&text, &problem).await?,
            }
        }
    }

    async fn text(&mut self) -> Result<Utf8Bytes, CloseReason> {
        loop {
            let frame = tokio::select! {
                frame = self.socket.recv() => frame,
                () = self.stop.cancelled() => return Err(CloseReason::stopping()),
            };
            if let Some(text) = self.take(frame, MAX_BODY_BYTES).await? {
                return Ok(text);
            }
        }
    }

    /// Sends changes to a member, and performs its requests.
    async fn follow(&mut self, mut member: WsMember) -> CloseReason {
        let mut ticks = interval(TICK.min(self.session.shared.limits.socket_ping));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(end) = self.offer(&mut member).await {
                return end;
            }
            let step = tokio::select! {
                () = self.stop.cancelled() => Err(CloseReason::stopping()),
                () = member.feed.ended.cancelled() => Err(self.ended(member.peer)),
                changed = member.feed.roster.changed() => match changed {
                    Ok(()) => self.send_changes(&mut member).await,
                    Err(_) => Err(self.ended(member.peer)),
                },
                woken = member.feed.wakes.changed() => woken.map_err(|_| self.ended(member.peer)),
                frame = self.socket.recv() => self.frame(&member, frame).await,
                _ = ticks.tick() => self.keep_alive(clock::now()).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Sends the offer that is due, if any.
    async fn offer(&mut self, member: &mut WsMember) -> Result<(), CloseReason> {
        member.feed.wakes.borrow_and_update();
        match self.session.shared.service.conference().next_offer(member.peer) {
            Ok(Some(offer)) => self.send_json(&replies::offer(&offer)).await,
            Ok(None) => Ok(()),
            Err(_) => Err(self.ended(member.peer)),
        }
    }

    async fn send_changes(&mut self, member: &mut WsMember) -> Result<(), CloseReason> {
        let now = member.feed.roster.borrow_and_update().clone();
        let known = std::mem::replace(&mut member.known_roster, now.clone());
        for change in roster_diff::between(&known, &now) {
            self.send_json(&replies::change(change)).await?;
        }
        Ok(())
    }

    async fn frame(
        &mut self,
        member: &WsMember,
        frame: Option<Result<Message, axum::Error>>,
    ) -> Result<(), CloseReason> {
        let Some(text) = self.take(frame, MEMBER_BYTES_MAX).await? else {
            return Ok(());
        };
        let done = match messages::frame(&text) {
            Ok(frame) => self.session.perform(member, frame).map_err(of_member),
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(FrameOutcome::Silent) => {}
            Ok(FrameOutcome::Reply(answer)) => self.send_json(&answer).await?,
            Ok(FrameOutcome::Left) => return Err(CloseReason::closing(close_code::NORMAL, "left")),
            Err(problem) => return self.refuse(&text, &problem).await,
        }
        self.limits.handle_success();
        Ok(())
    }

    fn ended(&self, peer: SessionId) -> CloseReason {
        CloseReason::with_problem(close_code::NORMAL, &self.session.why_ended(peer))
    }

    /// The text of a frame; `None` for a ping or pong.
    async fn take(
        &mut self,
        frame: Option<Result<Message, axum::Error>>,
        bytes_max: usize,
    ) -> Result<Option<Utf8Bytes>, CloseReason> {
        let message = match frame {
            None => return Err(CloseReason::Gone),
            Some(Err(_)) => return Err(CloseReason::closing(close_code::PROTOCOL, "invalid frame")),
            Some(Ok(message)) => message,
        };
        self.last_received = clock::now();
        let allowed = self.limits.handle_frame(self.last_received);
        allowed.map_err(|exceeded| CloseReason::closing(close_code::POLICY, exceeded.to_string()))?;
        match message {
            Message::Text(text) if text.len() > bytes_max => {
                let limit = format!("larger than {} KiB", bytes_max / 1024);
                Err(CloseReason::closing(close_code::SIZE, limit))
            }
            Message::Text(text) => Ok(Some(text)),
            Message::Binary(_) => {
                self.send_json(&replies::error(None, &binary())).await?;
                Err(CloseReason::closing(close_code::UNSUPPORTED, "frames must be text"))
            }
            Message::Close(_) => Err(CloseReason::Closed),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
        }
    }

    /// Reports why a frame has failed.
    async fn refuse(&mut self, text: &str, problem: &Problem) -> Result<(), CloseReason> {
        self.send_json(&replies::error(messages::request_of(text), problem))
            .await?;
        let counted = self.limits.handle_error();
        counted.map_err(|exceeded| CloseReason::closing(close_code::POLICY, exceeded.to_string()))
    }

    async fn keep_alive(&mut self, now: Instant) -> Result<(), CloseReason> {
        let every = self.session.shared.limits.socket_ping;
        if now.saturating_duration_since(self.last_received) >= every * SILENT_PINGS_MAX {
            return Err(CloseReason::closing(close_code::POLICY, "no pong in time"));
        }
        if now.saturating_duration_since(self.last_ping) < every {
            return Ok(());
        }
        self.last_ping = now;
        self.send(Message::Ping(axum::body::Bytes::new())).await
    }

    async fn send_json(&mut self, value: &Value) -> Result<(), CloseReason> {
        self.send(Message::text(value.to_string())).await
    }

    /// Sends one message. A client that does not read it in time is gone.
    async fn send(&mut self, message: Message) -> Result<(), CloseReason> {
        let (limit, stop) = (self.session.shared.limits.body_timeout, self.stop.clone());
        let stopped = async {
            stop.cancelled().await;
            sleep(CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            sent = timeout(limit, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                _ => Err(CloseReason::Gone),
            },
            () = stopped => Err(CloseReason::Gone),
        }
    }

    async fn close(mut self, end: CloseReason) {
        let closing = async {
            match end {
                CloseReason::Gone => return,
                CloseReason::Closed => {}
                CloseReason::Closing {
                    last_frame,
                    code,
                    reason,
                } => {
                    if let Some(frame) = last_frame {
                        let _ = self.socket.send(Message::text(frame.to_string())).await;
                    }
                    let reason = reason.into();
                    let _ = self
                        .socket
                        .send(Message::Close(Some(CloseFrame { code, reason })))
                        .await;
                }
            }
            // Read what is still on its way: closing with unread data would reset the connection before the client has read the reason.
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

fn binary() -> Problem {
    Problem::new(kinds::WRONG_TYPE, "this frame is binary, but frames are JSON text")
        .with_hint("Send a string: JSON.stringify(message).")
}

/// Interval of the check whether an offer or a ping is due.
const TICK: Duration = Duration::from_secs(1);
/// A client that stays silent for this many pings is gone.
const SILENT_PINGS_MAX: u32 = 3;
/// Longest time that closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest message of a member. In a room of 100 peers, the offer of a browser lists every codec in each of 200 media sections.
const MEMBER_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes read of one message. More than a message may have, so that a client that exceeds the limit a little learns why.
const READ_BYTES_MAX: usize = MEMBER_BYTES_MAX + MAX_BODY_BYTES;
