//! The streams: `GET /api/streams` and `GET /api/streams/:stream`; and the counters of the shards.

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::http::auth::requester::Requester;
use crate::http::cors::{Methods, options};
use crate::http::path_params::StreamPath;
use crate::http::problem::Problem;
use crate::http::{Shared, timestamp};
use onecast_control::Refusal;
use onecast_control::layers::{LayerState, WatchedLayer};
use onecast_control::port::{ShardReading, StreamStatus};
use onecast_metrics::Metric;

pub(crate) fn routes() -> Router<Shared> {
    let methods = || options(Methods("GET, HEAD, OPTIONS"));
    Router::new()
        .route("/api/streams", get(streams).options(methods))
        .route(
            "/api/streams/{stream}",
            get(stream).options(|| options(Methods("GET, HEAD, DELETE, OPTIONS"))),
        )
}

async fn streams(State(shared): State<Shared>, requester: Requester) -> Result<Response, Problem> {
    let visible = requester.visible_streams(&shared).await?;
    let streams = shared.service.streams();
    let streams = streams.iter().filter(|status| visible.has(&status.name));
    let streams: Vec<Value> = streams.map(describe).collect();
    let admission = shared.service.admission();
    let joins = json!({
        "half_open": admission.half_open,
        "refused": {
            "rate": admission.refused_rate,
            "half_open": admission.refused_half_open,
            "address": admission.refused_address,
            "address_rate": admission.refused_address_rate,
        },
    });
    Ok(fresh(json!({ "streams": streams, "joins": joins })))
}

async fn stream(
    State(shared): State<Shared>,
    StreamPath(name): StreamPath,
    requester: Requester,
) -> Result<Response, Problem> {
    if !requester.visible_streams(&shared).await?.has(&name) {
        return Err(Refusal::UnknownStream.into());
    }
    let streams = shared.service.streams();
    let status = streams
        .iter()
        .find(|status| status.name == name)
        .ok_or(Refusal::UnknownStream)?;
    Ok(fresh(describe(status)))
}

/// `GET /api/shards`. The route is in [`crate::http::api::sessions`], which authorizes administrators.
pub(crate) async fn shards(State(shared): State<Shared>) -> Response {
    let describe = |shard: ShardReading| {
        let mut counters = by_name(shard.counters.iter());
        counters["socket"] = by_name(shard.socket.iter());
        counters
    };
    let shards: Vec<Value> = shared.service.shards().into_iter().map(describe).collect();
    fresh(json!({ "shards": shards }))
}

/// Counters as an object.
fn by_name(counts: impl Iterator<Item = (&'static Metric, u64)>) -> Value {
    let pairs = counts.map(|(metric, value)| (metric.name.to_owned(), value.into()));
    Value::Object(pairs.collect())
}

fn describe(status: &StreamStatus) -> Value {
    json!({
        "name": status.name.as_str(),
        "live": status.live,
        "state": match (status.live, status.silent) {
            (true, _) => "live",
            (false, Some(_)) => "connected",
            (false, None) => "waiting",
        },
        "silent_s": status.silent.map(|silent| silent.as_secs()),
        "since": status.since_unix.map(timestamp::utc),
        "viewers": status.viewers,
        "video": status.video,
        "audio": status.audio,
        "keyframes": {
            "interval_ms": status.keyframes.stats.interval.map(|interval| interval.as_millis() as u64),
            "wanted": status.keyframes.stats.wanted,
            "coalesced": status.keyframes.stats.coalesced,
            "deferred": status.keyframes.stats.deferred,
            "requested": status.keyframes.stats.requested,
            "answered": status.keyframes.stats.answered,
            "ignored": status.keyframes.stats.unanswered,
        },
        "start_cache": {
            "ready": status.keyframes.ready,
            "frames": status.keyframes.cached_frames,
            "bytes": status.keyframes.cached_bytes,
        },
        "large_packets": {
            "count": status.large.count,
            "longest_bytes": status.large.longest,
        },
        "layers": status.layers.iter().map(describe_layer).collect::<Vec<_>>(),
    })
}

fn describe_layer(watched: &WatchedLayer) -> Value {
    let LayerState { rid, facts, .. } = watched.layer;
    json!({
        "rid": rid.as_deref(),
        "width": facts.size.map(|(width, _)| width),
        "height": facts.size.map(|(_, height)| height),
        "bitrate": facts.rate,
        "frame_rate": facts.frame_rate,
        "live": facts.is_live,
        "viewers": watched.viewers,
        "keyframe_age_ms": watched.keyframe_age.map(|age| age.as_millis() as u64),
    })
}

fn fresh(value: Value) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(value)).into_response()
}
