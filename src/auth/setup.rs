//! Creates the authority from the configuration.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::authority::Backend;
use super::jwks::{KeySource, RemoteKeys};
use super::jwt::{FixedKeys, Jwt, VerifyingKey};
use super::webhook::Webhook;
use super::{Authority, GeneratedTokens, Secret, TokenRule, Tokens, load_or_generate};
use crate::config::AuthArgs;

/// How the server decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// No authorization: every client may publish and watch.
    Off,
    /// A list of tokens; without one, the server generates its own.
    Tokens,
    /// JWTs of a trusted issuer.
    Jwt,
    /// A request to another server (webhook).
    Webhook,
}

/// An authority, and what the operator needs to know about it.
#[derive(Debug)]
pub struct AuthSetup {
    /// The authority.
    pub authority: Authority,
    /// How it decides.
    pub mode: AuthMode,
    /// Whether watching requires a token.
    pub private: bool,
    /// The tokens that the server has generated, for the operator.
    pub generated: Option<GeneratedTokens>,
    /// The file that stores them, readable by its owner only.
    pub kept: Option<PathBuf>,
    /// Why they are valid for this run only.
    pub warning: Option<String>,
}

/// Why the options cannot be used: one line for the operator, without the contents of files.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An option that has no effect with another one.
    #[error("{option} has no effect with --auth {mode}")]
    Useless {
        /// The option.
        option: &'static str,
        /// The value of `--auth`.
        mode: &'static str,
    },
    /// An option is missing.
    #[error("--auth {mode} needs {needs}")]
    Needs {
        /// The value of `--auth`.
        mode: &'static str,
        /// The options, one of which is required.
        needs: &'static str,
    },
    /// A file cannot be read.
    #[error("{option}: {}: {source}", file.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The contents of a file cannot be used.
    #[error("{option}: {}: {why}", file.display())]
    Content {
        /// The option that names it.
        option: &'static str,
        /// The file.
        file: PathBuf,
        /// The reason.
        why: String,
    },
    /// Tokens of the configuration cannot be used.
    #[error("the tokens of the configuration: {0}")]
    Tokens(#[from] super::RulesError),
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// A change that requires a restart.
    #[error("changing --auth {0} requires a restart")]
    Restart(&'static str),
}

/// Creates the authority that the options configure. `local`: HTTP listens on loopback only. Generated tokens are stored in `state`.
///
/// # Errors
/// When the options contradict each other, or a file cannot be used.
pub fn open(args: &AuthArgs, local: bool, state: Option<&Path>) -> Result<AuthSetup, SetupError> {
    let mode = args.mode(local);
    args.refuse_useless(mode)?;
    let mut opened = AuthSetup {
        authority: Authority::off(),
        mode,
        private: false,
        generated: None,
        kept: None,
        warning: None,
    };
    match mode {
        AuthMode::Off if args.auth.is_none() => opened.authority = Authority::unconfigured(),
        AuthMode::Off => {}
        AuthMode::Tokens => {
            let mut rules = rules(args)?;
            if rules.is_empty() {
                let (generated, kept) = load_or_generate(state);
                rules = generated.rules();
                opened.generated = Some(generated);
                match kept {
                    Ok(file) => opened.kept = Some(file),
                    Err(why) => opened.warning = Some(why),
                }
            }
            opened.authority = Authority::new(Backend::Tokens {
                tokens: Tokens::new(&rules)?,
                open: !args.private,
                generated: opened.generated.is_some(),
            });
            opened.private = args.private;
        }
        AuthMode::Jwt => {
            let jwt = Jwt::new(keys(args)?, args.jwt_issuer.clone(), args.jwt_audience.clone());
            opened.authority = Authority::new(Backend::Jwt(jwt));
            opened.private = true;
        }
        AuthMode::Webhook => {
            opened.authority = Authority::new(Backend::Webhook(webhook(args)?));
            opened.private = true;
        }
    }
    Ok(opened)
}

impl AuthSetup {
    /// Whether the operator has configured authorization, with an option or by listening on other addresses than loopback.
    pub fn is_decided(&self, args: &AuthArgs) -> bool {
        self.mode != AuthMode::Off || args.auth.is_some()
    }
}

impl Authority {
    /// Reloads the tokens and keys of the configuration. Running sessions are not affected.
    ///
    /// # Errors
    /// When they cannot be used, or the change requires a restart; the old ones then stay.
    pub fn reload(&self, args: &AuthArgs) -> Result<(), SetupError> {
        match self.backend() {
            Backend::Tokens {
                tokens,
                open,
                generated,
            } => {
                if *open == args.private {
                    return Err(SetupError::Restart("tokens --private"));
                }
                let rules = rules(args)?;
                // Generated tokens stay. A configured list may become empty: then no client gets in.
                if !(rules.is_empty() && *generated) {
                    tokens.replace(&rules)?;
                }
                Ok(())
            }
            Backend::Jwt(jwt) => match keys(args)? {
                KeySource::Fixed(keys) if !jwt.replace(keys.all().to_vec()) => Err(SetupError::Restart("jwt")),
                _ => Ok(()),
            },
            // Ignoring this would leave the operator believing in a protection that does not exist.
            Backend::Off { .. } if args.mode(true) != AuthMode::Off => Err(SetupError::Restart("off")),
            Backend::Off { .. } | Backend::Webhook(_) => Ok(()),
        }
    }
}

impl AuthArgs {
    fn mode(&self, local: bool) -> AuthMode {
        let of_jwt = self.jwt_key.is_some() || self.jwt_secret_file.is_some() || self.jwks_url.is_some();
        let of_tokens = self.tokens_file.is_some() || !self.token.is_empty() || self.private;
        match self.auth {
            Some(mode) => mode,
            None if of_jwt => AuthMode::Jwt,
            None if self.auth_webhook.is_some() => AuthMode::Webhook,
            None if of_tokens || !local => AuthMode::Tokens,
            None => AuthMode::Off,
        }
    }

    /// An ignored option would leave the operator believing in a protection that does not exist.
    fn refuse_useless(&self, mode: AuthMode) -> Result<(), SetupError> {
        let given = [
            ("--private", self.private, AuthMode::Tokens),
            ("--tokens-file", self.tokens_file.is_some(), AuthMode::Tokens),
            ("[[token]]", !self.token.is_empty(), AuthMode::Tokens),
            ("--jwt-key", self.jwt_key.is_some(), AuthMode::Jwt),
            ("--jwt-secret-file", self.jwt_secret_file.is_some(), AuthMode::Jwt),
            ("--jwks-url", self.jwks_url.is_some(), AuthMode::Jwt),
            ("--jwt-issuer", self.jwt_issuer.is_some(), AuthMode::Jwt),
            ("--jwt-audience", self.jwt_audience.is_some(), AuthMode::Jwt),
            ("--auth-webhook", self.auth_webhook.is_some(), AuthMode::Webhook),
            (
                "--auth-webhook-secret-file",
                self.auth_webhook_secret_file.is_some(),
                AuthMode::Webhook,
            ),
            (
                "--auth-webhook-fail-open",
                self.auth_webhook_fail_open,
                AuthMode::Webhook,
            ),
        ];
        let useless = given.iter().find(|(_, given, of)| *given && *of != mode);
        match useless {
            Some(&(option, ..)) => Err(SetupError::Useless {
                option,
                mode: mode.name(),
            }),
            None => Ok(()),
        }
    }
}

impl AuthMode {
    /// The value of `--auth`.
    pub fn name(self) -> &'static str {
        match self {
            AuthMode::Off => "off",
            AuthMode::Tokens => "tokens",
            AuthMode::Jwt => "jwt",
            AuthMode::Webhook => "webhook",
        }
    }
}

fn rules(args: &AuthArgs) -> Result<Vec<TokenRule>, SetupError> {
    let Some(file) = &args.tokens_file else {
        return Ok(args.token.clone());
    };
    let option = "--tokens-file";
    let content = |why: String| SetupError::Content {
        option,
        file: file.clone(),
        why,
    };
    let text = String::from_utf8(read(option, file)?).map_err(|_| content("it is not UTF-8 text".to_owned()))?;
    let of_file = TokenRule::read(&text).map_err(|error| content(error.to_string()))?;
    if of_file.is_empty() {
        return Err(content("it contains no [[token]]".to_owned()));
    }
    Ok([args.token.clone(), of_file].concat())
}

fn keys(args: &AuthArgs) -> Result<KeySource, SetupError> {
    if let Some(url) = &args.jwks_url {
        return Ok(KeySource::Remote(RemoteKeys::new(url.clone())?));
    }
    let (option, file, key) = match (&args.jwt_key, &args.jwt_secret_file) {
        (Some(file), _) => ("--jwt-key", file, VerifyingKey::public(&read("--jwt-key", file)?)),
        (None, Some(file)) => (
            "--jwt-secret-file",
            file,
            VerifyingKey::shared(&read("--jwt-secret-file", file)?),
        ),
        (None, None) => {
            let needs = "--jwt-key, --jwt-secret-file or --jwks-url";
            return Err(SetupError::Needs { mode: "jwt", needs });
        }
    };
    let key = key.map_err(|error| SetupError::Content {
        option,
        file: file.clone(),
        why: error.to_string(),
    })?;
    Ok(KeySource::Fixed(FixedKeys::new(vec![key])))
}

fn webhook(args: &AuthArgs) -> Result<Webhook, SetupError> {
    let Some(url) = args.auth_webhook.clone() else {
        let needs = "--auth-webhook URL";
        return Err(SetupError::Needs { mode: "webhook", needs });
    };
    let secret = args.auth_webhook_secret_file.as_deref().map(shown_secret).transpose()?;
    Ok(Webhook::new(
        url,
        secret,
        args.auth_webhook_timeout,
        args.auth_webhook_fail_open,
    )?)
}

fn shown_secret(file: &Path) -> Result<Secret, SetupError> {
    let option = "--auth-webhook-secret-file";
    let text = String::from_utf8(read(option, file)?).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "a secret must be one line of visible ASCII characters".to_owned();
        return Err(SetupError::Content {
            option,
            file: file.to_owned(),
            why,
        });
    }
    Ok(Secret::new(text))
}

fn read(option: &'static str, file: &Path) -> Result<Vec<u8>, SetupError> {
    let mut content = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(content),
        Err(source) => Err(SetupError::File {
            option,
            file: file.to_owned(),
            source,
        }),
    }
}

/// Enough for some thousand tokens.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};

    fn args(line: &str) -> AuthArgs {
        let words = std::iter::once("onecast").chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().into_command() {
            Command::Serve(args) => args.auth,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        open(&args(line), true, None).unwrap_err().to_string()
    }

    #[test]
    fn a_server_beyond_loopback_requires_tokens() {
        for (line, local, mode) in [
            ("", true, AuthMode::Off),
            ("", false, AuthMode::Tokens),
            ("--auth off", false, AuthMode::Off),
            ("--auth tokens", true, AuthMode::Tokens),
            ("--private", true, AuthMode::Tokens),
            ("--auth-webhook http://127.0.0.1:1/", true, AuthMode::Webhook),
            ("--jwks-url http://127.0.0.1:1/", false, AuthMode::Jwt),
        ] {
            assert_eq!(args(line).mode(local), mode, "{line}");
        }
        let opened = open(&args(""), false, None).unwrap();
        assert!(opened.generated.is_some() && !opened.private && opened.warning.is_some());
        assert!(open(&args(""), true, None).unwrap().generated.is_none());
    }

    #[test]
    fn an_option_without_effect_is_refused() {
        assert!(refused("--auth off --private").contains("--private has no effect with --auth off"));
        assert!(refused("--auth tokens --jwks-url http://x/").contains("--jwks-url"));
        assert!(refused("--auth jwt --auth-webhook http://x/").contains("--auth-webhook"));
        assert!(refused("--auth jwt").contains("--jwt-key, --jwt-secret-file or --jwks-url"));
        assert!(refused("--auth webhook").contains("--auth-webhook URL"));
        assert!(refused("--tokens-file /no/such/file").contains("/no/such/file"));
    }

    #[test]
    fn a_failed_reload_keeps_the_old_tokens() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let rule = |name: &str| {
            format!(
                "[[token]]\nname = \"{name}\"\nhash = \"{}\"\n",
                Secret::generate().hash()
            )
        };
        write(&rule("a"));
        let args = args(&format!("--tokens-file {}", file.path().display()));
        let opened = open(&args, true, None).unwrap();
        write(&rule("b"));
        opened.authority.reload(&args).unwrap();
        write("nonsense");
        assert!(
            opened
                .authority
                .reload(&args)
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
        let private = AuthArgs { private: true, ..args };
        write(&rule("c"));
        assert!(opened.authority.reload(&private).is_err());
    }
}
