//! Reads request bodies as text, with limits on size and time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::http::problem::{Problem, kinds};

/// Largest request body. A browser's offer is 5 to 10 KB, one with simulcast and many codecs 30 KB; base64 adds a third.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Reads the body of a request as text. If the headers alone rule the request out, nothing is read, so that a client which waits for
/// `100 Continue` sends no body.
pub(crate) async fn text(headers: &HeaderMap, body: Body, limit: Duration) -> Result<String, Problem> {
    if let Some(problem) = unsupported_coding(headers) {
        return Err(refuse(headers, body, problem).await);
    }
    let bytes = tokio::time::timeout(limit, bytes(headers, body)).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", limit.as_secs_f32());
        Problem::new(kinds::TIMEOUT, detail)
    })??;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Problem::new(kinds::NOT_TEXT, "the body is not UTF-8 text"))?;
    // Windows editors and shells start files with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The problem of a compressed body; `None` if there is no `Content-Encoding` but `identity`.
fn unsupported_coding(headers: &HeaderMap) -> Option<Problem> {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let is_plain =
        |coding: &[u8]| matches!(coding.trim_ascii(), b"") || coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    let coding = codings.find(|coding| !is_plain(coding))?;
    let detail = format!(
        "the Content-Encoding is {:?}",
        String::from_utf8_lossy(coding.trim_ascii())
    );
    let problem = Problem::new(kinds::COMPRESSED, detail);
    // Tells the client that the coding is at fault and not the media type (RFC 9110 section 15.5.16).
    let plain = HeaderValue::from_static("identity");
    Some(problem.header(ACCEPT_ENCODING, plain))
}

/// Discards the body of a request that its headers rule out, and returns the problem.
pub(crate) async fn refuse(headers: &HeaderMap, body: Body, problem: Problem) -> Problem {
    discard(headers, body).await;
    problem
}

/// Whether the client waits for `100 Continue` before it sends the body.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// Whether the request's `Content-Type`, without its parameters, is `expected`.
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
        // A client that waits for 100 Continue has sent nothing yet, and a huge body is not worth the bandwidth.
        if !expects_continue(headers) && announced <= DRAIN_BYTES_MAX as u64 {
            drain(body).await;
        }
        return Err(too_large());
    }
    let mut taken = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::new(kinds::BROKEN_BODY, format!("the body broke off: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if taken.len() + data.len() > MAX_BODY_BYTES {
            drain(body).await;
            return Err(too_large());
        }
        taken.extend_from_slice(data);
    }
    Ok(taken)
}

/// Discards the body of a request that its headers rule out, for a limited time.
pub(crate) async fn discard(headers: &HeaderMap, body: Body) {
    if !expects_continue(headers) && body.size_hint().lower() <= DRAIN_BYTES_MAX as u64 {
        let _ = tokio::time::timeout(PASS_OVER_MAX, drain(body)).await;
    }
}

/// Reads what the client still sends. Closing at once would reset the connection before the client has read the response.
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
    Problem::new(kinds::TOO_LARGE, detail)
}

/// An offer that was sent right after its headers has arrived by then.
const PASS_OVER_MAX: Duration = Duration::from_millis(500);
/// Most bytes that are read only to be able to answer.
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
    fn compressed_bodies_are_refused() {
        let in_coding = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            unsupported_coding(&headers).is_some()
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
