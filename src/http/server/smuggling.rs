//! Refuses requests that two servers in a row could read differently (request smuggling: RFC 9112 sections 3.2, 6.1 and 11.2).

use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Version};

use crate::http::problem::Problem;

/// What makes that a proxy in front of us may have read the request otherwise than we did, if anything. hyper has refused already what is malformed; this is about what
/// is well-formed and ambiguous. The connection is closed with the refusal, since nobody knows where the next request begins.
pub(crate) fn fault(request: &Request) -> Option<Problem> {
    if request.version() > Version::HTTP_11 {
        return None;
    }
    let headers = request.headers();
    let codings: Vec<&HeaderValue> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let fault = match codings.as_slice() {
        _ if headers.get_all(HOST).iter().count() > 1 => "it has more than one Host",
        _ if request.version() == Version::HTTP_11 && !headers.contains_key(HOST) => "it has no Host",
        [] => return None,
        _ if headers.contains_key(CONTENT_LENGTH) => "it has both Content-Length and Transfer-Encoding",
        [coding] if is_chunked(coding) => return None,
        _ => "its Transfer-Encoding is not just chunked",
    };
    Some(Problem::bad_request("ambiguous-request", fault).header(CONNECTION, HeaderValue::from_static("close")))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn refused(version: Version, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        fault(&request.body(Body::empty()).unwrap()).is_some()
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let host = ("host", "h");
        for headers in [
            &[][..],
            &[host, host],
            &[host, ("content-length", "5"), ("transfer-encoding", "chunked")],
            &[
                host,
                ("transfer-encoding", "identity"),
                ("transfer-encoding", "chunked"),
            ],
            &[host, ("transfer-encoding", "gzip, chunked")],
        ] {
            assert!(refused(Version::HTTP_11, headers), "{headers:?}");
        }
    }

    #[test]
    fn usual_requests_pass() {
        let host = ("host", "h");
        assert!(!refused(Version::HTTP_11, &[host, ("content-length", "5")]));
        assert!(!refused(Version::HTTP_11, &[host, ("transfer-encoding", "Chunked")]));
        assert!(!refused(Version::HTTP_10, &[]));
        assert!(!refused(Version::HTTP_2, &[]));
    }
}
