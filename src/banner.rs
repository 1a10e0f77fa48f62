//! What the server says when it has started, in plain words.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// What there is to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Where HTTP listens, with the real port.
    pub(crate) http: SocketAddr,
    /// Where media is received, with the real port.
    pub(crate) media: SocketAddr,
    /// Where a client on this machine is told to send media to, best first.
    pub(crate) announced: &'a [IpAddr],
    /// Whether the test card runs.
    pub(crate) demo: bool,
}

/// The banner: where to go, who can come, and how to change that.
pub(crate) fn banner(facts: &Facts<'_>) -> String {
    let here = url(facts.http, "localhost");
    let mut text = format!(
        "onecast {version}

  Broadcast         {here}/broadcast.html
  Watch             {here}/viewer.html
  What is live      {here}/
",
        version = env!("CARGO_PKG_VERSION"),
    );
    if facts.demo {
        text.push_str("  The test card is live as stream \"demo\".\n");
    }
    let _ = write!(
        text,
        "
  Copy and paste    save the page's offer as offer.txt, then: curl --data-binary @offer.txt {here}/sdp
  OBS, FFmpeg       WHIP server {here}/whip/live
  Players           WHEP address {here}/whep/live

"
    );
    tell_media(&mut text, facts);
    tell_reach(&mut text, facts);
    text.push('\n');
    text
}

fn tell_media(text: &mut String, facts: &Facts<'_>) {
    let announced: Vec<String> = facts.announced.iter().map(IpAddr::to_string).collect();
    let announced = if announced.is_empty() {
        "no address at all".to_owned()
    } else {
        announced.join(", ")
    };
    let _ = writeln!(
        text,
        "  Media goes over UDP port {}; clients are told to use {announced}.",
        facts.media.port()
    );
}

fn tell_reach(text: &mut String, facts: &Facts<'_>) {
    let (http, media) = (facts.http, facts.media);
    let ports = format!("TCP port {} and UDP port {}", http.port(), media.port());
    if http.ip().to_canonical().is_loopback() {
        let everywhere = SocketAddr::new([0, 0, 0, 0].into(), http.port());
        let _ = writeln!(
            text,
            "  Only this machine can reach it. To let others in: onecast --http {everywhere}"
        );
        return;
    }
    let others = addresses_for_others(facts);
    let _ = match others.as_slice() {
        [] => writeln!(text, "  Everybody who can reach this machine can broadcast and watch."),
        _ => writeln!(
            text,
            "  Everybody who can reach this machine can broadcast and watch, from elsewhere at"
        ),
    };
    for address in others {
        let _ = writeln!(text, "      {address}/");
    }
    if media.ip().to_canonical().is_loopback() {
        let _ = writeln!(
            text,
            "  But media is on {} and stays on this machine: leave out --udp, or give it another address.",
            media.ip()
        );
    }
    let _ = writeln!(text, "  A firewall in between must let {ports} through.");
    let _ = writeln!(
        text,
        "  Browsers hand out the camera only to localhost and https: to broadcast from elsewhere, put a web server with
  a certificate in front, or use OBS."
    );
}

/// URLs for other machines, where HTTP listens on more than one address.
fn addresses_for_others(facts: &Facts<'_>) -> Vec<String> {
    if !facts.http.ip().is_unspecified() {
        return Vec::new();
    }
    let usable = facts
        .announced
        .iter()
        .filter(|ip| !ip.is_loopback() && (ip.is_ipv4() || facts.http.is_ipv6()));
    usable
        .take(ADDRESSES_MAX)
        .map(|&ip| url(SocketAddr::new(ip, facts.http.port()), ""))
        .collect()
}

/// A URL without path; `everywhere` is its host if the address is that of all interfaces.
fn url(address: SocketAddr, everywhere: &str) -> String {
    if address.ip().is_unspecified() {
        format!("http://{everywhere}:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

/// More would hide the rest of the banner.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(http: &str, media: &str, announced: &[&str], demo: bool) -> String {
        let announced: Vec<IpAddr> = announced.iter().map(|ip| ip.parse().unwrap()).collect();
        banner(&Facts {
            http: http.parse().unwrap(),
            media: media.parse().unwrap(),
            announced: &announced,
            demo,
        })
    }

    #[test]
    fn a_server_on_loopback_says_that_it_is_alone_and_how_to_let_others_in() {
        let text = told("127.0.0.1:8080", "[::]:9000", &["127.0.0.1", "192.0.2.7"], false);
        for expected in [
            "http://127.0.0.1:8080/broadcast.html",
            "http://127.0.0.1:8080/viewer.html",
            "curl --data-binary @offer.txt http://127.0.0.1:8080/sdp",
            "UDP port 9000; clients are told to use 127.0.0.1, 192.0.2.7.",
            "Only this machine can reach it. To let others in: onecast --http 0.0.0.0:8080",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains("firewall") && !text.contains("demo"));
    }

    #[test]
    fn an_open_server_lists_its_addresses_and_ports() {
        let text = told(
            "0.0.0.0:8080",
            "0.0.0.0:8080",
            &["127.0.0.1", "192.0.2.7", "2001:db8::1"],
            true,
        );
        for expected in [
            "http://localhost:8080/broadcast.html",
            "can broadcast and watch, from elsewhere at\n      http://192.0.2.7:8080/\n",
            "TCP port 8080 and UDP port 8080",
            "https",
            "stream \"demo\"",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains("http://127.0.0.1") && !text.contains("http://[2001:db8::1]"));
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let text = told("[::]:80", "[::]:80", &["::1", "2001:db8::1"], false);
        assert!(text.contains("http://localhost:80/viewer.html") && text.contains("http://[2001:db8::1]:80/"));
        assert!(told("[::1]:80", "[::]:80", &["::1"], false).contains("http://[::1]:80/sdp"));
    }

    #[test]
    fn media_that_cannot_be_reached_is_pointed_out() {
        let text = told("0.0.0.0:8080", "127.0.0.1:8080", &["127.0.0.1"], false);
        assert!(text.contains("media is on 127.0.0.1 and stays on this machine"));
    }
}
