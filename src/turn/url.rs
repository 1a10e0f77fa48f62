//! URLs of STUN (RFC 7064) and TURN servers (RFC 7065).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The valid URL of a STUN or TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceUrl {
    text: Box<str>,
    is_turn: bool,
}

/// Why a URL is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceUrlError {
    /// Neither `stun:`, `stuns:`, `turn:` nor `turns:`.
    #[error("expected a URL with stun:, stuns:, turn: or turns:, such as turn:turn.example.org:3478?transport=udp")]
    Scheme,
    /// With `//`, like a web URL.
    #[error("these URLs have no //: write turn:turn.example.org, not turn://turn.example.org")]
    Slashes,
    /// An old form that browsers reject.
    #[error("these URLs contain no credentials: specify them with --turn-username and --turn-password-file")]
    Login,
    /// A missing or invalid host.
    #[error("the host is neither a name, nor an IPv4 address, nor an IPv6 address in brackets")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Something other than `transport=udp` or `transport=tcp`, or on a STUN server.
    #[error("only transport=udp or transport=tcp may follow ?, and only in turn: and turns: URLs")]
    Transport,
}

impl IceUrl {
    /// Whether it is a TURN server, which requires credentials.
    pub fn is_turn(&self) -> bool {
        self.is_turn
    }

    /// The text, with the scheme in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for IceUrl {
    type Err = IceUrlError;

    fn from_str(text: &str) -> Result<IceUrl, IceUrlError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(IceUrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let is_turn = match scheme.as_str() {
            "stun" | "stuns" => false,
            "turn" | "turns" => true,
            _ => return Err(IceUrlError::Scheme),
        };
        if rest.starts_with("//") {
            return Err(IceUrlError::Slashes);
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        if place.contains('@') {
            return Err(IceUrlError::Login);
        }
        check_place(place)?;
        match query {
            None => {}
            Some("transport=udp" | "transport=tcp") if is_turn => {}
            Some(_) => return Err(IceUrlError::Transport),
        }
        Ok(IceUrl {
            text: format!("{scheme}:{rest}").into(),
            is_turn,
        })
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads any bytes: a valid URL survives a round trip and is safe in a header.
#[doc(hidden)]
pub fn fuzz_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = text.parse::<IceUrl>() {
        assert_eq!(url.as_str().parse(), Ok(url.clone()));
        assert!(url.as_str().len() <= text.len() && url.as_str().len() < URL_MAX);
        let is_safe = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,;<>@".contains(&byte);
        assert!(url.as_str().bytes().all(is_safe), "{url}");
    }
}

/// `host` or `host:port`.
fn check_place(place: &str) -> Result<(), IceUrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(IceUrlError::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| IceUrlError::Host)?;
            (None, port)
        }
        None => {
            let end = place.find(':').unwrap_or(place.len());
            (Some(&place[..end]), &place[end..])
        }
    };
    if host.is_some_and(|host| !is_name(host)) {
        return Err(IceUrlError::Host);
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        None => Err(IceUrlError::Host),
        Some(digits) => check_port(digits),
    }
}

fn check_port(digits: &str) -> Result<(), IceUrlError> {
    let is_number = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(1..) if is_number => Ok(()),
        _ => Err(IceUrlError::Port),
    }
}

/// A name of the DNS, or an IPv4 address. The underscore is in no host name of the standard, and in many of container networks.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(known)
    };
    host.len() <= HOST_MAX && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

/// RFC 1035 section 2.3.4, with the dot at the end.
const HOST_MAX: usize = 254;
/// Longer is none: scheme, host, port and transport.
const URL_MAX: usize = HOST_MAX + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_urls_are_accepted_unchanged() {
        for (text, is_turn) in [
            ("stun:example.org", false),
            ("stuns:example.org:5349", false),
            ("stun:192.0.2.1:3478", false),
            ("turn:[2001:db8::1]:3478", true),
            ("turn:[2001:db8::1]", true),
            ("turn:turn_1.example.org.?transport=udp", true),
            ("turns:example.org:443?transport=tcp", true),
        ] {
            let url: IceUrl = text.parse().unwrap();
            assert_eq!((url.as_str(), url.is_turn()), (text, is_turn));
        }
        assert_eq!(
            " TURN:Example.org ".parse::<IceUrl>().unwrap().as_str(),
            "turn:Example.org"
        );
    }

    #[test]
    fn each_error_is_reported() {
        for (text, fault) in [
            ("", IceUrlError::Scheme),
            ("turn.example.org:3478", IceUrlError::Scheme),
            ("http://example.org", IceUrlError::Scheme),
            ("turn://example.org", IceUrlError::Slashes),
            ("turn:user:secret@example.org", IceUrlError::Login),
            ("turn:", IceUrlError::Host),
            ("turn:a b", IceUrlError::Host),
            ("turn:a..b", IceUrlError::Host),
            ("turn:example.org/path", IceUrlError::Host),
            ("turn:2001:db8::1", IceUrlError::Port),
            ("turn:[2001:db8::1", IceUrlError::Host),
            ("turn:[example.org]", IceUrlError::Host),
            ("turn:[::1]3478", IceUrlError::Host),
            ("turn:é.example", IceUrlError::Host),
            ("turn:example.org:0", IceUrlError::Port),
            ("turn:example.org:65536", IceUrlError::Port),
            ("turn:example.org:+80", IceUrlError::Port),
            ("turn:example.org:", IceUrlError::Port),
            ("turn:example.org?transport=sctp", IceUrlError::Transport),
            ("turn:example.org?", IceUrlError::Transport),
            ("stun:example.org?transport=udp", IceUrlError::Transport),
        ] {
            assert_eq!(text.parse::<IceUrl>(), Err(fault), "{text:?}");
        }
    }
}
