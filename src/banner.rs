//! What the server prints when it has started: its addresses, its access rules, and how to change them.

mod qr;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::auth::{AuthMode, GeneratedTokens, Secret};
use crate::tls;

/// What the banner is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Where HTTP listens, with the actual port.
    pub(crate) http: SocketAddr,
    /// Where media is received, with the actual port.
    pub(crate) media: SocketAddr,
    /// Media addresses that the server announces to a client on this machine, best first.
    pub(crate) announced: &'a [IpAddr],
    /// The test card is live.
    pub(crate) demo: bool,
    pub(crate) access: Access<'a>,
    /// `None` when HTTP is unencrypted.
    pub(crate) https: Option<Https<'a>>,
    /// Link for a phone in the same network.
    pub(crate) phone: Option<&'a str>,
    /// Prefix of every path, such as `/rtc`.
    pub(crate) base_path: &'a str,
    /// Width of the terminal; `None` when the output is not a terminal.
    pub(crate) columns: Option<usize>,
}

/// How HTTPS is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Https<'a> {
    /// The certificate, if it is self-signed.
    pub(crate) made: Option<&'a tls::GeneratedCertificate>,
    /// The name in a certificate from an ACME directory.
    pub(crate) domain: Option<&'a str>,
}

/// Access control, as the banner describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) mode: AuthMode,
    /// Watching needs a token, too.
    pub(crate) private: bool,
    pub(crate) tokens: OwnTokens<'a>,
}

/// Tokens that the server has generated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OwnTokens<'a> {
    /// There are none.
    None,
    /// Links carry them.
    Shown(&'a GeneratedTokens),
    /// They are in this file, if there is one, and not printed.
    Hidden(Option<&'a Path>),
}

impl<'a> OwnTokens<'a> {
    /// Tokens are printed only to a terminal. Other output is kept, in a journal or the log of a container, where others can read it.
    pub(crate) fn for_output(
        made: Option<&'a GeneratedTokens>,
        file: Option<&'a Path>,
        is_terminal: bool,
    ) -> OwnTokens<'a> {
        match made {
            None => OwnTokens::None,
            Some(made) if is_terminal => OwnTokens::Shown(made),
            Some(_) => OwnTokens::Hidden(file),
        }
    }

    /// The secret to print, or a placeholder; `None` when no token of the server's own is needed.
    fn printed(self, secret: fn(&GeneratedTokens) -> &Secret) -> Option<&'a str> {
        match self {
            OwnTokens::None => None,
            OwnTokens::Shown(made) => Some(secret(made).expose()),
            OwnTokens::Hidden(_) => Some("TOKEN"),
        }
    }
}

impl Access<'_> {
    /// The fragment of a link. Browsers never send that part of a URL, so no log contains it.
    fn fragment(self, secret: fn(&GeneratedTokens) -> &Secret) -> String {
        match self.tokens {
            OwnTokens::Shown(made) => format!("#token={}", secret(made).expose()),
            OwnTokens::None | OwnTokens::Hidden(_) => String::new(),
        }
    }

    fn watch_fragment(self) -> String {
        match self.private {
            true => self.fragment(|made| &made.watch),
            false => String::new(),
        }
    }
}

/// Where a phone in the same network finds the broadcast page.
pub(crate) fn phone_link(address: SocketAddr, is_https: bool, access: Access<'_>) -> String {
    let scheme = if is_https { "https" } else { "http" };
    let token = access.fragment(|made| &made.publish);
    format!("{scheme}://{address}/broadcast.html{token}")
}

/// The text of the banner.
pub(crate) fn banner(facts: &Facts<'_>) -> String {
    let sections = [
        Some(pages(facts)),
        Some(endpoints(facts)),
        access(facts.access),
        Some(network(facts)),
        certificate(facts),
        phone(facts),
    ];
    let sections: Vec<String> = sections.into_iter().flatten().collect();
    format!("onecast {}\n\n{}\n", env!("CARGO_PKG_VERSION"), sections.join("\n"))
}

fn pages(facts: &Facts<'_>) -> String {
    let (here, publish) = (own_url(facts), facts.access.fragment(|made| &made.publish));
    let mut text = row("Broadcast", &format!("{here}/broadcast.html{publish}"))
        + &row("Watch", &format!("{here}/viewer.html{}", facts.access.watch_fragment()))
        + &row("Conference", &format!("{here}/conference.html{publish}"))
        + &row("What is live", &format!("{here}/"));
    if facts.demo {
        text += "  The test card is live as stream \"demo\".\n";
    }
    text
}

fn endpoints(facts: &Facts<'_>) -> String {
    let (here, tokens) = (own_url(facts), facts.access.tokens);
    let post = curl(facts, tokens.printed(|made| &made.publish));
    let bearer = tokens.printed(|made| &made.publish);
    let bearer = bearer
        .map(|token| format!(", Bearer token {token}"))
        .unwrap_or_default();
    let query = facts.access.watch_fragment().replace('#', "?");
    let paste = format!("save the page's offer as offer.txt, then: {post} --data-binary @offer.txt {here}/sdp");
    let mut text = row("Copy and paste", &paste)
        + &row("OBS, FFmpeg", &format!("WHIP server {here}/whip/live{bearer}"))
        + &row("Players", &format!("WHEP address {here}/whep/live{query}"));
    if let Some(admin) = tokens.printed(|made| &made.admin) {
        let list = curl(facts, Some(admin));
        text += &row("Administration", &format!("{list} {here}/api/sessions"));
    }
    text
}

/// How to broadcast and watch; `None` without access control.
fn access(access: Access<'_>) -> Option<String> {
    let text = match (access.mode, access.tokens) {
        (AuthMode::Off, _) => return None,
        (AuthMode::Tokens, OwnTokens::Shown(_)) => {
            "The broadcast link contains the token that permits broadcasting: share it only with broadcasters.".to_owned()
        }
        (AuthMode::Tokens, OwnTokens::Hidden(Some(file))) => format!(
            "The tokens for broadcasting, watching and administration are not shown, because this output is not a terminal. They are in
      {}
  Append #token=TOKEN to the links of the pages.",
            file.display()
        ),
        (AuthMode::Tokens, OwnTokens::Hidden(None)) => {
            "The tokens are not shown, because this output is not a terminal, and no file keeps them: set a directory with --state-dir,
  or your own tokens with --tokens-file."
                .to_owned()
        }
        (AuthMode::Tokens, OwnTokens::None) => "The configured tokens decide who may broadcast.".to_owned(),
        (AuthMode::Jwt, _) => "Signed tokens (JWT) decide who may broadcast and watch.".to_owned(),
        (AuthMode::Webhook, _) => "The webhook decides who may broadcast and watch.".to_owned(),
    };
    Some(format!("  {text}\n"))
}

/// Ports and addresses, and which machines can reach them.
fn network(facts: &Facts<'_>) -> String {
    let (http, media) = (facts.http, facts.media);
    let announced: Vec<String> = facts.announced.iter().map(IpAddr::to_string).collect();
    let announced = match announced.as_slice() {
        [] => "no address".to_owned(),
        addresses => addresses.join(", "),
    };
    let mut text = format!("  Media uses UDP port {} at {announced}.\n", media.port());
    if http.ip().to_canonical().is_loopback() {
        text += &format!(
            "  Only this machine can connect. To let other machines in: onecast --http 0.0.0.0:{}
  To let a phone in, with HTTPS for its camera: onecast --lan\n",
            http.port()
        );
        return text;
    }
    text += match (facts.access.mode, facts.access.private) {
        (AuthMode::Off, _) => "  Anyone who can reach this machine can broadcast and watch",
        (_, false) => "  Anyone who can reach this machine can watch",
        (_, true) => "  Broadcasting and watching need a token",
    };
    let others = urls_for_others(facts);
    text += if others.is_empty() {
        ".\n"
    } else {
        ", from elsewhere at\n"
    };
    for url in others {
        text += &format!("      {url}{}/\n", facts.base_path);
    }
    if media.ip().to_canonical().is_loopback() {
        text += &format!(
            "  Media is bound to {}, where other machines cannot send: omit --udp, or give it another address.\n",
            media.ip()
        );
    }
    let (tcp, udp) = (http.port(), media.port());
    text += &format!("  Firewalls must allow TCP port {tcp} and UDP port {udp}.\n");
    if facts.https.is_none() {
        text += "  Browsers give access to the camera only on localhost and over HTTPS: to broadcast from another machine, start with
  --lan, put a web server with a certificate in front, or use OBS.\n";
    }
    text
}

fn certificate(facts: &Facts<'_>) -> Option<String> {
    let made = facts.https?.made?;
    let mut text = format!(
        "  Browsers warn about the certificate, because it is self-signed: press \"Advanced\" and then \"Proceed\"
  (Safari: \"Show Details\", \"visit this website\"). Its SHA-256 fingerprint is
      {}\n",
        made.fingerprint
    );
    if let Some(file) = &made.file {
        text += &format!(
            "  To make other programs trust it: onecast watch --ca {}\n",
            file.display()
        );
    }
    Some(text)
}

fn phone(facts: &Facts<'_>) -> Option<String> {
    let link = facts.phone?;
    let code = facts.columns.and_then(|columns| qr::in_half_blocks(link, columns));
    let code = code.map(|code| format!("\n{code}")).unwrap_or_default();
    Some(format!("  On a phone in the same network, open\n      {link}\n{code}"))
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<18}{value}\n")
}

/// The server's URL without a trailing slash: by its domain, else as this machine reaches it.
fn own_url(facts: &Facts<'_>) -> String {
    let server = match facts.https.and_then(|https| https.domain) {
        Some(domain) if facts.http.port() == 443 => format!("https://{domain}"),
        Some(domain) => format!("https://{domain}:{}", facts.http.port()),
        None => url(facts, facts.http, "localhost"),
    };
    server + facts.base_path
}

/// The start of a curl command that trusts the certificate and presents a token.
fn curl(facts: &Facts<'_>, token: Option<&str>) -> String {
    let trust = match facts.https.and_then(|https| https.made) {
        Some(tls::GeneratedCertificate { file: Some(file), .. }) => format!(" --cacert '{}'", file.display()),
        Some(_) => " --insecure".to_owned(),
        None => String::new(),
    };
    let token = token.map(|token| format!(" -H 'Authorization: Bearer {token}'"));
    format!("curl{trust}{}", token.unwrap_or_default())
}

/// URLs for other machines, when HTTP listens on all addresses.
fn urls_for_others(facts: &Facts<'_>) -> Vec<String> {
    if !facts.http.ip().is_unspecified() {
        return Vec::new();
    }
    let usable = |ip: &&IpAddr| !ip.is_loopback() && (ip.is_ipv4() || facts.http.is_ipv6());
    let usable = facts.announced.iter().filter(usable).take(ADDRESSES_MAX);
    usable
        .map(|&ip| url(facts, SocketAddr::new(ip, facts.http.port()), ""))
        .collect()
}

/// A URL without path. `host` replaces the unspecified address.
fn url(facts: &Facts<'_>, address: SocketAddr, host: &str) -> String {
    let scheme = if facts.https.is_some() { "https" } else { "http" };
    match address.ip().is_unspecified() {
        true => format!("{scheme}://{host}:{}", address.port()),
        false => format!("{scheme}://{address}"),
    }
}

/// More would push the rest of the banner off the screen.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests;
