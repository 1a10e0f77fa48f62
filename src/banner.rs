//! What the server says when it has started, in plain words.

mod qr;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::auth::{AuthMode, GeneratedTokens, Secret};
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
    /// What stands before the path of every page, such as `/rtc`.
    pub(crate) base_path: &'a str,
    /// Columns of the terminal that shows this; `None` when it is none.
    pub(crate) columns: Option<usize>,
}

/// What there is to tell of HTTPS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Https<'a> {
    /// The certificate, if the server has made it.
    pub(crate) made: Option<&'a tls::GeneratedCertificate>,
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
    /// The tokens that the server has made itself.
    pub(crate) tokens: OwnTokens<'a>,
}

/// Tokens that the server has made itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OwnTokens<'a> {
    /// It has made none.
    None,
    /// Links carry them.
    Shown(&'a GeneratedTokens),
    /// They are in this file, if there is one, and not told here.
    Hidden(Option<&'a Path>),
}

impl<'a> OwnTokens<'a> {
    /// What is told of the tokens in this file. What is written to something else than a terminal is kept: by a journal, or as the log of a
    /// container, which others read, too.
    pub(crate) fn for_whoever_reads(
        made: Option<&'a GeneratedTokens>,
        file: Option<&'a Path>,
        at_terminal: bool,
    ) -> OwnTokens<'a> {
        match made {
            None => OwnTokens::None,
            Some(made) if at_terminal => OwnTokens::Shown(made),
            Some(_) => OwnTokens::Hidden(file),
        }
    }

    fn shown(self) -> Option<&'a GeneratedTokens> {
        match self {
            OwnTokens::Shown(made) => Some(made),
            OwnTokens::None | OwnTokens::Hidden(_) => None,
        }
    }
}

impl Entry<'_> {
    /// In links, behind `#`: that part of a URL is never sent, so that it is in no log.
    fn in_link(self, secret: impl Fn(&GeneratedTokens) -> &Secret) -> String {
        self.tokens
            .shown()
            .map(|made| format!("#token={}", secret(made).expose()))
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

/// The server's own URL, without a slash at its end: for this machine, or for everybody if there is a name.
fn here(facts: &Facts<'_>) -> String {
    let server = match facts.https.and_then(|https| https.domain) {
        Some(domain) if facts.http.port() == 443 => format!("https://{domain}"),
        Some(domain) => format!("https://{domain}:{}", facts.http.port()),
        None => url(facts, facts.http, "localhost"),
    };
    server + facts.base_path
}

/// The beginning of a command that this server takes: who it is to trust, and what it shows.
fn curl(facts: &Facts<'_>, secret: impl Fn(&GeneratedTokens) -> &Secret) -> String {
    let certificate = facts.https.and_then(|https| https.made);
    let trust = match certificate.map(|made| &made.file) {
        Some(Some(file)) => format!(" --cacert '{}'", file.display()),
        Some(None) => " --insecure".to_owned(),
        None => String::new(),
    };
    let token = match facts.entry.tokens {
        OwnTokens::None => return format!("curl{trust}"),
        OwnTokens::Shown(made) => secret(made).expose(),
        OwnTokens::Hidden(_) => "TOKEN",
    };
    format!("curl{trust} -H 'Authorization: Bearer {token}'")
}

fn bearer_for(entry: Entry<'_>) -> String {
    match entry.tokens {
        OwnTokens::None => String::new(),
        OwnTokens::Shown(made) => format!(", Bearer token {}", made.publish.expose()),
        OwnTokens::Hidden(_) => ", Bearer token TOKEN".to_owned(),
    }
}

fn tell_entry(text: &mut String, facts: &Facts<'_>, here: &str) {
    let entry = facts.entry;
    if !matches!(entry.tokens, OwnTokens::None) {
        let curl = curl(facts, |made| &made.admin);
        let _ = writeln!(text, "  Administration    {curl} {here}/api/sessions\n");
    }
    let words = match (entry.mode, entry.tokens) {
        (AuthMode::Off, _) => return,
        (AuthMode::Tokens, OwnTokens::Shown(_)) => {
            "The token is the right to broadcast: give the broadcast link only to those who shall have it."
        }
        (AuthMode::Tokens, OwnTokens::Hidden(file)) => return tell_of_hidden(text, file),
        (AuthMode::Tokens, OwnTokens::None) => "The tokens of the configuration decide who may broadcast.",
        (AuthMode::Jwt, _) => "Signed tokens (JWT) decide who may broadcast and watch.",
        (AuthMode::Webhook, _) => "The webhook decides who may broadcast and watch.",
    };
    let _ = writeln!(text, "  {words}");
}

/// Where the tokens are that this output shall not keep.
fn tell_of_hidden(text: &mut String, file: Option<&Path>) {
    let _ = match file {
        Some(file) => writeln!(
            text,
            "  The tokens are not shown, because this output is no terminal. Those for broadcasting, watching and administration are in
      {}
  Links for pages end in #token=TOKEN then.",
            file.display()
        ),
        None => writeln!(
            text,
            "  The tokens are not shown, because this output is no terminal, and no file keeps them: give a directory with --state-dir,
  or tokens of your own with --tokens-file."
        ),
    };
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
        let _ = writeln!(text, "      {address}{}/", facts.base_path);
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
mod tests;
