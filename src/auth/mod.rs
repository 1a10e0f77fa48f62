//! Authorization: who may publish, watch and administer.
//!
//! An [`Authority`] decides about a request before the server acts on it: it returns a [`Grant`] or the reason for a denial. It knows
//! nothing about HTTP: the `http` module extracts the token from a request and reports a [`Denied`]. Tokens are checked only when a session
//! starts; an expired or revoked token does not end running sessions.

mod authority;
mod command;
mod generated;
mod jwks;
mod jwt;
mod permissions;
mod secret;
mod setup;
mod stream_patterns;
mod throttle;
mod tokens;
mod webhook;

use std::net::SocketAddr;
use std::time::Duration;

pub use authority::Authority;
pub use command::{TokenArgs, run as token_command};
pub use generated::{GeneratedTokens, load_or_generate};
#[doc(hidden)]
pub use jwt::fuzz_jwt;
pub use permissions::Permissions;
pub use secret::{Secret, TokenHash, TokenHashError};
pub use setup::{AuthMode, AuthSetup, SetupError, open};
pub use stream_patterns::{Pattern, PatternError, StreamPatterns};
#[doc(hidden)]
pub use tokens::fuzz_tokens;
pub use tokens::{RulesError, TokenRule, Tokens};

pub use onecast_control::{Credential, Grant, TokenDigest};

use onecast_control::StreamName;

/// The action that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Publish a stream.
    Publish,
    /// Watch a stream.
    Watch,
    /// See and end the sessions of others.
    Administer,
}

/// A request for a permission.
#[derive(Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The action.
    pub action: Action,
    /// The stream; `None` for the whole server.
    pub stream: Option<&'a StreamName>,
    /// The token in the request.
    pub token: Option<&'a str>,
    /// The address of the client.
    pub client: SocketAddr,
    /// A proxy has forwarded the request.
    pub forwarded: bool,
    /// The origin of the page that sent the request, if any.
    pub page: PageOrigin,
}

/// The origin of the page that sent a request. A browser on this machine also shows pages of other sites, and sends their requests from
/// this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrigin {
    /// A page of this server, or a program.
    SameOrigin,
    /// A page of another server on this machine.
    Local,
    /// A page of any other site.
    Foreign,
}

/// Why a request is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A token is required, and the request has none.
    #[error("this requires a token")]
    Missing,
    /// The token is not valid: one sentence without a full stop and without secrets.
    #[error("{0}")]
    Wrong(String),
    /// Too many wrong tokens from this address.
    #[error("too many wrong tokens from this address")]
    TooMany {
        /// Time until the next attempt.
        retry_after: Duration,
    },
    /// The token is valid, but does not allow this.
    #[error("{0}")]
    Forbidden(String),
    /// The server has no authorization configured, and the request came through a proxy.
    #[error("authorization is not configured, and the request came through a proxy")]
    Proxied,
    /// The server requires no token, and the page is of another origin.
    #[error("the request comes from a page of another origin, or addresses the server by a name")]
    Foreign,
    /// The decision cannot be made at the moment.
    #[error("{0}")]
    Unavailable(String),
}
