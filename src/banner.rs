//! What the server says when it has started, in plain words.

mod qr;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::auth::{AuthMode, Made, Secret};
use crate::tls;

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
    /// Who may do what.
    pub(crate) entry: Entry<'a>,
    /// What there is to tell of HTTPS; `None` without it.
    pub(crate) https: Option<Https<'a>>,
    /// Link for a phone in the same network.
    pub(crate) phone: Option<&'a str>,
    /// Columns of the terminal that shows this; `None` when it is none.
    pub(crate) columns: Option<usize>,
}

/// What there is to tell of HTTPS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Https<'a> {
    /// The certificate, if the server has made it.
    pub(crate) made: Option<&'a tls::Made>,
    /// The name in a certificate from an ACME directory.
    pub(crate) domain: Option<&'a str>,
}

/// Who may do what, for whoever has started the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Who decides.
    pub(crate) mode: AuthMode,
    /// Watching needs a token, too.
    pub(crate) private: bool,
    /// The tokens that the server has made itself: links carry them.
    pub(crate) made: Option<&'a Made>,
}

impl Entry<'_> {
    /// In links, behind `#`: that part of a URL is never sent, so that it is in no log.
    fn in_link(self, secret: impl Fn(&Made) -> &Secret) -> String {
        self.made
            .map(|made| format!("#token={}", secret(made).tell()))
            .unwrap_or_default()
    }

    fn in_watch_link(self) -> String {
        if self.private {
            self.in_link(|made| &made.watch)
        } else {
            String::new()
        }
    }
}

/// Where a phone in the same network finds the page to broadcast with.
pub(crate) fn phone_link(address: SocketAddr, is_https: bool, entry: Entry<'_>) -> String {
    let scheme = if is_https { "https" } else { "http" };
    let token = entry.in_link(|made| &made.publish);
    format!("{scheme}://{address}/broadcast.html{token}")
}

/// The banner: where to go, who can come, and how to change that.
pub(crate) fn banner(facts: &Facts<'_>) -> String {
    let here = here(facts);
    let mut text = format!(
        "onecast {version}

  Broadcast         {here}/broadcast.html{publish}
  Watch             {here}/viewer.html{watch}
  Conference        {here}/conference.html{publish}
  What is live      {here}/
",
        version = env!("CARGO_PKG_VERSION"),
        publish = facts.entry.in_link(|made| &made.publish),
        watch = facts.entry.in_watch_link(),
    );
    if facts.demo {
        text.push_str("  The test card is live as stream \"demo\".\n");
    }
    let _ = write!(
        text,
        "
  Copy and paste    save the page's offer as offer.txt, then: {curl} --data-binary @offer.txt {here}/sdp
  OBS, FFmpeg       WHIP server {here}/whip/live{bearer}
  Players           WHEP address {here}/whep/live{query}
",
        curl = curl(facts, |made| &made.publish),
        bearer = bearer_for(facts.entry),
        query = facts.entry.in_watch_link().replace('#', "?"),
    );
    tell_entry(&mut text, facts, &here);
    text.push('\n');
    tell_media(&mut text, facts);
    tell_reach(&mut text, facts);
    tell_certificate(&mut text, facts);
    tell_phone(&mut text, facts);
    text.push('\n');
    text
}

/// The server's own URL, without path: for this machine, or for everybody if there is a name.
fn here(facts: &Facts<'_>) -> String {
    match facts.https.and_then(|https| https.domain) {
        Some(domain) if facts.http.port() == 443 => format!("https://{domain}"),
        Some(domain) => format!("https://{domain}:{}", facts.http.port()),
        None => url(facts, facts.http, "localhost"),
    }
}

/// The beginning of a command that this server takes: who it is to trust, and what it shows.
fn curl(facts: &Facts<'_>, secret: impl Fn(&Made) -> &Secret) -> String {
    let certificate = facts.https.and_then(|https| https.made);
    let trust = match certificate.map(|made| &made.file) {
        Some(Some(file)) => format!(" --cacert '{}'", file.display()),
        Some(None) => " --insecure".to_owned(),
        None => String::new(),
    };
    let header = |made: &Made| format!(" -H 'Authorization: Bearer {}'", secret(made).tell());
    let header = facts.entry.made.map(header).unwrap_or_default();
    format!("curl{trust}{header}")
}

fn bearer_for(entry: Entry<'_>) -> String {
    let bearer = |made: &Made| format!(", Bearer token {}", made.publish.tell());
    entry.made.map(bearer).unwrap_or_default()
}

fn tell_entry(text: &mut String, facts: &Facts<'_>, here: &str) {
    let entry = facts.entry;
    if entry.made.is_some() {
        let curl = curl(facts, |made| &made.admin);
        let _ = writeln!(text, "  Administration    {curl} {here}/api/sessions\n");
    }
    let words = match (entry.mode, entry.made.is_some()) {
        (AuthMode::Off, _) => return,
        (AuthMode::Tokens, true) => {
            "The token is the right to broadcast: give the broadcast link only to those who shall have it."
        }
        (AuthMode::Tokens, false) => "The tokens of the configuration decide who may broadcast.",
        (AuthMode::Jwt, _) => "Signed tokens (JWT) decide who may broadcast and watch.",
        (AuthMode::Webhook, _) => "The webhook decides who may broadcast and watch.",
    };
    let _ = writeln!(text, "  {words}");
}

/// What everybody may do without a token.
fn open_to_all(entry: Entry<'_>) -> &'static str {
    match (entry.mode, entry.private) {
        (AuthMode::Off, _) => "Everybody who can reach this machine can broadcast and watch",
        (_, false) => "Everybody who can reach this machine can watch",
        (_, true) => "Nobody can broadcast or watch without a token",
    }
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
            "  Only this machine can reach it. To let others in: onecast --http {everywhere}
  To let a phone in, with HTTPS for its camera: onecast --lan"
        );
        return;
    }
    let others = addresses_for_others(facts);
    let _ = match others.as_slice() {
        [] => writeln!(text, "  {}.", open_to_all(facts.entry)),
        _ => writeln!(text, "  {}, from elsewhere at", open_to_all(facts.entry)),
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
    if facts.https.is_none() {
        let _ = writeln!(
            text,
            "  Browsers hand out the camera only to localhost and https: to broadcast from elsewhere, start with --lan
  or put a web server with a certificate in front, or use OBS."
        );
    }
}

fn tell_certificate(text: &mut String, facts: &Facts<'_>) {
    let Some(made) = facts.https.and_then(|https| https.made) else {
        return;
    };
    let _ = writeln!(
        text,
        "
  Browsers warn about the certificate, because only this machine itself vouches for it: press \"Advanced\" and then
  \"Proceed\" (Safari: \"Show Details\", \"visit this website\"). Its SHA-256 fingerprint is
      {}",
        made.fingerprint
    );
    if let Some(file) = &made.file {
        let _ = writeln!(
            text,
            "  Other programs are told to trust it, for instance: onecast watch --ca {}",
            file.display()
        );
    }
}

fn tell_phone(text: &mut String, facts: &Facts<'_>) {
    let Some(link) = facts.phone else { return };
    let _ = writeln!(text, "\n  On a phone in the same network open\n      {link}");
    if let Some(code) = facts.columns.and_then(|columns| qr::in_half_blocks(link, columns)) {
        let _ = write!(text, "\n{code}");
    }
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
        .map(|&ip| url(facts, SocketAddr::new(ip, facts.http.port()), ""))
        .collect()
}

/// A URL without path; `everywhere` is its host if the address is that of all interfaces.
fn url(facts: &Facts<'_>, address: SocketAddr, everywhere: &str) -> String {
    let scheme = if facts.https.is_some() { "https" } else { "http" };
    if address.ip().is_unspecified() {
        format!("{scheme}://{everywhere}:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

/// More would hide the rest of the banner.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Entry<'_> = Entry {
        mode: AuthMode::Off,
        private: false,
        made: None,
    };

    fn told_of(made: &Made, private: bool) -> String {
        banner(&Facts {
            http: "0.0.0.0:8080".parse().unwrap(),
            media: "0.0.0.0:8080".parse().unwrap(),
            announced: &["192.0.2.7".parse().unwrap()],
            demo: false,
            entry: Entry {
                mode: AuthMode::Tokens,
                private,
                made: Some(made),
            },
            https: None,
            phone: None,
            columns: None,
        })
    }

    #[test]
    fn links_carry_the_token_that_they_need_and_no_other() {
        let made = Made {
            publish: Secret::new("p-u-b"),
            watch: Secret::new("w-a-t"),
            admin: Secret::new("a-d-m"),
        };
        for private in [false, true] {
            let text = told_of(&made, private);
            let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
            assert!(line("Broadcast").ends_with("/broadcast.html#token=p-u-b"));
            assert!(line("OBS").ends_with("/whip/live, Bearer token p-u-b"));
            assert!(line("Administration").contains("Bearer a-d-m"));
            for start in ["Watch", "Players"] {
                assert!(!line(start).contains("p-u-b") && line(start).contains("token=w-a-t") == private);
            }
            assert!(!text.contains("can broadcast and watch"));
        }
    }

    fn told(http: &str, media: &str, announced: &[&str], demo: bool) -> String {
        let announced: Vec<IpAddr> = announced.iter().map(|ip| ip.parse().unwrap()).collect();
        banner(&Facts {
            http: http.parse().unwrap(),
            media: media.parse().unwrap(),
            announced: &announced,
            demo,
            entry: OPEN,
            https: None,
            phone: None,
            columns: None,
        })
    }

    fn told_with_https(http: &str, https: Https<'_>, phone: Option<&str>, columns: Option<usize>) -> String {
        banner(&Facts {
            http: http.parse().unwrap(),
            media: "[::]:8080".parse().unwrap(),
            announced: &["192.0.2.7".parse().unwrap()],
            demo: false,
            entry: OPEN,
            https: Some(https),
            phone,
            columns,
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

    #[test]
    fn https_is_told_with_what_to_press_and_whom_to_trust() {
        let made = tls::Made {
            fingerprint: "AB:CD".to_owned(),
            file: Some("/state/tls/self-signed.pem".into()),
        };
        let https = Https {
            made: Some(&made),
            domain: None,
        };
        let text = told_with_https("0.0.0.0:8080", https, None, None);
        assert!(text.contains("curl --cacert '/state/tls/self-signed.pem' --data-binary"));
        for expected in [
            "https://localhost:8080/broadcast.html",
            "https://192.0.2.7:8080/",
            "\"Proceed\"",
            "AB:CD",
            "--ca /state/tls/self-signed.pem",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains("http://") && !text.contains("--lan"));
    }

    #[test]
    fn a_domain_is_the_servers_name() {
        let https = Https {
            made: None,
            domain: Some("live.test"),
        };
        let of = |http: &str| told_with_https(http, https, None, None);
        assert!(of("[::]:443").contains(" https://live.test/viewer.html"));
        let text = of("[::]:8443");
        assert!(text.contains(" https://live.test:8443/viewer.html") && !text.contains("fingerprint"));
    }

    #[test]
    fn a_phone_gets_a_link_and_in_a_terminal_a_code() {
        let tokens = Made {
            publish: Secret::new("x"),
            watch: Secret::new("y"),
            admin: Secret::new("z"),
        };
        let entry = Entry {
            mode: AuthMode::Tokens,
            private: false,
            made: Some(&tokens),
        };
        let link = phone_link("192.0.2.7:8080".parse().unwrap(), true, entry);
        assert_eq!(link, "https://192.0.2.7:8080/broadcast.html#token=x");
        let https = Https {
            made: None,
            domain: None,
        };
        let of = |columns| told_with_https("[::]:8080", https, Some(&link), columns);
        assert!(of(None).ends_with(&format!("open\n      {link}\n\n")));
        assert!(of(Some(100)).contains('\u{2588}') && !of(Some(20)).contains('\u{2588}'));
    }
}
