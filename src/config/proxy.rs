//! Options for reverse proxies.

use std::str::FromStr;

use clap::Args;

use crate::http::{BasePath, ProxyNetwork, ProxyNetworkError, ReverseProxy, TrustedProxies};

/// Options for reverse proxies.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Behind a proxy")]
pub struct ProxyArgs {
    /// Trust the proxy at this address, or the proxies in this network, to name their clients (Forwarded or X-Forwarded-For) and their path
    /// prefix (X-Forwarded-Prefix); repeatable, such as 192.0.2.7 or 10.0.0.0/8, or none [default: proxies on this machine, once access
    /// control is decided]
    #[arg(long, value_name = "ADDRESS", env = "ONECAST_TRUSTED_PROXY", value_delimiter = ',', value_parser = trusted)]
    pub trusted_proxy: Vec<Trusted>,

    /// Path below which a proxy serves the server, such as /rtc, unless the proxy announces it. The proxy may strip it or not
    #[arg(long, value_name = "PATH", env = "ONECAST_BASE_PATH", default_value = "/", hide_default_value = true, value_parser = base_path)]
    pub base_path: BasePath,
}

/// Which proxies to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// None.
    NoProxy,
    /// Those in this network.
    Network(ProxyNetwork),
}

impl ProxyArgs {
    /// The trusted proxies and the base path. `decided`: access control is configured. Only then are proxies on this machine trusted
    /// by default; before, no claim in a request counts.
    pub fn reverse_proxy(&self, decided: bool) -> ReverseProxy {
        let networks = self.trusted_proxy.iter().filter_map(|trusted| match trusted {
            Trusted::NoProxy => None,
            Trusted::Network(network) => Some(*network),
        });
        let proxies = if self.trusted_proxy.is_empty() && decided {
            TrustedProxies::loopback()
        } else {
            networks.collect()
        };
        ReverseProxy {
            proxies,
            base_path: self.base_path.clone(),
        }
    }
}

fn trusted(text: &str) -> Result<Trusted, ProxyNetworkError> {
    match text.trim() {
        "none" => Ok(Trusted::NoProxy),
        network => network.parse().map(Trusted::Network),
    }
}

/// Rejects paths that a route starts with, because the server could not tell whether the proxy has stripped them.
fn base_path(text: &str) -> Result<BasePath, String> {
    let path = BasePath::from_str(text).map_err(|error| error.to_string())?;
    match path.as_str().split('/').nth(1) {
        Some(first) if ROUTES.contains(&first) => {
            Err(format!("/{first} is one of the server's own paths; choose another one"))
        }
        _ => Ok(path),
    }
}

/// First segments of the server's own paths.
const ROUTES: [&str; 12] = [
    "whip",
    "whep",
    "sdp",
    "offer",
    "answer",
    "renegotiate",
    "peer",
    "ws",
    "api",
    "healthz",
    "readyz",
    "js",
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn args(words: &str) -> Result<ProxyArgs, String> {
        let line = Line::try_parse_from(std::iter::once("x").chain(words.split_whitespace()));
        line.map(|line| line.proxy).map_err(|error| error.to_string())
    }

    #[test]
    fn local_proxies_are_trusted_once_access_control_is_configured() {
        let proxies = |words: &str, decided| args(words).unwrap().reverse_proxy(decided).proxies;
        assert_eq!(proxies("", true), TrustedProxies::loopback());
        assert_eq!(proxies("", false), TrustedProxies::default());
        assert_eq!(proxies("--trusted-proxy none", true), TrustedProxies::default());
        let named: TrustedProxies = ["10.0.0.0/8", "::1"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .collect();
        for words in [
            "--trusted-proxy 10.0.0.0/8,::1",
            "--trusted-proxy 10.0.0.0/8 --trusted-proxy ::1",
        ] {
            assert_eq!(proxies(words, true), named);
            assert_eq!(proxies(words, false), named);
        }
        assert!(args("--trusted-proxy proxy.test").unwrap_err().contains("10.0.0.0/8"));
    }

    #[test]
    fn the_base_path_differs_from_the_servers_own_paths() {
        let base_path = |words: &str| args(words).map(|args| args.reverse_proxy(true).base_path.to_string());
        assert_eq!(base_path("").as_deref(), Ok(""));
        assert_eq!(base_path("--base-path /rtc/").as_deref(), Ok("/rtc"));
        assert!(base_path("--base-path rtc").unwrap_err().contains("such as /rtc"));
        assert!(base_path("--base-path /whip").unwrap_err().contains("server's own"));
        assert!(base_path("--base-path /api/x").unwrap_err().contains("server's own"));
    }
}
