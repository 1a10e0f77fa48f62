//! The client of a forwarded request: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! A proxy appends the address that it received the request from, so only the end of the list can be trusted: everything to the left of
//! the last entry that a trusted proxy has written may be forged by the client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::header::{FORWARDED, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// Proxies that the server trusts about the addresses of their clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The address of a proxy, or a network of proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyNetwork(IpNet);

/// The text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")]
pub struct ProxyNetworkError;

/// The client that each proxy names, the nearest proxy last; `None` for a proxy that does not name its client.
type Entries = Vec<Option<ForwardedFor>>;

/// The client that the headers name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForwardedFor {
    /// The port is 0 if unknown.
    Client(SocketAddr),
    /// Hidden, or not readable.
    Unknown,
}

impl TrustedProxies {
    /// Proxies on the same machine.
    pub fn loopback() -> TrustedProxies {
        let v4 = IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8);
        let v6 = IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128);
        TrustedProxies(vec![v4, v6])
    }

    /// Whether this is the address of a trusted proxy.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request from `peer`: `peer` itself, unless it is a trusted proxy that names its client.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.has(peer.ip()) {
            return peer;
        }
        let named = [
            self.named(headers, &FORWARDED, elements),
            self.named(headers, &X_FORWARDED_FOR, addresses),
        ];
        match named {
            [None, None] => peer,
            [Some(ForwardedFor::Client(client)), None] | [None, Some(ForwardedFor::Client(client))] => client,
            // A proxy writes one of the two headers and forwards the other as the client sent it; there is no telling which is which.
            [Some(ForwardedFor::Client(one)), Some(ForwardedFor::Client(other))] if one.ip() == other.ip() => one,
            _ => UNKNOWN,
        }
    }

    /// The client in all lines of one header; `None` if there is none.
    fn named(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        entries: fn(&str) -> Option<Entries>,
    ) -> Option<ForwardedFor> {
        let mut proxy = None;
        let mut is_unnamed = false;
        for line in headers.get_all(name).iter().rev() {
            let line = HeaderValue::to_str(line).ok().and_then(entries);
            for entry in line
                .unwrap_or_else(|| vec![Some(ForwardedFor::Unknown)])
                .into_iter()
                .rev()
            {
                match entry {
                    None if proxy.is_none() => is_unnamed = true,
                    // A proxy that does not name its client has not vouched for the elements to the left.
                    None => return Some(ForwardedFor::Unknown),
                    Some(_) if is_unnamed => return Some(ForwardedFor::Unknown),
                    // Another trusted proxy, which wrote the entry to the left.
                    Some(ForwardedFor::Client(client)) if self.has(client.ip()) => proxy = entry,
                    Some(named) => return Some(named),
                }
            }
        }
        proxy
    }
}

impl FromIterator<ProxyNetwork> for TrustedProxies {
    fn from_iter<T: IntoIterator<Item = ProxyNetwork>>(networks: T) -> TrustedProxies {
        TrustedProxies(networks.into_iter().map(|ProxyNetwork(network)| network).collect())
    }
}

impl FromStr for ProxyNetwork {
    type Err = ProxyNetworkError;

    fn from_str(text: &str) -> Result<ProxyNetwork, ProxyNetworkError> {
        let address = || {
            text.parse::<IpAddr>()
                .map(|address| IpNet::from(address.to_canonical()))
        };
        let network = text.parse::<IpNet>().or_else(|_| address());
        network.map(ProxyNetwork).map_err(|_| ProxyNetworkError)
    }
}

impl fmt::Display for ProxyNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Entries of an `X-Forwarded-For` line.
fn addresses(line: &str) -> Option<Entries> {
    let entries = line.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    Some(entries.map(|entry| Some(node(entry))).collect())
}

/// The `for` parameter of each element of a `Forwarded` line (RFC 7239 section 4); `None` if the line is malformed.
fn elements(line: &str) -> Option<Entries> {
    let mut entries = Vec::new();
    let mut element = Element::default();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let separator = rest.find([';', ',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(separator);
        rest = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after)?;
                element.take(name.trim(), &value)?;
                after
            }
            None if name.trim().is_empty() => after,
            None => return None,
        };
        if let Some(after) = rest.strip_prefix(',') {
            entries.push(std::mem::take(&mut element));
            rest = after;
        } else {
            rest = rest.strip_prefix(';').unwrap_or(rest);
        }
    }
    entries.push(element);
    // Empty list elements are ignored (RFC 9110 section 5.6.1.2).
    let present = entries.into_iter().filter(|element| element.is_present);
    Some(present.map(|element| element.client).collect())
}

/// One element of `Forwarded`, written by one proxy.
#[derive(Debug, Default)]
struct Element {
    is_present: bool,
    client: Option<ForwardedFor>,
}

impl Element {
    /// `None` for a second `for`, which is ambiguous.
    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        self.is_present = true;
        if !name.eq_ignore_ascii_case("for") {
            return Some(());
        }
        self.client.replace(node(value)).is_none().then_some(())
    }
}

/// The value at the start of the text, a token or a quoted string (RFC 9110 section 5.6.4), and the rest: nothing or a separator.
/// Brackets and colons are accepted outside quotes, because some proxies write them that way.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (!value.contains('"')).then(|| (value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let after = quoted[at + 1..].trim_start();
                return (after.is_empty() || after.starts_with([';', ','])).then_some((value, after));
            }
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// A node (RFC 7239 section 6), or an entry of `X-Forwarded-For`: an address, IPv6 with or without brackets, with or without a port.
fn node(text: &str) -> ForwardedFor {
    read_node(text.trim()).map_or(ForwardedFor::Unknown, |client| {
        ForwardedFor::Client(SocketAddr::new(client.ip().to_canonical(), client.port()))
    })
}

fn read_node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 0));
    }
    let Some(bracketed) = text.strip_prefix('[') else {
        let (address, port) = text.split_once(':')?;
        return Some(SocketAddr::new(
            address.parse::<Ipv4Addr>().ok()?.into(),
            read_port(port)?,
        ));
    };
    let (address, port) = bracketed.split_once(']')?;
    // A zone has a meaning on the proxy only.
    let address: Ipv6Addr = address.split('%').next()?.parse().ok()?;
    let port = match port {
        "" => 0,
        port => read_port(port.strip_prefix(':')?)?,
    };
    Some(SocketAddr::new(address.into(), port))
}

/// A port number, or an obfuscated name instead of it.
fn read_port(text: &str) -> Option<u16> {
    let hidden = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match text.strip_prefix('_') {
        Some(name) => hidden(name).then_some(0),
        None => text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())?,
    }
}

/// Reads header lines, `Forwarded` and `X-Forwarded-For` in turns. Headers from an untrusted address must be ignored, and the last entry
/// must take precedence over all others.
#[doc(hidden)]
pub fn fuzz_forwarded(data: &[u8]) {
    let proxies = TrustedProxies::loopback();
    let mut headers = HeaderMap::new();
    for (index, line) in data.split(|&byte| byte == b'\n').enumerate() {
        let name = if index % 2 == 0 { FORWARDED } else { X_FORWARDED_FOR };
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    let (stranger, proxy) = (
        SocketAddr::from(([203, 0, 113, 1], 1)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    );
    assert_eq!(proxies.client(stranger, &headers), stranger);
    let client = proxies.client(proxy, &headers);
    assert_eq!(client.ip(), client.ip().to_canonical());
    // A proxy that appends to one header and forwards everything else.
    headers.append(X_FORWARDED_FOR, HeaderValue::from_static("198.51.100.7"));
    let client = proxies.client(proxy, &headers);
    assert!(
        client.ip() == IpAddr::from([198, 51, 100, 7]) || client == UNKNOWN,
        "{client}"
    );
}

/// Stands for all clients that proxies do not name. No client has this address, and it is not a loopback address, which would have no
/// limits.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        let networks = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48"];
        networks
            .map(|network| network.parse::<ProxyNetwork>().unwrap())
            .into_iter()
            .collect()
    }

    /// The client that a proxy at `peer` names with these headers; `peer` itself if it names none.
    fn named_by(peer: &str, lines: &[(&str, &str)]) -> String {
        let lines = lines.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        let client = proxies().client(SocketAddr::new(peer.parse().unwrap(), 4_000), &headers);
        client.to_string()
    }

    fn named(lines: &[(&str, &str)]) -> String {
        named_by("127.0.0.1", lines)
    }

    #[test]
    fn the_last_untrusted_address_is_the_client() {
        for (value, client) in [
            ("203.0.113.7", "203.0.113.7:0"),
            ("198.51.100.1, 203.0.113.7", "203.0.113.7:0"),
            ("203.0.113.7:5000", "203.0.113.7:5000"),
            ("127.0.0.1, 203.0.113.7", "203.0.113.7:0"),
            ("198.51.100.1,203.0.113.7 , 10.1.2.3, 127.0.0.2", "203.0.113.7:0"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:443", "[2001:db8::7]:443"),
            ("203.0.113.7, 2001:db8:1::5", "203.0.113.7:0"),
            ("::ffff:203.0.113.7", "203.0.113.7:0"),
            ("[fe80::1%eth0]:1", "[fe80::1]:1"),
            // A client on the proxy's own machine.
            ("10.9.9.9", "10.9.9.9:0"),
            ("10.9.9.9, 127.0.0.1", "10.9.9.9:0"),
            (" , 203.0.113.7,, ", "203.0.113.7:0"),
            ("<script>, 203.0.113.7", "203.0.113.7:0"),
        ] {
            assert_eq!(named(&[("X-Forwarded-For", value)]), client, "{value}");
        }
    }

    #[test]
    fn forwarded_is_parsed_by_rfc_7239() {
        for (value, client) in [
            ("for=203.0.113.7", "203.0.113.7:0"),
            ("For=\"203.0.113.7:5000\";proto=https;by=10.0.0.1", "203.0.113.7:5000"),
            ("proto=https; for=203.0.113.7", "203.0.113.7:0"),
            ("for=\"[2001:db8::7]:4711\"", "[2001:db8::7]:4711"),
            ("for=[2001:db8::7]", "[2001:db8::7]:0"),
            ("for=\"203.0.113.7:_port\"", "203.0.113.7:0"),
            (
                "for=198.51.100.1, for=203.0.113.7;host=a.test, for=10.0.0.2",
                "203.0.113.7:0",
            ),
            ("for=198.51.100.1,for=\"203.0.113.\\7\"", "203.0.113.7:0"),
            ("host=\"a;b,for=1.2.3.4\";for=203.0.113.7", "203.0.113.7:0"),
            // The nearest proxy has not said who called it.
            ("for=203.0.113.7, proto=https", "0.0.0.0:0"),
            ("proto=https, for=10.0.0.2", "0.0.0.0:0"),
            ("proto=https, for=203.0.113.7", "203.0.113.7:0"),
            ("proto=https", "127.0.0.1:4000"),
            ("", "127.0.0.1:4000"),
        ] {
            assert_eq!(named(&[("Forwarded", value)]), client, "{value}");
        }
    }

    #[test]
    fn a_hidden_or_malformed_client_is_unknown() {
        for value in [
            "unknown",
            "_hidden",
            "203.0.113",
            "203.0.113.7:",
            "[::1",
            "[203.0.113.7]",
            "203.0.113.7:x",
            "203.0.113.7:65536",
        ] {
            assert_eq!(named(&[("X-Forwarded-For", value)]), "0.0.0.0:0", "{value}");
            let forwarded = format!("for=\"{value}\"");
            assert_eq!(named(&[("Forwarded", &forwarded)]), "0.0.0.0:0", "{value}");
        }
        for value in [
            "for=\"203.0.113.7",
            "for=203.0.113.7;for=198.51.100.1",
            "for",
            "for=\"203.0.113.7\"x",
            "for=20\"3.0.113.7",
            "203.0.113.7",
        ] {
            assert_eq!(named(&[("Forwarded", value)]), "0.0.0.0:0", "{value}");
        }
        assert_eq!(named(&[("X-Forwarded-For", "b\u{fc}ro")]), "0.0.0.0:0");
    }

    #[test]
    fn several_lines_are_one_list() {
        let for_ = |value| ("X-Forwarded-For", value);
        assert_eq!(named(&[for_("198.51.100.1"), for_("203.0.113.7")]), "203.0.113.7:0");
        assert_eq!(
            named(&[for_("203.0.113.7"), for_("10.0.0.1, 127.0.0.1")]),
            "203.0.113.7:0"
        );
        assert_eq!(named(&[for_("203.0.113.7"), for_("")]), "203.0.113.7:0");
        let forwarded = |value| ("Forwarded", value);
        assert_eq!(
            named(&[forwarded("for=\"broken"), forwarded("for=203.0.113.7")]),
            "203.0.113.7:0"
        );
        assert_eq!(
            named(&[forwarded("for=203.0.113.7"), forwarded("proto=https")]),
            "0.0.0.0:0"
        );
    }

    #[test]
    fn contradicting_headers_are_both_ignored() {
        let both = |forwarded, for_| named(&[("Forwarded", forwarded), ("X-Forwarded-For", for_)]);
        assert_eq!(both("for=\"203.0.113.7:5\"", "203.0.113.7"), "203.0.113.7:5");
        assert_eq!(both("proto=https", "203.0.113.7"), "203.0.113.7:0");
        assert_eq!(both("for=198.51.100.1", "203.0.113.7"), "0.0.0.0:0");
        assert_eq!(both("for=unknown", "203.0.113.7"), "0.0.0.0:0");
    }

    #[test]
    fn headers_of_untrusted_addresses_are_ignored() {
        let lines = [("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.7")];
        assert_eq!(named_by("192.0.2.1", &lines), "192.0.2.1:4000");
        assert_eq!(named_by("::ffff:10.0.0.1", &lines), "203.0.113.7:0");
        assert_eq!(named_by("127.0.0.1", &[("X-Real-IP", "203.0.113.7")]), "127.0.0.1:4000");
        let none = TrustedProxies::default();
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.7"))]);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert_eq!(none.client(peer, &headers), peer);
    }

    #[test]
    fn networks_are_addresses_or_cidr() {
        let has = |network: &str, address: &str| {
            let proxies: TrustedProxies = std::iter::once(network.parse::<ProxyNetwork>().unwrap()).collect();
            proxies.has(address.parse().unwrap())
        };
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.8"));
        assert!(has("192.0.2.0/24", "::ffff:192.0.2.8") && !has("192.0.2.0/24", "192.0.3.1"));
        assert!(has("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(has("2001:db8::/32", "2001:db8:9::1") && !has("::1", "::2"));
        for text in [
            "",
            "localhost",
            "192.0.2.7/33",
            "192.0.2",
            "192.0.2.7:80",
            "10.0.0.0/8,",
        ] {
            assert_eq!(text.parse::<ProxyNetwork>(), Err(ProxyNetworkError), "{text}");
        }
    }
}
