//! `Link` header lines (RFC 8288): one line for each link, beside those that are there already.
//!
//! A line of its own for each is what OBS needs: it reads one link a line.

use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue};

/// Adds a line for each of `links`. Others stay as they are.
pub(crate) fn append(headers: &mut HeaderMap, links: impl IntoIterator<Item = HeaderValue>) {
    for link in links {
        headers.append(LINK, link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_a_line_and_replaces_none() {
        let mut headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static("<first>"))]);
        append(
            &mut headers,
            [
                HeaderValue::from_static("<second>"),
                HeaderValue::from_static("<third>"),
            ],
        );
        let lines: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(lines, ["<first>", "<second>", "<third>"]);
    }
}
