//! Who may do what.
//!
//! An [`Authority`] is asked before a request is done; what it answers is a [`Grant`] or why not. It knows nothing of HTTP: the
//! `http` room takes the token out of a request and makes words of a [`Denied`].

use std::net::SocketAddr;

use crate::room::StreamName;

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
#[derive(Debug, Clone, Copy)]
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
}

/// It may be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// By whose right: who comes with the same takes over their own stream. `None` when nobody is asked for one.
    pub credential: Option<Credential>,
}

/// Stands for a secret without telling it: the name of a token, or the subject of a JWT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credential(pub Box<str>);

/// It may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token came, and one is needed.
    #[error("a token is needed")]
    Missing,
    /// The token is not good: one sentence without a full stop that tells no secret.
    #[error("{0}")]
    Wrong(String),
    /// The token is good, but not for this.
    #[error("{0}")]
    Forbidden(String),
    /// Who decides cannot be asked.
    #[error("{0}")]
    Unavailable(String),
}

/// Decides who may do what.
#[derive(Debug, Default)]
pub struct Authority {}

impl Authority {
    /// Everybody may publish and watch; who asks from this very machine, and for nobody else, may administer.
    pub fn off() -> Authority {
        Authority {}
    }

    /// Whether it may be done.
    ///
    /// # Errors
    /// When it may not.
    pub async fn ask(&self, asking: Asking<'_>) -> Result<Grant, Denied> {
        let is_here = asking.client.ip().is_loopback() && !asking.forwarded;
        if asking.action == Action::Administer && !is_here {
            return Err(Denied::Forbidden(
                "without tokens only this machine itself may administer".to_owned(),
            ));
        }
        Ok(Grant::default())
    }
}
