//! Conference rooms over a WebSocket (RFC 6455): `GET /ws`. One task for each socket, which tells the newest there is whenever its client
//! has taken what came before.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::http::auth::requester::Asker;
use crate::http::conference::problem::of_member;
use crate::http::conference::ws_limits::Pace;
use crate::http::conference::ws_session::{Done, Host, Member};
use crate::http::conference::{messages, replies, roster_diff};
use crate::http::cors::{Methods, options};
use crate::http::problem::Problem;
use crate::http::server::connection::{AtWork, Connection, Stop, Upgrades};
use crate::http::server::request_permit::Place;
use crate::http::service::Refusal;
use crate::http::{MAX_BODY_BYTES, Shared};
use onecast_control::SessionId;
use onecast_udp::clock;

/// The route.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/ws", get(open).options(|| options(Methods("GET, HEAD, OPTIONS"))))
}

async fn open(
    State(shared): State<Shared>,
    Stop(stop): Stop,
    connection: Connection,
    at_work: AtWork,
    upgrades: Upgrades,
    asker: Asker,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| no_socket())?;
    let place = Place::take(&shared, connection.client)?;
    let going_on = upgrades.begin();
    let host = Host {
        shared,
        asker,
        connection,
    };
    let upgrade = upgrade.max_message_size(READ_BYTES_MAX).max_frame_size(READ_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        let now = clock::now();
        let talk = Talk {
            socket,
            host,
            stop,
            pace: Pace::new(now),
            heard: now,
            pinged: now,
        };
        talk.run().await;
        drop((place, at_work, going_on));
    }))
}

fn no_socket() -> Problem {
    Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "no-websocket",
        "This is for WebSockets",
        "the request does not begin a WebSocket of version 13 over HTTP/1.1",
    )
    .hint("Use new WebSocket(url) in a page, or POST /offer without WebSockets.")
    .header(UPGRADE, HeaderValue::from_static("websocket"))
    .header(CONNECTION, HeaderValue::from_static("upgrade"))
}

/// A socket and whose it is.
struct Talk {
    socket: WebSocket,
    host: Host,
    stop: CancellationToken,
    pace: Pace,
    heard: Instant,
    pinged: Instant,
}

/// Why a socket ends.
enum End {
    /// Its client has gone, or does not read.
    Gone,
    /// Its client has closed it.
    Closed,
    /// We close it, with a last word if there is one.
    Closing {
        word: Option<Value>,
        code: u16,
        reason: String,
    },
}

impl End {
    fn closing(code: u16, reason: impl Into<String>) -> End {
        let reason = reason.into();
        End::Closing {
            word: None,
            code,
            reason,
        }
    }

    /// An end that the client is told of in JSON, too.
    fn told(code: u16, problem: &Problem) -> End {
        End::Closing {
            word: Some(replies::closed(problem)),
            code,
            reason: problem.kind.to_owned(),
        }
    }

    fn stopping() -> End {
        End::told(close_code::AWAY, &Refusal::ShuttingDown.into())
    }
}

impl Talk {
    async fn run(mut self) {
        let end = match self.enter().await {
            Ok(member) => self.follow(member).await,
            Err(end) => end,
        };
        self.close(end).await;
    }

    /// Waits for the frame that joins a room or comes back to one.
    async fn enter(&mut self) -> Result<Member, End> {
        let patience = self.host.shared.limits.header_timeout;
        loop {
            let text = timeout(patience, self.text()).await;
            let text = text.map_err(|_| End::closing(close_code::POLICY, "no first frame came in time"))??;
            match self.host.hello(&text).await {
                Ok((member, greeting)) => {
                    self.pace.handle_success();
                    self.tell(&greeting).await?;
                    self.tell(&replies::roster_frame(&member.told)).await?;
                    return Ok(member);
                }
                Err(problem) => self.refuse(&text, &problem).await?,
            }
        }
    }

    async fn text(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            let frame = tokio::select! {
                frame = self.socket.recv() => frame,
                () = self.stop.cancelled() => return Err(End::stopping()),
            };
            if let Some(text) = self.take(frame, MAX_BODY_BYTES).await? {
                return Ok(text);
            }
        }
    }

    /// Tells a member what there is to tell, and does what it asks for.
    async fn follow(&mut self, mut member: Member) -> End {
        let mut ticks = interval(TICK.min(self.host.shared.limits.socket_ping));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(end) = self.offer(&mut member).await {
                return end;
            }
            let turn = tokio::select! {
                () = self.stop.cancelled() => Err(End::stopping()),
                () = member.feed.ended.cancelled() => Err(self.ended(member.peer)),
                changed = member.feed.roster.changed() => match changed {
                    Ok(()) => self.news(&mut member).await,
                    Err(_) => Err(self.ended(member.peer)),
                },
                woken = member.feed.wakes.changed() => woken.map_err(|_| self.ended(member.peer)),
                frame = self.socket.recv() => self.frame(&member, frame).await,
                _ = ticks.tick() => self.keep_alive(clock::now()).await,
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    /// Sends the offer that is due, if one is.
    async fn offer(&mut self, member: &mut Member) -> Result<(), End> {
        member.feed.wakes.borrow_and_update();
        match self.host.shared.service.conference().next_offer(member.peer) {
            Ok(Some(offer)) => self.tell(&replies::offer(&offer)).await,
            Ok(None) => Ok(()),
            Err(_) => Err(self.ended(member.peer)),
        }
    }

    async fn news(&mut self, member: &mut Member) -> Result<(), End> {
        let now = member.feed.roster.borrow_and_update().clone();
        let told = std::mem::replace(&mut member.told, now.clone());
        for news in roster_diff::between(&told, &now) {
            self.tell(&replies::news(news)).await?;
        }
        Ok(())
    }

    async fn frame(&mut self, member: &Member, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let Some(text) = self.take(frame, MEMBER_BYTES_MAX).await? else {
            return Ok(());
        };
        let done = match messages::frame(&text) {
            Ok(frame) => self.host.perform(member, frame).map_err(of_member),
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(Done::Quietly) => {}
            Ok(Done::Told(answer)) => self.tell(&answer).await?,
            Ok(Done::Left) => return Err(End::closing(close_code::NORMAL, "left")),
            Err(problem) => return self.refuse(&text, &problem).await,
        }
        self.pace.handle_success();
        Ok(())
    }

    fn ended(&self, peer: SessionId) -> End {
        End::told(close_code::NORMAL, &self.host.why_ended(peer))
    }

    /// The text of a frame, if that is what it is.
    async fn take(
        &mut self,
        frame: Option<Result<Message, axum::Error>>,
        bytes_max: usize,
    ) -> Result<Option<Utf8Bytes>, End> {
        let message = match frame {
            None => return Err(End::Gone),
            Some(Err(_)) => return Err(End::closing(close_code::PROTOCOL, "this cannot be read")),
            Some(Ok(message)) => message,
        };
        self.heard = clock::now();
        let paced = self.pace.handle_frame(self.heard);
        paced.map_err(|much| End::closing(close_code::POLICY, much.to_string()))?;
        match message {
            Message::Text(text) if text.len() > bytes_max => {
                let limit = format!("larger than {} KiB", bytes_max / 1024);
                Err(End::closing(close_code::SIZE, limit))
            }
            Message::Text(text) => Ok(Some(text)),
            Message::Binary(_) => {
                self.tell(&replies::error(None, &binary())).await?;
                Err(End::closing(close_code::UNSUPPORTED, "frames are text"))
            }
            Message::Close(_) => Err(End::Closed),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
        }
    }

    /// Says why a frame was not done.
    async fn refuse(&mut self, text: &str, problem: &Problem) -> Result<(), End> {
        self.tell(&replies::error(messages::request_of(text), problem)).await?;
        let counted = self.pace.handle_error();
        counted.map_err(|much| End::closing(close_code::POLICY, much.to_string()))
    }

    async fn keep_alive(&mut self, now: Instant) -> Result<(), End> {
        let every = self.host.shared.limits.socket_ping;
        if now.saturating_duration_since(self.heard) >= every * SILENT_PINGS_MAX {
            return Err(End::closing(close_code::POLICY, "nothing was heard for too long"));
        }
        if now.saturating_duration_since(self.pinged) < every {
            return Ok(());
        }
        self.pinged = now;
        self.send(Message::Ping(axum::body::Bytes::new())).await
    }

    async fn tell(&mut self, value: &Value) -> Result<(), End> {
        self.send(Message::text(value.to_string())).await
    }

    /// Sends one message, to a client that reads.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        let (patience, stop) = (self.host.shared.limits.body_timeout, self.stop.clone());
        let stopped = async {
            stop.cancelled().await;
            sleep(LAST_WORDS_MAX).await;
        };
        tokio::select! {
            sent = timeout(patience, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                _ => Err(End::Gone),
            },
            () = stopped => Err(End::Gone),
        }
    }

    async fn close(mut self, end: End) {
        let closing = async {
            match end {
                End::Gone => return,
                End::Closed => {}
                End::Closing { word, code, reason } => {
                    if let Some(word) = word {
                        let _ = self.socket.send(Message::text(word.to_string())).await;
                    }
                    let reason = reason.into();
                    let _ = self
                        .socket
                        .send(Message::Close(Some(CloseFrame { code, reason })))
                        .await;
                }
            }
            // What is still on its way is taken off the connection: closing over it would reset it, and the client never read why.
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(LAST_WORDS_MAX, closing).await;
    }
}

fn binary() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong-type",
        "The content type is not supported",
        "this frame is binary, and frames are JSON in text",
    )
    .hint("Send a string: JSON.stringify(message).")
}

/// How often a socket looks whether an offer is due again, or a ping.
const TICK: Duration = Duration::from_secs(1);
/// Whoever was not heard for so many pings is gone.
const SILENT_PINGS_MAX: u32 = 3;
/// How long the end may take to be told.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// Largest message of a member. In a room of a hundred, an offer of a browser lists every codec on each of 200 lines.
const MEMBER_BYTES_MAX: usize = 1024 * 1024;
/// Most that is read of one message. More than is taken: who sends a little too much can be told so.
const READ_BYTES_MAX: usize = MEMBER_BYTES_MAX + MAX_BODY_BYTES;
