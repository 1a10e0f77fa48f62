//! `Link` header lines (RFC 8288). Each link has a line of its own, because OBS reads one link per line.

use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue};

/// Adds a line for each of `links` to those that are there already.
pub(crate) fn append(headers: &mut HeaderMap, links: impl IntoIterator<Item = HeaderValue>) {
    for link in links {
        headers.append(LINK, link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_is_an_additional_line() {
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
