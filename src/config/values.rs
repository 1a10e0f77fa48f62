//! Value parsers. Each error says what was expected.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use onecast_clients::values::duration;

pub(super) fn pli_interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    // The server never asks more often than every 500 ms; ten minutes is as good as off.
    let sensible = Duration::from_millis(500)..=Duration::from_secs(600);
    if interval.is_zero() || sensible.contains(&interval) {
        Ok(interval)
    } else {
        Err("must be 500ms to 10m, or 0 for off".to_owned())
    }
}

/// Parses a number of bytes: `8M`, `512K` or a bare number; up to 1 GiB.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let expected = || "expected a number of bytes up to 1G, such as 8M, 512K or 0".to_owned();
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit: usize = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        _ => return Err(expected()),
    };
    let number: usize = digits.parse().map_err(|_| expected())?;
    number
        .checked_mul(unit)
        .filter(|&bytes| bytes <= 1 << 30)
        .ok_or_else(expected)
}

/// Parses an address with a port; `localhost` means 127.0.0.1.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080";
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| expected.to_owned())
}

pub(super) fn public_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text
        .trim()
        .parse()
        .map_err(|_| "expected an IP address such as 203.0.113.7".to_owned())?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("clients cannot send media to this address".to_owned());
    }
    Ok(ip)
}

pub(super) fn count(max: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(max))
}

pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        Ok(path)
    } else {
        Err("there is no such directory".to_owned())
    }
}

/// Parses a public DNS name; returns it in lower case.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    if name.starts_with("*.") {
        return Err("TLS cannot prove a wildcard; name each domain".to_owned());
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("expected a name, not an address".to_owned());
    }
    let is_label = |label: &str| {
        let inner = |character: char| character.is_ascii_alphanumeric() || character == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    // 253 characters: RFC 1035 section 2.3.4. A single label is not a public name.
    if name.len() <= 253 && name.contains('.') && name.split('.').all(is_label) {
        Ok(name)
    } else {
        Err("expected a domain such as live.example.org".to_owned())
    }
}

pub(super) fn email(text: &str) -> Result<String, String> {
    let address = text.trim().trim_start_matches("mailto:");
    match address.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace) => {
            Ok(address.to_owned())
        }
        _ => Err("expected a mail address such as me@example.org".to_owned()),
    }
}

/// Parses an HTTPS URL.
pub(super) fn web_address(text: &str) -> Result<String, String> {
    let rest = text.trim().strip_prefix("https://").unwrap_or_default();
    if rest.is_empty() {
        return Err("expected a URL that begins with https://".to_owned());
    }
    Ok(text.trim().to_owned())
}
