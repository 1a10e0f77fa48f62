//! The one who is asked.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::jwt::Jwt;
use super::throttle::Throttle;
use super::webhook::Webhook;
use super::{Action, Asking, Credential, Denied, Page, Right, Rooms, Secret, TokenDigest, TokenHash, Tokens};
use onecast_control::StreamName;
use onecast_udp::clock;

/// Decides who may do what.
pub struct Authority {
    decider: Decider,
    /// What publishes from within: the token, and for which stream.
    own: Option<(TokenHash, StreamName)>,
    key: hmac::Key,
    throttle: Mutex<Throttle>,
}

/// By what it decides.
#[derive(Debug)]
pub(super) enum Decider {
    /// Everybody may publish and watch.
    Off {
        /// The operator has said so; otherwise who comes through a proxy may not publish, and pages of others may do nothing.
        said: bool,
    },
    /// By a list of tokens.
    Tokens {
        /// The list.
        tokens: Tokens,
        /// Watching needs none.
        open: bool,
        /// The server has made them itself, because the configuration has none.
        made: bool,
    },
    /// By what signed tokens say.
    Jwt(Jwt),
    /// By what another server says.
    Webhook(Webhook),
}

impl Authority {
    /// Everybody may publish and watch; who asks from this very machine, and for nobody else, may administer.
    pub fn off() -> Authority {
        Authority::new(Decider::Off { said: true })
    }

    /// The same while nobody has said anything: but who comes through a proxy may not publish, and pages of others may do nothing.
    pub fn unasked() -> Authority {
        Authority::new(Decider::Off { said: false })
    }

    /// Tokens decide who may publish and administer, and unless `open`, who may watch.
    pub fn tokens(tokens: Tokens, open: bool) -> Authority {
        let made = false;
        Authority::new(Decider::Tokens { tokens, open, made })
    }

    pub(super) fn new(decider: Decider) -> Authority {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
        Authority {
            decider,
            own: None,
            key: hmac::Key::new(HMAC_SHA256, &bytes),
            throttle: Mutex::default(),
        }
    }

    /// Makes a token that is good for publishing `stream`, as long as this authority lasts.
    pub fn make_own(&mut self, stream: StreamName) -> Secret {
        let secret = Secret::generate();
        self.own = Some((secret.hash(), stream));
        secret
    }

    /// Whether it may be done.
    ///
    /// # Errors
    /// When it may not.
    pub async fn ask(&self, asking: Asking<'_>) -> Result<Right, Denied> {
        if self.is_own(&asking) {
            return Ok(self.right(&asking, Some(Credential("demo".into()))));
        }
        let decided = self.decide(&asking).await;
        let right = self.slow_down(&asking, decided)?;
        // A browser sends a page's requests from where it runs; a token is what the page must have been given.
        if asking.action == Action::Administer && right.token.is_none() && asking.page != Page::Own {
            return Err(Denied::Foreign);
        }
        Ok(right)
    }

    /// Whether the page that asks may do this, whatever token it will show: false when it will be refused for its origin.
    pub fn welcomes(&self, asking: &Asking<'_>) -> bool {
        let Decider::Off { said } = &self.decider else {
            return true;
        };
        match asking.action {
            Action::Administer => asking.page == Page::Own,
            Action::Publish | Action::Watch => !is_unwanted(asking, *said),
        }
    }

    /// The streams of which the asker may know, whatever `asking` names.
    ///
    /// # Errors
    /// When a token is needed for that.
    pub async fn visible(&self, asking: Asking<'_>) -> Result<Rooms, Denied> {
        let decided = match &self.decider {
            Decider::Off { said } => without_tokens(&asking, *said).map(|()| Rooms::all()),
            Decider::Tokens { open: true, .. } => Ok(Rooms::all()),
            Decider::Tokens { tokens, .. } => match asking.token {
                None => Err(Denied::Missing),
                Some(token) => tokens
                    .powers(token, self.digest(token), self.is_spent(&asking))
                    .await
                    .map(|powers| powers.visible()),
            },
            Decider::Jwt(jwt) => match asking.token {
                None => Err(Denied::Missing),
                Some(token) => jwt.powers(token).await.map(|powers| powers.visible()),
            },
            Decider::Webhook(_) => {
                let asking = Asking {
                    action: Action::Watch,
                    stream: None,
                    ..asking
                };
                self.decide(&asking).await.map(|_| Rooms::all())
            }
        };
        self.slow_down(&asking, decided)
    }

    /// Whether `token` is the one that `digest` was made of.
    pub fn recognises(&self, token: &str, digest: TokenDigest) -> bool {
        self.digest(token) == digest
    }

    /// By what is decided, for its own reload.
    pub(super) fn decider(&self) -> &Decider {
        &self.decider
    }

    async fn decide(&self, asking: &Asking<'_>) -> Result<Right, Denied> {
        match &self.decider {
            Decider::Off { said } => without_tokens(asking, *said).map(|()| Right::default()),
            Decider::Tokens { open: true, .. } if asking.action == Action::Watch => Ok(Right::default()),
            Decider::Tokens { tokens, .. } => {
                let token = asking.token.ok_or(Denied::Missing)?;
                let powers = tokens.powers(token, self.digest(token), self.is_spent(asking)).await?;
                powers.suffice(asking.action, asking.stream)?;
                Ok(self.right(asking, Some(powers.credential.clone())))
            }
            Decider::Jwt(jwt) => {
                let powers = jwt.powers(asking.token.ok_or(Denied::Missing)?).await?;
                powers.suffice(asking.action, asking.stream)?;
                Ok(self.right(asking, Some(powers.credential)))
            }
            // At this machine's own address a proxy stands for everybody: one who guesses there shall not lock all others out.
            Decider::Webhook(_)
                if asking.token.is_some() && !asking.client.ip().is_loopback() && self.is_spent(asking) =>
            {
                Err(Denied::Wrong("this token was not asked about".to_owned()))
            }
            Decider::Webhook(webhook) => Ok(self.right(asking, webhook.ask(asking).await?)),
        }
    }

    /// Who tries tokens is slowed down.
    fn slow_down<T>(&self, asking: &Asking<'_>, decided: Result<T, Denied>) -> Result<T, Denied> {
        let wrong = matches!(decided, Err(Denied::Wrong(_)));
        if wrong && !lock(&self.throttle).failed(clock::now(), asking.client.ip()) {
            let retry_after = Throttle::FORGIVEN_EVERY;
            return Err(Denied::TooMany { retry_after });
        }
        decided
    }

    fn is_spent(&self, asking: &Asking<'_>) -> bool {
        lock(&self.throttle).is_spent(clock::now(), asking.client.ip())
    }

    fn is_own(&self, asking: &Asking<'_>) -> bool {
        let (Some((hash, stream)), Some(token)) = (&self.own, asking.token) else {
            return false;
        };
        asking.action == Action::Publish && asking.stream == Some(stream) && hash.is_of(token)
    }

    /// The right that a token gives. Without a name of its own, the token itself tells whose it is.
    fn right(&self, asking: &Asking<'_>, credential: Option<Credential>) -> Right {
        let token = asking.token.map(|token| self.digest(token));
        let of_token = || token.map(|TokenDigest(digest)| Credential(hex(&digest[..16]).into()));
        Right {
            credential: credential.or_else(of_token),
            token,
        }
    }

    fn digest(&self, token: &str) -> TokenDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.key, token.as_bytes()).as_ref());
        TokenDigest(digest)
    }
}

fn without_tokens(asking: &Asking<'_>, said: bool) -> Result<(), Denied> {
    let is_here = asking.client.ip().is_loopback() && !asking.forwarded;
    match asking.action {
        Action::Administer if !is_here => Err(Denied::Forbidden(
            "without tokens only this machine itself may administer".to_owned(),
        )),
        Action::Publish if asking.forwarded && !said => Err(Denied::Proxied),
        Action::Publish | Action::Watch if is_unwanted(asking, said) => Err(Denied::Foreign),
        _ => Ok(()),
    }
}

/// A page of somebody else, while nobody has said that it may. What comes through a proxy is called by the proxy's name.
fn is_unwanted(asking: &Asking<'_>, said: bool) -> bool {
    asking.page == Page::Foreign && !asking.forwarded && !said
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing that is done under this lock can panic half-way.
fn lock(throttle: &Mutex<Throttle>) -> MutexGuard<'_, Throttle> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::off()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("decider", &self.decider)
            .finish_non_exhaustive()
    }
}
