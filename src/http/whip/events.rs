//! Event streams of WHEP: server-sent events (HTML, section 9.2) about the stream that a viewer watches.
//!
//! Knowing the URL of an event stream is enough to follow it, because an `EventSource` cannot send a token; the URL cannot be guessed. It
//! does not reveal the session's own URL, which would be enough to end the session.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::http::cors::{ACCEPT_POST, Methods, options};
use crate::http::feeds::{EventFeed, Feeds};
use crate::http::path_params::{EventStreamPath, SessionPath, StreamPath};
use crate::http::problem::{Problem, kinds};
use crate::http::server::base_path::BasePath;
use crate::http::server::connection::{ActiveRequests, Connection, Stop};
use crate::http::server::request_permit::RequestPermit;
use crate::http::whip::layers::{self, LayersForm};
use crate::http::whip::routes::wrong_type;
use crate::http::{Shared, body};
use onecast_control::playable::{Missing, Playable};
use onecast_control::whep_events::{Announcement, EventName, EventSet, EventStream, EventStreamId, Reconnect};
use onecast_udp::clock;

pub(crate) fn routes() -> Router<Shared> {
    let methods = async || {
        (
            [(ACCEPT_POST, JSON)],
            options(Methods("GET, HEAD, POST, OPTIONS")).await,
        )
    };
    let opening = post(open).get(open_and_follow).options(methods);
    let following = get(follow)
        .delete(close)
        .options(|| options(Methods("GET, HEAD, DELETE, OPTIONS")));
    Router::new()
        .route("/whep/{stream}/{session}/events", opening)
        .route("/whep/{stream}/events/{events}", following)
}

/// The `Link` value with the URL that opens event streams of the session at `location`.
pub(crate) fn link(location: &str, with_layers: bool) -> HeaderValue {
    let events = EventName::ALL
        .into_iter()
        .filter(|event| with_layers || *event != EventName::Layers);
    let events = events.map(EventName::as_str).collect::<Vec<_>>().join(",");
    HeaderValue::try_from(format!("<{location}/events>; rel=\"{RELATION}\"; events=\"{events}\""))
        .expect("paths and event names are visible ASCII")
}

async fn open(
    State(shared): State<Shared>,
    StreamPath(stream): StreamPath,
    SessionPath(session): SessionPath,
    base_path: BasePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !body::has_type(&headers, JSON) {
        let problem = wrong_type(&headers, JSON).header(ACCEPT_POST, HeaderValue::from_static(JSON));
        return Err(body::refuse(&headers, body, problem).await);
    }
    let names = body::text(&headers, body, shared.limits.body_timeout).await?;
    let events = shared.service.open_events(session, wanted(&names)?)?;
    let location = format!("{base_path}/whep/{stream}/events/{events}");
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

async fn follow(
    State(shared): State<Shared>,
    follower: Follower,
    EventStreamPath(events): EventStreamPath,
) -> Result<Response, Problem> {
    let permit = RequestPermit::acquire(&shared, follower.1.client)?;
    let feed = shared.service.follow_events(events)?;
    Ok(stream_events(feed, LayersForm::List, follower, permit))
}

/// A GET of the URL where event streams are opened: players of Broadcast Box open and follow one at once. It ends with the response.
async fn open_and_follow(
    State(shared): State<Shared>,
    follower: Follower,
    SessionPath(session): SessionPath,
) -> Result<Response, Problem> {
    let permit = RequestPermit::acquire(&shared, follower.1.client)?;
    let opened = Opened {
        events: shared.service.open_events(session, EventSet::all())?,
        service: shared.service,
    };
    let feed = opened.service.follow_events(opened.events)?;
    Ok(stream_events(feed, LayersForm::Object, follower, (permit, opened)))
}

/// An event stream that ends when this is dropped.
struct Opened {
    service: Arc<dyn Feeds>,
    events: EventStreamId,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // It may have ended with its session.
        let _ = self.service.close_events(self.events);
    }
}

/// A client that follows events, and what its request lasts for.
type Follower = (Stop, Connection, ActiveRequests);

/// The response, which is over when the feed or the client is gone. `held` is dropped then.
fn stream_events(feed: EventFeed, form: LayersForm, follower: Follower, held: impl Send + 'static) -> Response {
    let (Stop(stop), _, active) = follower;
    // One message in flight, then the latest state: nothing queues up for a slow reader.
    let (messages, to_client) = mpsc::channel(1);
    tokio::spawn(async move {
        let (ended, left) = (feed.ended.clone(), messages.clone());
        tokio::select! {
            () = announce(feed, form, messages) => {}
            () = ended.cancelled() => {}
            () = stop.cancelled() => {}
            () = left.closed() => {}
        }
        drop((held, active));
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_EVERY);
    let mut response = Sse::new(ReceiverStream::new(to_client))
        .keep_alive(keep_alive)
        .into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

async fn close(State(shared): State<Shared>, EventStreamPath(events): EventStreamPath) -> Result<StatusCode, Problem> {
    shared.service.close_events(events)?;
    Ok(StatusCode::OK)
}

/// Sends events until the feed or its reader ends.
async fn announce(mut feed: EventFeed, form: LayersForm, messages: mpsc::Sender<Result<Event, Infallible>>) {
    // Without video there is nothing to choose.
    let wanted = match feed.video_line {
        Some(_) => feed.wanted,
        None => feed.wanted.without(EventName::Layers),
    };
    let layers_key = (form, feed.video_line.unwrap_or_default());
    let mut events = EventStream::new(wanted, feed.playable);
    loop {
        events.handle_audience(*feed.audience.borrow_and_update());
        events.handle_reconnect(feed.reconnect.borrow_and_update().clone());
        if let Some(announcement) = events.poll_announcement(clock::now()) {
            if messages.send(Ok(message(&announcement, layers_key))).await.is_err() {
                return;
            }
            continue;
        }
        let due = events.poll_timeout();
        let held_back = async move {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = feed.audience.changed() => changed,
            changed = feed.reconnect.changed() => changed,
            () = held_back => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

fn message(announcement: &Announcement, (form, line): (LayersForm, u8)) -> Event {
    let data = match announcement {
        Announcement::Active | Announcement::Inactive { silent: false } => json!({}),
        Announcement::Inactive { silent: true } => json!({ "silent": true }),
        Announcement::CodecMissing(missing, playable) => describe_missing(*missing, *playable),
        Announcement::ViewerCount(viewers) => json!({ "viewercount": viewers }),
        Announcement::Layers(layers) => layers::describe(layers, form, line),
        Announcement::Reconnect(reconnect) => describe(reconnect),
    };
    // `serde_json` writes JSON on one line, as an event requires.
    Event::default()
        .event(announcement.name().as_str())
        .data(data.to_string())
}

/// The list is empty once the client can play everything again.
fn describe_missing(missing: Missing, playable: Playable) -> Value {
    let missing = missing.codecs().map(|codec| {
        let kind = codec.kind();
        let offered = playable.codecs(kind).map(|codec| codec.to_string());
        json!({ "kind": kind.to_string(), "codec": codec.to_string(), "offered": offered.collect::<Vec<_>>() })
    });
    json!({ "missing": missing.collect::<Vec<_>>() })
}

fn describe(reconnect: &Reconnect) -> Value {
    let mut data = json!({});
    if let Some(url) = &reconnect.url {
        data["url"] = url.as_ref().into();
    }
    if let Some(after) = reconnect.after {
        data["retry"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
    }
    data
}

/// Why a body does not select events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum EventNamesError {
    #[error("the body is not a JSON array of names: {0}")]
    NotNames(String),
    #[error("the server knows none of these events")]
    NoneKnown,
}

/// Reads the names of the events that a client selects.
fn wanted(names: &str) -> Result<EventSet, EventNamesError> {
    let names: Vec<String> =
        serde_json::from_str(names).map_err(|error| EventNamesError::NotNames(error.to_string()))?;
    EventSet::of_names(names.iter().map(String::as_str)).ok_or(EventNamesError::NoneKnown)
}

impl From<EventNamesError> for Problem {
    fn from(error: EventNamesError) -> Problem {
        let kind = match error {
            EventNamesError::NotNames(_) => kinds::NO_EVENT_NAMES,
            EventNamesError::NoneKnown => kinds::UNKNOWN_EVENTS,
        };
        let known = EventName::ALL.map(EventName::as_str).join("\", \"");
        Problem::new(kind, error.to_string()).with_hint(format!("Send [\"{known}\"], or some of them."))
    }
}

/// Reads any bytes as names of events.
#[doc(hidden)]
pub fn fuzz_event_names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match wanted(text) {
        Ok(set) => assert!(EventName::ALL.into_iter().any(|event| set.has(event))),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

const JSON: &str = "application/json";
const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// Keeps nginx from buffering the events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Proxies close connections that are silent for 30 s or more.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
