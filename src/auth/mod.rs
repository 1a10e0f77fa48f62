//! Who may do what.
//!
//! An [`Authority`] is asked before a request is done; what it answers is a [`Right`] or why not. It knows nothing of HTTP: the
//! `http` room takes the token out of a request and makes words of a [`Denied`]. A token counts at the door: what was begun with it
//! goes on when it expires.

mod authority;
mod command;
mod jwks;
mod jwt;
mod powers;
mod rooms;
mod secret;
mod setup;
mod state;
mod throttle;
mod tokens;
mod webhook;

use std::net::SocketAddr;
use std::time::Duration;

pub use authority::Authority;
pub use command::{TokenArgs, run as token_command};
#[doc(hidden)]
pub use jwt::fuzz_jwt;
pub use powers::Powers;
pub use rooms::{Pattern, PatternError, Rooms};
pub use secret::{Secret, TokenHash, TokenHashError};
pub use setup::{AuthMode, Opened, SetupError, open};
pub use state::{Made, made};
#[doc(hidden)]
pub use tokens::fuzz_tokens;
pub use tokens::{RulesError, TokenRule, Tokens};

pub use onecast_control::right::{Credential, Right, TokenDigest};

use onecast_control::StreamName;

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a stream.
    Publish,
    /// Be sent a stream.
    Watch,
    /// See and end what others do.
    Administer,
}

/// One question.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// What for.
    pub action: Action,
    /// With which stream; `None` for the whole server.
    pub stream: Option<&'a StreamName>,
    /// The token that came with the request.
    pub token: Option<&'a str>,
    /// The other end of the HTTP connection.
    pub client: SocketAddr,
    /// A proxy says that it asks for somebody else.
    pub forwarded: bool,
    /// Whose page asks, if one does.
    pub page: Page,
}

/// Whose page a request came from: a browser on this machine shows those of others, too, and sends what they ask for from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The server's own, or none: a program asks.
    Own,
    /// Another server's on this machine.
    Local,
    /// Somebody else's.
    Foreign,
}

/// It may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token came, and one is needed.
    #[error("only who has a token may do this")]
    Missing,
    /// The token is not good: one sentence without a full stop that tells no secret.
    #[error("{0}")]
    Wrong(String),
    /// Too many wrong tokens came from this address.
    #[error("too many wrong tokens came from this address")]
    TooMany {
        /// When one more may be tried.
        retry_after: Duration,
    },
    /// The token is good, but not for this.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody has set up who may publish, and the request came from outside.
    #[error("nobody has said who may publish here, and the request came through a proxy")]
    Proxied,
    /// Nobody has to show a token, and a page of somebody else asks.
    #[error("a page of another origin asks, or the server is called by a name")]
    Foreign,
    /// Who decides cannot be asked.
    #[error("{0}")]
    Unavailable(String),
}
