//! STUN and TURN servers that the server announces to clients.
//!
//! The server itself needs none: it is ICE-lite and waits for connectivity checks. A client behind a firewall that blocks UDP to the server
//! needs a TURN server, which relays everything. To onecast, the relay is a client like any other.

mod credentials;
mod url;

use std::time::Duration;

pub use credentials::{CredentialText, CredentialTextError, SharedSecret, TurnCredentials};
#[doc(hidden)]
pub use url::fuzz_url;
pub use url::{IceUrl, IceUrlError};

/// The configured servers, and the credentials for TURN.
#[derive(Debug, Clone, Default)]
pub struct IceServers {
    urls: Vec<IceUrl>,
    credentials: Option<TurnCredentials>,
}

/// Servers with the same credentials for one client, as `RTCIceServer` of the WebRTC API.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// At least one.
    pub urls: Vec<IceUrl>,
    /// For TURN servers; `None` for STUN servers.
    pub login: Option<Login>,
}

/// User name and password for a TURN server. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password. A secret: never in logs.
    pub credential: String,
}

/// Why servers and credentials do not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceServersError {
    /// Browsers reject TURN servers without credentials.
    #[error(
        "a turn: server needs credentials: --turn-secret-file (for coturn's use-auth-secret), or --turn-username with --turn-password-file"
    )]
    NoCredentials,
    /// The credentials have no use.
    #[error("there are TURN credentials, but no --ice-server is a turn: or turns: URL")]
    NoTurnServer,
    /// More than browsers can use well.
    #[error("there are more than {ICE_SERVERS_MAX} --ice-server options; browsers slow down with more than a few")]
    TooMany,
}

impl IceServers {
    /// Creates the list. The credentials are for the TURN servers among `urls`.
    ///
    /// # Errors
    /// When TURN servers are without credentials, credentials without a TURN server, or there are more than [`ICE_SERVERS_MAX`].
    pub fn new(urls: Vec<IceUrl>, credentials: Option<TurnCredentials>) -> Result<IceServers, IceServersError> {
        if urls.len() > ICE_SERVERS_MAX {
            return Err(IceServersError::TooMany);
        }
        match (urls.iter().any(IceUrl::is_turn), &credentials) {
            (true, None) => Err(IceServersError::NoCredentials),
            (false, Some(_)) => Err(IceServersError::NoTurnServer),
            _ => Ok(IceServers { urls, credentials }),
        }
    }

    /// Whether there are no servers.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// The servers for one client at `now`, as time since 1970: STUN servers first, then TURN servers with a login for this client.
    pub fn for_client(&self, now: Duration) -> Vec<IceServer> {
        let (turn, stun): (Vec<IceUrl>, Vec<IceUrl>) = self.urls.iter().cloned().partition(IceUrl::is_turn);
        let login = self.credentials.as_ref().map(|credentials| credentials.login(now));
        let groups = [(stun, None), (turn, login)];
        groups
            .into_iter()
            .filter(|(urls, _)| !urls.is_empty())
            .map(|(urls, login)| IceServer { urls, login })
            .collect()
    }
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("login", &self.login)
            .finish()
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Most servers. Clients try each server from each of their addresses; Firefox warns about five or more.
pub const ICE_SERVERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<IceUrl> {
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    fn secret() -> TurnCredentials {
        TurnCredentials::TimeLimited {
            secret: SharedSecret::new("north").unwrap(),
            ttl: Duration::from_secs(600),
        }
    }

    #[test]
    fn turn_servers_get_a_login_per_client() {
        let list = urls(&["turn:a.example:3478?transport=udp", "stun:b.example", "turns:a.example"]);
        let servers = IceServers::new(list, Some(secret())).unwrap();
        let now = Duration::from_millis(1_700_000_000_900);
        let list = servers.for_client(now);
        assert_eq!(list[0].urls, urls(&["stun:b.example"]));
        assert_eq!(list[0].login, None);
        assert_eq!(
            list[1].urls,
            urls(&["turn:a.example:3478?transport=udp", "turns:a.example"])
        );
        let login = list[1].login.as_ref().unwrap();
        assert!(login.username.starts_with("1700000600:"), "{login:?}");
        assert_ne!(servers.for_client(now)[1].login, list[1].login);
    }

    #[test]
    fn servers_and_credentials_must_match() {
        let refused = |list: &[&str], credentials| IceServers::new(urls(list), credentials).unwrap_err();
        assert_eq!(refused(&["turn:a.example"], None), IceServersError::NoCredentials);
        assert_eq!(
            refused(&["stun:a.example"], Some(secret())),
            IceServersError::NoTurnServer
        );
        assert_eq!(
            refused(&["stun:a.example"; ICE_SERVERS_MAX + 1], None),
            IceServersError::TooMany
        );
        assert!(IceServers::new(urls(&["stun:a.example"; ICE_SERVERS_MAX]), None).is_ok());
        assert!(
            IceServers::new(Vec::new(), None)
                .unwrap()
                .for_client(Duration::ZERO)
                .is_empty()
        );
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let fixed = TurnCredentials::Fixed {
            username: "user".parse().unwrap(),
            password: "westward".parse().unwrap(),
        };
        for credentials in [secret(), fixed] {
            let servers = IceServers::new(urls(&["turn:a.example"]), Some(credentials)).unwrap();
            let list = servers.for_client(Duration::ZERO);
            let password = list[0].login.as_ref().unwrap().credential.clone();
            let text = format!("{servers:?} {list:?}");
            assert!(text.contains("a.example"));
            assert!(
                !text.contains(&password) && !text.contains("north") && !text.contains("westward"),
                "{text}"
            );
        }
    }
}
