//! The body of a trickle-ICE PATCH, `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use super::transport::ice_chars;
use super::{SdpError, text};

/// What a client trickles. An ICE-lite server needs no candidates of the client's: it answers whoever passes the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// `a=ice-ufrag`: which ICE session the fragment belongs to; a new one asks for an ICE restart.
    pub ufrag: Option<Box<str>>,
    /// `a=ice-pwd`
    pub pwd: Option<Box<str>>,
    /// How many `a=candidate` lines there are; they may be anything, mDNS names included.
    pub candidates: usize,
}

impl Fragment {
    /// Reads the body. Credentials may stand at the top or in each m-line; the first ones count.
    ///
    /// # Errors
    /// Empty, too long, not lines of SDP, or credentials that cannot be.
    pub fn parse(body: &str) -> Result<Fragment, SdpError> {
        text::check_size(body)?;
        let mut fragment = Fragment {
            ufrag: None,
            pwd: None,
            candidates: 0,
        };
        for line in text::lines(body) {
            let line = line?;
            if line.letter != b'a' {
                continue;
            }
            match text::attribute(line.value) {
                ("ice-ufrag", value) => {
                    let ufrag = ice_chars(line.number, "ice-ufrag", value, 4)?;
                    fragment.ufrag.get_or_insert_with(|| ufrag.into());
                }
                ("ice-pwd", value) => {
                    let pwd = ice_chars(line.number, "ice-pwd", value, 22)?;
                    fragment.pwd.get_or_insert_with(|| pwd.into());
                }
                ("candidate", _) => fragment.candidates += 1,
                _ => {}
            }
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_all_lines_are_counted() {
        let body = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
            a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
            a=candidate:1 1 udp 1 0b7c.local 1 typ host\r\na=end-of-candidates\r\n";
        let fragment = Fragment::parse(body).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.pwd.as_deref(), Some("P2uYro0UCOQ4zxjKXaWCBui1"));
        assert_eq!(fragment.candidates, 2);
    }

    #[test]
    fn the_first_credentials_count() {
        let fragment =
            Fragment::parse("m=audio 9 RTP/AVP 0\na=ice-ufrag:first\nm=video 9 RTP/AVP 0\na=ice-ufrag:second");
        assert_eq!(fragment.unwrap().ufrag.as_deref(), Some("first"));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let error = |body: &str| Fragment::parse(body).unwrap_err();
        assert_eq!(error(" \r\n"), SdpError::Empty);
        assert_eq!(error("{\"candidate\":\"\"}"), SdpError::BadLine { line: 1 });
        let name = "ice-pwd";
        assert_eq!(error("a=ice-pwd:x"), SdpError::BadAttribute { line: 1, name });
    }
}
