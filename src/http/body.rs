//! Reads request bodies: bounded in size and time, as text.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::problem::Problem;

/// Largest body that is taken. A browser's offer is 5 to 10 KB, one with simulcast and many codecs 30 KB; base64 adds a third.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Reads the body of a request as text.
pub(super) async fn text(headers: &HeaderMap, body: Body, limit: Duration) -> Result<String, Problem> {
    let bytes = tokio::time::timeout(limit, bytes(headers, body)).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", limit.as_secs_f32());
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "The request took too long",
            detail,
        )
    })??;
    String::from_utf8(bytes).map_err(|_| Problem::bad_request("not-text", "the body is not UTF-8 text"))
}

/// True if the request's `Content-Type`, without its parameters, is `expected`.
pub(super) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}

async fn bytes(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Problem> {
    let announced = body.size_hint().lower();
    if announced > MAX_BODY_BYTES as u64 {
        // A client that asked first has not begun to send, and one that sends too much is not worth the bandwidth.
        if !headers.contains_key(EXPECT) && announced <= DRAIN_BYTES_MAX as u64 {
            drain(body).await;
        }
        return Err(too_large());
    }
    let mut taken = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::bad_request("broken-body", format!("the body broke off: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if taken.len() + data.len() > MAX_BODY_BYTES {
            drain(body).await;
            return Err(too_large());
        }
        taken.extend_from_slice(data);
    }
    Ok(taken)
}

/// Passes over the body of a request that is refused for its head, but not for long.
pub(super) async fn pass_over(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) && body.size_hint().lower() <= DRAIN_BYTES_MAX as u64 {
        let _ = tokio::time::timeout(PASS_OVER_MAX, drain(body)).await;
    }
}

/// Takes what the client still sends. Closing at once would reset the connection, and the client would never read why.
async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(len) else { return };
        left = rest;
    }
}

fn too_large() -> Problem {
    let detail = format!("the body is larger than {} KiB", MAX_BODY_BYTES / 1024);
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
        detail,
    )
    .hint("An offer is a few kilobytes of text. Was the wrong file sent?")
}

/// An offer that was sent together with its head is there by then.
const PASS_OVER_MAX: Duration = Duration::from_millis(500);
/// Most that is read to be able to answer.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn typed(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))])
    }

    #[test]
    fn media_types_are_compared_without_parameters_and_case() {
        for value in [
            "application/sdp",
            "application/sdp; charset=utf-8",
            "Application/SDP;x",
            " application/sdp ",
        ] {
            assert!(has_type(&typed(value), "application/sdp"), "{value}");
        }
        for value in [
            "",
            "application/sdpx",
            "application/json",
            "text/plain; application/sdp",
        ] {
            assert!(!has_type(&typed(value), "application/sdp"), "{value}");
        }
        assert!(!has_type(&HeaderMap::new(), "application/sdp"));
    }
}
