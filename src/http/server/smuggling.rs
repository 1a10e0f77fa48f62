//! Rejects requests that a proxy and this server could interpret differently (request smuggling: RFC 9112 sections 3.2, 6.1 and 11.2).

use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Version};

use crate::http::problem::{Problem, kinds};

/// The problem of an ambiguous request. hyper has already rejected malformed requests; this check is about well-formed ones that a proxy
/// may have interpreted differently. The connection is closed, because the start of the next request is uncertain.
pub(crate) fn check(request: &Request) -> Option<Problem> {
    if request.version() > Version::HTTP_11 {
        return None;
    }
    let headers = request.headers();
    let codings: Vec<&HeaderValue> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let fault = match codings.as_slice() {
        _ if headers.get_all(HOST).iter().count() > 1 => "the request has more than one Host",
        _ if request.version() == Version::HTTP_11 && !headers.contains_key(HOST) => "the request has no Host",
        [] => return None,
        _ if headers.contains_key(CONTENT_LENGTH) => "the request has both Content-Length and Transfer-Encoding",
        [coding] if is_chunked(coding) => return None,
        _ => "the Transfer-Encoding of the request is not exactly chunked",
    };
    Some(Problem::new(kinds::AMBIGUOUS_REQUEST, fault).header(CONNECTION, HeaderValue::from_static("close")))
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
        check(&request.body(Body::empty()).unwrap()).is_some()
    }

    #[test]
    fn ambiguous_requests_are_rejected() {
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
    fn ordinary_requests_pass() {
        let host = ("host", "h");
        assert!(!refused(Version::HTTP_11, &[host, ("content-length", "5")]));
        assert!(!refused(Version::HTTP_11, &[host, ("transfer-encoding", "Chunked")]));
        assert!(!refused(Version::HTTP_10, &[]));
        assert!(!refused(Version::HTTP_2, &[]));
    }
}
