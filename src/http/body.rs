//! Reads request bodies: bounded in size and time, as text.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::http::problem::Problem;

/// Largest body that is taken. A browser's offer is 5 to 10 KB, one with simulcast and many codecs 30 KB; base64 adds a third.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Reads the body of a request as text. Nothing is read of one that is refused for what its head says: a client that asked first
/// (`Expect: 100-continue`) then sends none of it.
pub(crate) async fn text(headers: &HeaderMap, body: Body, limit: Duration) -> Result<String, Problem> {
    if let Some(problem) = coded(headers) {
        return Err(refuse(headers, body, problem).await);
    }
    let bytes = tokio::time::timeout(limit, bytes(headers, body)).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", limit.as_secs_f32());
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "The request took too long",
            detail,
        )
    })??;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Problem::bad_request("not-text", "the body is not UTF-8 text"))?;
    // Editors and shells of Windows begin files with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Why a body in this coding is not taken; `None` for one that is as it is.
fn coded(headers: &HeaderMap) -> Option<Problem> {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let is_plain =
        |coding: &[u8]| matches!(coding.trim_ascii(), b"") || coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    let coding = codings.find(|coding| !is_plain(coding))?;
    let detail = format!(
        "the Content-Encoding is {:?}",
        String::from_utf8_lossy(coding.trim_ascii())
    );
    let problem = Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "compressed",
        "A compressed body is not supported",
        detail,
    );
    // RFC 9110 section 15.5.16: so that it is the coding which the client knows to be at fault.
    let plain = HeaderValue::from_static("identity");
    Some(
        problem
            .hint("Send the body as it is, without compression.")
            .header(ACCEPT_ENCODING, plain),
    )
}

/// Gives back the problem that the head of a request has, after its body was passed over.
pub(crate) async fn refuse(headers: &HeaderMap, body: Body, problem: Problem) -> Problem {
    pass_over(headers, body).await;
    problem
}

/// Whether the client waits for `100 Continue` before it sends the body.
pub(crate) fn is_awaited(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// True if the request's `Content-Type`, without its parameters, is `expected`.
pub(crate) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
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
        if !is_awaited(headers) && announced <= DRAIN_BYTES_MAX as u64 {
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
pub(crate) async fn pass_over(headers: &HeaderMap, body: Body) {
    if !is_awaited(headers) && body.size_hint().lower() <= DRAIN_BYTES_MAX as u64 {
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

    #[test]
    fn only_bodies_as_they_are_can_be_read() {
        let in_coding = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coded(&headers).is_some()
        };
        for values in [&[][..], &["identity"], &["Identity, "], &[""]] {
            assert!(!in_coding(values), "{values:?}");
        }
        for values in [
            &["gzip"][..],
            &["identity, br"],
            &["identity", "deflate"],
            &["x-unknown"],
        ] {
            assert!(in_coding(values), "{values:?}");
        }
    }
}
