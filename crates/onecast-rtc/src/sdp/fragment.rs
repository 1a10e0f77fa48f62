//! The body of a trickle-ICE PATCH, `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::transport::ice_chars;
use super::write::{LITE, write_candidates, write_credentials};
use super::{Description, Fault, MAX_SDP_BYTES, SdpError, text};
use crate::IceCredentials;
use crate::rtp::Mid;

/// What a client trickles. An ICE-lite server needs no candidates of the client: it answers every address that passes a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// `a=ice-ufrag`: which ICE session the fragment belongs to; a new one asks for an ICE restart.
    pub ufrag: Option<Box<str>>,
    /// `a=ice-pwd`
    pub pwd: Option<Box<str>>,
    /// Number of `a=candidate` lines. They may be anything, mDNS names included.
    pub candidates: usize,
    /// The m-line that it is about; `None` when it names none, or one that cannot be repeated.
    pub line: Option<FragmentLine>,
}

/// An m-line of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentLine {
    /// `audio`, `video` or another token.
    pub media: Box<str>,
    /// `a=mid`
    pub mid: Mid,
}

/// Our side of an ICE session as a fragment: the answer to an ICE restart (RFC 9725 section 4.3.3).
#[derive(Debug, Clone, Copy)]
pub struct FragmentParams<'a> {
    /// Our credentials.
    pub ice: &'a IceCredentials,
    /// All our candidates, best first.
    pub candidates: &'a [SocketAddr],
    /// The m-line that the client named; audio, without a name, when it named none.
    pub line: Option<&'a FragmentLine>,
}

impl FragmentParams<'_> {
    /// The text, lines end with CRLF.
    pub fn write(&self) -> String {
        let mut out = String::from(LITE);
        self.write_line(&mut out).expect("a String takes all that is written");
        out
    }

    /// RFC 8840 section 9: candidates belong to an m-line. This one means nothing by itself, hence `RTP/AVP 0`.
    fn write_line(&self, out: &mut String) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "a=group:BUNDLE {}\r\n", line.mid)?;
        }
        let media = self.line.map_or("audio", |line| &line.media);
        write!(out, "m={media} 9 RTP/AVP 0\r\n")?;
        if let Some(line) = self.line {
            write!(out, "a=mid:{}\r\n", line.mid)?;
        }
        write_credentials(out, self.ice)?;
        write_candidates(out, self.candidates)
    }
}

impl Fragment {
    /// Reads the body. Credentials may stand at the top or in each m-line; the first ones count.
    ///
    /// # Errors
    /// Empty, too long, not lines of SDP, or credentials that cannot be.
    pub fn parse(body: &str) -> Result<Fragment, SdpError> {
        Fragment::read(body).map_err(|fault| fault.of(Description::Offer))
    }

    fn read(body: &str) -> Result<Fragment, Fault> {
        text::check_size(body, MAX_SDP_BYTES)?;
        let mut fragment = Fragment {
            ufrag: None,
            pwd: None,
            candidates: 0,
            line: None,
        };
        let mut media = None;
        for line in text::lines(body) {
            let line = line?;
            if line.letter == b'm' {
                media = line.value.split(' ').next().filter(|media| text::is_token(media, 16));
            }
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
                ("mid", mid) if fragment.line.is_none() => {
                    fragment.line = media.zip(Mid::parse(mid)).map(|(media, mid)| FragmentLine {
                        media: media.into(),
                        mid,
                    });
                }
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
    fn our_side_is_written_for_the_line_that_the_client_named() {
        let asked = "a=group:BUNDLE 7\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:7\r\na=ice-ufrag:EsAw\r\n";
        let asked = Fragment::parse(asked).unwrap();
        let ice = IceCredentials {
            ufrag: "ours".into(),
            pwd: "0123456789012345678901".into(),
        };
        let candidates = ["192.0.2.1:8080".parse().unwrap(), "[2001:db8::1]:8080".parse().unwrap()];
        let mut params = FragmentParams {
            ice: &ice,
            candidates: &candidates,
            line: asked.line.as_ref(),
        };
        assert_eq!(
            params.write(),
            "a=ice-lite\r\na=ice-options:trickle ice2\r\na=group:BUNDLE 7\r\nm=video 9 RTP/AVP 0\r\na=mid:7\r\n\
             a=ice-ufrag:ours\r\na=ice-pwd:0123456789012345678901\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.1 8080 typ host\r\n\
             a=candidate:2 1 udp 2130706175 2001:db8::1 8080 typ host\r\na=end-of-candidates\r\n"
        );
        assert_eq!(Fragment::parse(&params.write()).unwrap().ufrag.as_deref(), Some("ours"));
        params.line = None;
        assert!(params.write().contains("m=audio 9 RTP/AVP 0\r\na=ice-ufrag:"));
    }

    #[test]
    fn a_line_that_cannot_be_repeated_is_left_out() {
        for body in [
            "a=mid:0\r\n",
            "m=audio 9 RTP/AVP 0\r\na=mid:a b\r\n",
            "m= 9\r\na=mid:0\r\n",
            "m=audio 9\r\n",
        ] {
            assert_eq!(Fragment::parse(body).unwrap().line, None, "{body}");
        }
    }

    #[test]
    fn the_first_credentials_count() {
        let fragment =
            Fragment::parse("m=audio 9 RTP/AVP 0\na=ice-ufrag:first\nm=video 9 RTP/AVP 0\na=ice-ufrag:second");
        assert_eq!(fragment.unwrap().ufrag.as_deref(), Some("first"));
    }

    #[test]
    fn bodies_that_are_not_fragments_are_refused() {
        let fault = |body: &str| Fragment::parse(body).unwrap_err().fault;
        assert_eq!(fault(" \r\n"), Fault::Empty);
        assert_eq!(fault("{\"candidate\":\"\"}"), Fault::BadLine { line: 1 });
        let name = "ice-pwd";
        assert_eq!(fault("a=ice-pwd:x"), Fault::BadAttribute { line: 1, name });
    }
}
