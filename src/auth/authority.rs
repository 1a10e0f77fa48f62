//! The authority: decides about requests with one of the backends.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::jwt::Jwt;
use super::throttle::Throttle;
use super::webhook::Webhook;
use super::{
    AccessRequest, Action, Credential, Denied, Grant, PageOrigin, Secret, StreamPatterns, TokenDigest, TokenHash,
    Tokens,
};
use onecast_control::StreamName;
use onecast_udp::clock;

/// Decides which requests are allowed.
pub struct Authority {
    backend: Backend,
    /// The token of the built-in publisher, and its stream.
    own: Option<(TokenHash, StreamName)>,
    key: hmac::Key,
    throttle: Mutex<Throttle>,
}

/// How decisions are made.
#[derive(Debug)]
pub(super) enum Backend {
    /// Every client may publish and watch.
    Off {
        /// The operator has chosen this. Otherwise requests through a proxy may not publish, and pages of other origins may do nothing.
        explicit: bool,
    },
    /// By a list of tokens.
    Tokens {
        tokens: Tokens,
        /// Watching requires no token.
        open: bool,
        /// The server has generated the tokens, because the configuration has none.
        generated: bool,
    },
    /// By the claims of signed tokens.
    Jwt(Jwt),
    /// By asking another server.
    Webhook(Webhook),
}

impl Authority {
    /// Every client may publish and watch. Direct requests from this machine may administer.
    pub fn off() -> Authority {
        Authority::new(Backend::Off { explicit: true })
    }

    /// The default without configuration: as [`Authority::off`], but requests through a proxy may not publish, and pages of other
    /// origins may do nothing.
    pub fn unconfigured() -> Authority {
        Authority::new(Backend::Off { explicit: false })
    }

    /// Publishing and administration require a token, and unless `open`, watching does too.
    pub fn tokens(tokens: Tokens, open: bool) -> Authority {
        let generated = false;
        Authority::new(Backend::Tokens {
            tokens,
            open,
            generated,
        })
    }

    pub(super) fn new(backend: Backend) -> Authority {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
        Authority {
            backend,
            own: None,
            key: hmac::Key::new(HMAC_SHA256, &bytes),
            throttle: Mutex::default(),
        }
    }

    /// Generates a token for publishing `stream`, valid for the lifetime of this authority.
    pub fn make_own(&mut self, stream: StreamName) -> Secret {
        let secret = Secret::generate();
        self.own = Some((secret.hash(), stream));
        secret
    }

    /// Authorizes a request.
    ///
    /// # Errors
    /// When it is denied.
    pub async fn authorize(&self, request: AccessRequest<'_>) -> Result<Grant, Denied> {
        if self.is_own(&request) {
            return Ok(self.grant(&request, Some(Credential("demo".into()))));
        }
        let decided = self.decide(&request).await;
        let grant = self.slow_down(&request, decided)?;
        // A browser on this machine sends the requests of any page from this machine, so only a token proves that the page may do this.
        if request.action == Action::Administer && grant.token.is_none() && request.page != PageOrigin::SameOrigin {
            return Err(Denied::Foreign);
        }
        Ok(grant)
    }

    /// Whether the origin of the page is acceptable. If not, the request will be denied whatever its token.
    pub fn allows_origin(&self, request: &AccessRequest<'_>) -> bool {
        let Backend::Off { explicit } = &self.backend else {
            return true;
        };
        match request.action {
            Action::Administer => request.page == PageOrigin::SameOrigin,
            Action::Publish | Action::Watch => !is_unwanted(request, *explicit),
        }
    }

    /// The streams that the client may see, whatever stream the request names.
    ///
    /// # Errors
    /// When that requires a token.
    pub async fn visible_streams(&self, request: AccessRequest<'_>) -> Result<StreamPatterns, Denied> {
        let decided = match &self.backend {
            Backend::Off { explicit } => without_tokens(&request, *explicit).map(|()| StreamPatterns::all()),
            Backend::Tokens { open: true, .. } => Ok(StreamPatterns::all()),
            Backend::Tokens { tokens, .. } => match request.token {
                None => Err(Denied::Missing),
                Some(token) => tokens
                    .permissions(token, self.digest(token), self.is_spent(&request))
                    .await
                    .map(|permissions| permissions.visible()),
            },
            Backend::Jwt(jwt) => match request.token {
                None => Err(Denied::Missing),
                Some(token) => jwt.permissions(token).await.map(|permissions| permissions.visible()),
            },
            Backend::Webhook(_) => {
                let request = AccessRequest {
                    action: Action::Watch,
                    stream: None,
                    ..request
                };
                self.decide(&request).await.map(|_| StreamPatterns::all())
            }
        };
        self.slow_down(&request, decided)
    }

    /// Whether `digest` is the digest of `token`.
    pub fn matches_digest(&self, token: &str, digest: TokenDigest) -> bool {
        self.digest(token) == digest
    }

    /// The backend, for its own reload.
    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    async fn decide(&self, request: &AccessRequest<'_>) -> Result<Grant, Denied> {
        match &self.backend {
            Backend::Off { explicit } => without_tokens(request, *explicit).map(|()| Grant::default()),
            Backend::Tokens { open: true, .. } if request.action == Action::Watch => Ok(Grant::default()),
            Backend::Tokens { tokens, .. } => {
                let token = request.token.ok_or(Denied::Missing)?;
                let permissions = tokens
                    .permissions(token, self.digest(token), self.is_spent(request))
                    .await?;
                permissions.check(request.action, request.stream)?;
                Ok(self.grant(request, Some(permissions.credential.clone())))
            }
            Backend::Jwt(jwt) => {
                let permissions = jwt.permissions(request.token.ok_or(Denied::Missing)?).await?;
                permissions.check(request.action, request.stream)?;
                Ok(self.grant(request, Some(permissions.credential)))
            }
            // Loopback is exempt, because a proxy there represents many clients: one that guesses tokens must not lock out the others.
            Backend::Webhook(_)
                if request.token.is_some() && !request.client.ip().is_loopback() && self.is_spent(request) =>
            {
                Err(Denied::Wrong(
                    "the token was not checked, because too many wrong ones came from this address".to_owned(),
                ))
            }
            Backend::Webhook(webhook) => Ok(self.grant(request, webhook.ask(request).await?)),
        }
    }

    /// Slows down clients that guess tokens.
    fn slow_down<T>(&self, request: &AccessRequest<'_>, decided: Result<T, Denied>) -> Result<T, Denied> {
        let wrong = matches!(decided, Err(Denied::Wrong(_)));
        if wrong && !lock(&self.throttle).failed(clock::now(), request.client.ip()) {
            let retry_after = Throttle::FORGIVEN_EVERY;
            return Err(Denied::TooMany { retry_after });
        }
        decided
    }

    fn is_spent(&self, request: &AccessRequest<'_>) -> bool {
        lock(&self.throttle).is_spent(clock::now(), request.client.ip())
    }

    fn is_own(&self, request: &AccessRequest<'_>) -> bool {
        let (Some((hash, stream)), Some(token)) = (&self.own, request.token) else {
            return false;
        };
        request.action == Action::Publish && request.stream == Some(stream) && hash.matches(token)
    }

    /// What a token grants. A credential without a name is identified by the token itself.
    fn grant(&self, request: &AccessRequest<'_>, credential: Option<Credential>) -> Grant {
        let token = request.token.map(|token| self.digest(token));
        let of_token = || token.map(|TokenDigest(digest)| Credential(hex(&digest[..16]).into()));
        Grant {
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

fn without_tokens(request: &AccessRequest<'_>, explicit: bool) -> Result<(), Denied> {
    let is_here = request.client.ip().is_loopback() && !request.forwarded;
    match request.action {
        Action::Administer if !is_here => Err(Denied::Forbidden(
            "without tokens, only direct requests from this machine may administer".to_owned(),
        )),
        Action::Publish if request.forwarded && !explicit => Err(Denied::Proxied),
        Action::Publish | Action::Watch if is_unwanted(request, explicit) => Err(Denied::Foreign),
        _ => Ok(()),
    }
}

/// A page of another origin, while the operator has not allowed them. Forwarded requests carry the name of the proxy, so they are exempt.
fn is_unwanted(request: &AccessRequest<'_>, explicit: bool) -> bool {
    request.page == PageOrigin::Foreign && !request.forwarded && !explicit
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No code under this lock can panic half-way.
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
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
