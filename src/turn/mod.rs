//! STUN and TURN servers that clients are told of.
//!
//! The server itself needs none: it is ICE-lite and waits for checks. A client behind a firewall that lets no UDP to us needs a
//! TURN server: the relay then sends the checks and everything else to us, and to us it is a client like any other.

mod credentials;
mod url;

use std::time::Duration;

pub use credentials::{Secret, TurnCredentials, Word, WordError};
#[doc(hidden)]
pub use url::fuzz_url;
pub use url::{IceUrl, IceUrlError};

/// The servers of the configuration, and how clients prove to them that we sent them.
#[derive(Debug, Clone, Default)]
pub struct IceServers {
    urls: Vec<IceUrl>,
    credentials: Option<TurnCredentials>,
}

/// What one client is told of the servers that have the same credentials: the members of `RTCIceServer` of the WebRTC API.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// At least one.
    pub urls: Vec<IceUrl>,
    /// For TURN servers; `None` for STUN servers.
    pub login: Option<Login>,
}

/// A name and a password that a client hands in at a TURN server. `Debug` does not tell the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password. A secret: never in logs.
    pub credential: String,
}

/// Why servers and credentials do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceServersError {
    /// Browsers refuse TURN servers without.
    #[error(
        "a turn: server needs credentials: --turn-secret-file (for coturn's use-auth-secret), or --turn-username with --turn-password-file"
    )]
    NoCredentials,
    /// They would be told to nobody.
    #[error("there are credentials for TURN, but no --ice-server is a turn: or turns: URL")]
    NoTurnServer,
    /// More than anybody can use.
    #[error("there are more than {ICE_SERVERS_MAX} --ice-server; browsers slow down with more than a few")]
    TooMany,
}

impl IceServers {
    /// Servers, and credentials for those of them that are TURN servers.
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

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// What a client is told at `now`, as time since 1970: STUN servers first, TURN servers with a login of this client's own.
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

/// Most servers. Every client tries each of them from each of its addresses; Firefox warns from five on.
pub const ICE_SERVERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<IceUrl> {
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    fn secret() -> TurnCredentials {
        TurnCredentials::TimeLimited {
            secret: Secret::new("north").unwrap(),
            ttl: Duration::from_secs(600),
        }
    }

    #[test]
    fn only_turn_servers_get_a_login_and_each_client_its_own() {
        let list = urls(&["turn:a.example:3478?transport=udp", "stun:b.example", "turns:a.example"]);
        let servers = IceServers::new(list, Some(secret())).unwrap();
        let now = Duration::from_millis(1_700_000_000_900);
        let told = servers.for_client(now);
        assert_eq!(told[0].urls, urls(&["stun:b.example"]));
        assert_eq!(told[0].login, None);
        assert_eq!(
            told[1].urls,
            urls(&["turn:a.example:3478?transport=udp", "turns:a.example"])
        );
        let login = told[1].login.as_ref().unwrap();
        assert!(login.username.starts_with("1700000600:"), "{login:?}");
        assert_ne!(servers.for_client(now)[1].login, told[1].login);
    }

    #[test]
    fn servers_and_credentials_must_fit() {
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
    fn no_secret_is_told_by_debug() {
        let fixed = TurnCredentials::Fixed {
            username: "user".parse().unwrap(),
            password: "westward".parse().unwrap(),
        };
        for credentials in [secret(), fixed] {
            let servers = IceServers::new(urls(&["turn:a.example"]), Some(credentials)).unwrap();
            let told = servers.for_client(Duration::ZERO);
            let password = told[0].login.as_ref().unwrap().credential.clone();
            let text = format!("{servers:?} {told:?}");
            assert!(text.contains("a.example"));
            assert!(
                !text.contains(&password) && !text.contains("north") && !text.contains("westward"),
                "{text}"
            );
        }
    }
}
