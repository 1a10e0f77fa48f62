//! Access control options.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use reqwest::Url;

use crate::auth::{AuthMode, TokenRule};

/// Access control options.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access control")]
pub struct AuthArgs {
    /// What decides about publishing, watching and administration [default: as the other options of this group imply; else `off` while HTTP
    /// listens on loopback only, and `tokens` as soon as it listens elsewhere]
    #[arg(long, value_name = "HOW", env = "ONECAST_AUTH")]
    pub auth: Option<AuthMode>,

    /// Require a token for watching too (with tokens; JWTs and the webhook always decide about watching)
    #[arg(long, env = "ONECAST_PRIVATE", value_parser = BoolishValueParser::new())]
    pub private: bool,

    /// TOML file with `[[token]]` tables, as printed by `onecast token new`
    #[arg(long, value_name = "FILE", env = "ONECAST_TOKENS_FILE")]
    pub tokens_file: Option<PathBuf>,

    /// Public key that verifies JWTs: PEM of RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)
    #[arg(long, value_name = "FILE", env = "ONECAST_JWT_KEY", conflicts_with_all = ["jwt_secret_file", "jwks_url"])]
    pub jwt_key: Option<PathBuf>,

    /// File with the secret that verifies JWTs (HS256), at least 32 bytes
    #[arg(
        long,
        value_name = "FILE",
        env = "ONECAST_JWT_SECRET_FILE",
        conflicts_with = "jwks_url"
    )]
    pub jwt_secret_file: Option<PathBuf>,

    /// URL at which the issuer of JWTs publishes its keys (JWKS)
    #[arg(long, value_name = "URL", env = "ONECAST_JWKS_URL", hide_env_values = true, value_parser = web_url)]
    pub jwks_url: Option<Url>,

    /// Issuer that JWTs must name (iss)
    #[arg(long, value_name = "TEXT", env = "ONECAST_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,

    /// Audience that JWTs must name (aud); without it, JWTs that name an audience are refused
    #[arg(long, value_name = "TEXT", env = "ONECAST_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// URL that decides whether a client may publish, watch or administer
    #[arg(long, value_name = "URL", env = "ONECAST_AUTH_WEBHOOK", hide_env_values = true, value_parser = web_url)]
    pub auth_webhook: Option<Url>,

    /// How long the webhook may take to answer
    #[arg(long, value_name = "TIME", env = "ONECAST_AUTH_WEBHOOK_TIMEOUT", default_value = "3s", value_parser = timeout)]
    pub auth_webhook_timeout: Duration,

    /// File with a secret that is sent to the webhook as a Bearer token
    #[arg(long, value_name = "FILE", env = "ONECAST_AUTH_WEBHOOK_SECRET_FILE")]
    pub auth_webhook_secret_file: Option<PathBuf>,

    /// Allow everyone to publish and watch while the webhook fails, instead of no one
    #[arg(long, env = "ONECAST_AUTH_WEBHOOK_FAIL_OPEN", value_parser = BoolishValueParser::new())]
    pub auth_webhook_fail_open: bool,

    /// Tokens in the configuration file.
    #[arg(skip)]
    pub token: Vec<TokenRule>,
}

fn web_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("this is not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("expected a URL that begins with https:// or http://".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = super::duration(text)?;
    // OBS gives up after 8 s, of which the request may wait a second for its turn.
    let sensible = Duration::from_millis(100)..=Duration::from_secs(6);
    if sensible.contains(&timeout) {
        Ok(timeout)
    } else {
        Err("must be 100ms to 6s".to_owned())
    }
}
