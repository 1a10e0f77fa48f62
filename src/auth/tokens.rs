//! Static tokens: a list of names, hashes and permissions.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Credential, Denied, Permissions, StreamPatterns, TokenDigest, TokenHash};

/// A token in the configuration:
///
/// ```toml
/// [[token]]
/// name = "studio"              # unique; a client with the same token takes over its own stream
/// hash = "sha256:9f86d0.."     # as printed by `onecast token new` or `onecast token hash`
/// publish = ["live", "demo-*"] # streams that may be published; * stands for any characters; default: none
/// watch = ["*"]                # streams that may be watched; default: none
/// admin = false                # whether it may see and end the sessions of others (/api); default: false
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRule {
    /// Its unique name.
    pub name: String,
    /// The hash of the token.
    pub hash: TokenHash,
    /// Streams that it may publish.
    #[serde(default)]
    pub publish: StreamPatterns,
    /// Streams that it may watch.
    #[serde(default)]
    pub watch: StreamPatterns,
    /// Whether it may administer the server.
    #[serde(default)]
    pub admin: bool,
}

/// A file that contains only tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<TokenRule>,
}

/// Why a list of tokens cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Invalid TOML, or of another form. The error does not contain the text, which may be a secret.
    #[error("line {line}: {why}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// The reason.
        why: String,
    },
    /// Two tokens with the same name.
    #[error("two tokens have the name {0:?}")]
    SameName(String),
    /// An empty, long or unprintable name.
    #[error("the name of a token is 1 to {} visible characters", Tokens::NAME_MAX)]
    Name,
    /// Too many.
    #[error("at most {} tokens are allowed", Tokens::RULES_MAX)]
    TooMany,
    /// Too many slow hashes.
    #[error(
        "at most {} argon2 hashes are allowed, because each one is tried; use generated tokens instead",
        Tokens::SLOW_MAX
    )]
    TooManySlow,
}

/// The tokens in use. A reload replaces them while the server runs.
#[derive(Debug)]
pub struct Tokens {
    rules: RwLock<Arc<Rules>>,
    /// Limits concurrent computations of argon2.
    slow: Arc<Semaphore>,
    /// Limits the requests that wait for one.
    waiting: Semaphore,
}

#[derive(Debug)]
struct Rules {
    all: Vec<(TokenHash, Arc<Permissions>)>,
    /// Tokens that argon2 has verified, so that it runs once per token. At most as many as there are slow rules.
    verified: RwLock<HashMap<[u8; 32], Arc<Permissions>>>,
}

impl TokenRule {
    /// Reads the text of a file with `[[token]]` tables.
    ///
    /// # Errors
    /// With the line of the error.
    pub fn read(text: &str) -> Result<Vec<TokenRule>, RulesError> {
        let TokenFile { token } = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        check(&token)?;
        Ok(token)
    }

    /// Reads the `[[token]]` tables of a file that may contain other settings.
    ///
    /// # Errors
    /// With the line of the error.
    pub fn read_among_others(text: &str) -> Result<Vec<TokenRule>, RulesError> {
        #[derive(Deserialize)]
        struct Tables {
            #[serde(default)]
            token: Vec<TokenRule>,
        }
        let Tables { token } = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        check(&token)?;
        Ok(token)
    }

    fn permissions(&self) -> Permissions {
        Permissions {
            credential: Credential(format!("token:{}", self.name).into()),
            publish: self.publish.clone(),
            watch: self.watch.clone(),
            admin: self.admin,
        }
    }
}

impl Tokens {
    /// Most tokens: every request compares all hashes.
    pub const RULES_MAX: usize = 4_096;
    /// Most argon2 hashes: a wrong token costs 20 ms for each.
    pub const SLOW_MAX: usize = 16;
    /// Longest name, bytes.
    pub const NAME_MAX: usize = 64;
    /// Concurrent computations of argon2: one core at most.
    const SLOW_AT_ONCE: usize = 1;
    /// Requests that may wait for one.
    const WAITING_MAX: usize = 32;
    /// Longest time that a request waits.
    const WAIT_MAX: Duration = Duration::from_secs(3);
    /// Longest token, bytes.
    const TOKEN_MAX: usize = 4_096;

    /// Creates the list of tokens.
    ///
    /// # Errors
    /// When the list cannot be used.
    pub fn new(rules: &[TokenRule]) -> Result<Tokens, RulesError> {
        Ok(Tokens {
            rules: RwLock::new(Arc::new(Rules::new(rules)?)),
            slow: Arc::new(Semaphore::new(Tokens::SLOW_AT_ONCE)),
            waiting: Semaphore::new(Tokens::WAITING_MAX),
        })
    }

    /// Replaces the list of tokens.
    ///
    /// # Errors
    /// When the list cannot be used; the old one then stays.
    pub fn replace(&self, rules: &[TokenRule]) -> Result<(), RulesError> {
        let rules = Arc::new(Rules::new(rules)?);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// The permissions of a token. `digest` identifies tokens that were verified before. If `fast_only`, argon2 hashes are skipped.
    pub(super) async fn permissions(
        &self,
        token: &str,
        digest: TokenDigest,
        fast_only: bool,
    ) -> Result<Arc<Permissions>, Denied> {
        let unknown = || Denied::Wrong("this token is unknown".to_owned());
        if token.is_empty() || token.len() > Tokens::TOKEN_MAX {
            return Err(unknown());
        }
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(permissions) = rules.find_fast(token, digest) {
            return Ok(permissions);
        }
        if fast_only || !rules.has_slow() {
            return Err(unknown());
        }
        self.verify_slow(rules, token, digest).await?.ok_or_else(unknown)
    }

    async fn verify_slow(
        &self,
        rules: Arc<Rules>,
        token: &str,
        digest: TokenDigest,
    ) -> Result<Option<Arc<Permissions>>, Denied> {
        let busy = || Denied::Unavailable("too many passwords are being checked at the moment".to_owned());
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let permit = tokio::time::timeout(Tokens::WAIT_MAX, self.slow.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let token = super::Secret::new(token);
        // The permit moves into the task: the client may disconnect, but the computation continues and must stay counted.
        let work = tokio::task::spawn_blocking(move || {
            let found = rules.find_slow(token.expose(), digest);
            drop(permit);
            found
        });
        work.await.map_err(|_| busy())
    }
}

impl Rules {
    fn new(rules: &[TokenRule]) -> Result<Rules, RulesError> {
        check(rules)?;
        let all = rules
            .iter()
            .map(|rule| (rule.hash.clone(), Arc::new(rule.permissions())));
        Ok(Rules {
            all: all.collect(),
            verified: RwLock::default(),
        })
    }

    fn has_slow(&self) -> bool {
        self.all.iter().any(|(hash, _)| hash.is_slow())
    }

    /// Compares all hashes, each in constant time, so that the duration reveals nothing.
    fn find_fast(&self, token: &str, digest: TokenDigest) -> Option<Arc<Permissions>> {
        let mut found = None;
        let token = super::secret::sha256(token);
        for (hash, permissions) in &self.all {
            if hash.is_digest(&token) {
                found = Some(permissions);
            }
        }
        let verified = || {
            let verified = self.verified.read().unwrap_or_else(PoisonError::into_inner);
            verified.get(&digest.0).cloned()
        };
        found.cloned().or_else(verified)
    }

    fn find_slow(&self, token: &str, digest: TokenDigest) -> Option<Arc<Permissions>> {
        let mut slow = self.all.iter().filter(|(hash, _)| hash.is_slow());
        let permissions = slow
            .find(|(hash, _)| hash.matches(token))
            .map(|(_, permissions)| permissions.clone())?;
        let mut verified = self.verified.write().unwrap_or_else(PoisonError::into_inner);
        if verified.len() < Tokens::SLOW_MAX {
            verified.insert(digest.0, permissions.clone());
        }
        Some(permissions)
    }
}

fn check(rules: &[TokenRule]) -> Result<(), RulesError> {
    if rules.len() > Tokens::RULES_MAX {
        return Err(RulesError::TooMany);
    }
    if rules.iter().filter(|rule| rule.hash.is_slow()).count() > Tokens::SLOW_MAX {
        return Err(RulesError::TooManySlow);
    }
    let mut names = HashSet::new();
    for TokenRule { name, .. } in rules {
        if name.trim().is_empty() || name.len() > Tokens::NAME_MAX || name.contains(char::is_control) {
            return Err(RulesError::Name);
        }
        if !names.insert(name) {
            return Err(RulesError::SameName(name.clone()));
        }
    }
    Ok(())
}

/// An error of the TOML parser as one short line.
fn syntax(text: &str, error: &toml::de::Error) -> RulesError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    RulesError::Syntax {
        line: 1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count(),
        why: one_line(error.message()),
    }
}

fn one_line(message: &str) -> String {
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let printable = words.chars().filter(|character| !character.is_control());
    printable.take(MESSAGE_CHARS_MAX).collect()
}

/// Reads any bytes as a file of tokens: valid files are usable, and errors are one line.
#[doc(hidden)]
pub fn fuzz_tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match TokenRule::read(text) {
        Ok(rules) => {
            assert!(Rules::new(&rules).is_ok());
            let live = onecast_control::StreamName::default();
            for rule in rules {
                let again: Result<TokenHash, _> = rule.hash.to_string().parse();
                assert!(again.is_ok_and(|again| again == rule.hash));
                let _ = rule.publish.has(&live) && rule.watch.has(&live);
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

const MESSAGE_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Action, Secret};
    use onecast_control::StreamName;

    fn digest(number: u8) -> TokenDigest {
        TokenDigest([number; 32])
    }

    fn text(name: &str, token: &Secret, more: &str) -> String {
        format!("[[token]]\nname = \"{name}\"\nhash = \"{}\"\n{more}\n", token.hash())
    }

    #[tokio::test]
    async fn a_token_file_grants_permissions() {
        let (studio, admin) = (Secret::generate(), Secret::generate());
        let file = text("studio", &studio, "publish = [\"live\", \"demo-*\"]\nwatch = \"*\"")
            + &text("admin", &admin, "admin = true");
        let tokens = Tokens::new(&TokenRule::read(&file).unwrap()).unwrap();
        let permissions = tokens.permissions(studio.expose(), digest(1), false).await.unwrap();
        assert_eq!(&*permissions.credential.0, "token:studio");
        let stream = |name: &str| -> StreamName { name.parse().unwrap() };
        for (action, name, may) in [
            (Action::Publish, "live", true),
            (Action::Publish, "demo-1", true),
            (Action::Publish, "other", false),
            (Action::Watch, "other", true),
            (Action::Administer, "live", false),
        ] {
            assert_eq!(
                permissions.check(action, Some(&stream(name))).is_ok(),
                may,
                "{action:?} {name}"
            );
        }
        let permissions = tokens.permissions(admin.expose(), digest(2), false).await.unwrap();
        assert!(permissions.check(Action::Administer, None).is_ok());
        assert!(permissions.check(Action::Publish, Some(&stream("live"))).is_err());

        for wrong in ["", "x", &studio.hash().to_string(), &"x".repeat(100_000)] {
            assert!(matches!(
                tokens.permissions(wrong, digest(3), false).await,
                Err(Denied::Wrong(_))
            ));
        }
    }

    #[tokio::test]
    async fn a_password_is_verified_once_and_never_if_fast_only() {
        let password = Secret::new("correct horse");
        let rule = TokenRule {
            name: "person".to_owned(),
            hash: password.hash_slowly(),
            publish: StreamPatterns::all(),
            watch: StreamPatterns::none(),
            admin: false,
        };
        let tokens = Tokens::new(&[rule]).unwrap();
        assert!(tokens.permissions(password.expose(), digest(1), true).await.is_err());
        assert!(tokens.permissions("wrong horse", digest(2), false).await.is_err());
        assert!(tokens.permissions(password.expose(), digest(1), false).await.is_ok());
        // Known by now, so that it is not computed any more.
        assert!(tokens.permissions(password.expose(), digest(1), true).await.is_ok());
        assert!(tokens.permissions("wrong horse", digest(2), true).await.is_err());
    }

    #[tokio::test]
    async fn replaced_tokens_are_invalid() {
        let (old, new) = (Secret::generate(), Secret::generate());
        let rules = |token: &Secret| TokenRule::read(&text("a", token, "publish = \"*\"")).unwrap();
        let tokens = Tokens::new(&rules(&old)).unwrap();
        assert!(tokens.permissions(old.expose(), digest(1), false).await.is_ok());
        tokens.replace(&rules(&new)).unwrap();
        assert!(tokens.permissions(old.expose(), digest(1), false).await.is_err());
        assert!(tokens.permissions(new.expose(), digest(2), false).await.is_ok());
        let twice = [rules(&old), rules(&new)].concat();
        assert_eq!(tokens.replace(&twice), Err(RulesError::SameName("a".to_owned())));
        assert!(tokens.permissions(new.expose(), digest(2), false).await.is_ok());
    }

    #[test]
    fn errors_in_a_token_file_name_the_line_but_no_secret() {
        for (file, line) in [
            ("[[token]]\nname = \"a\"\nhash = \"hush\"\n", 3),
            ("[[token]]\nname = \"a\"\nhash = hush\n", 3),
            ("token = 7\n", 1),
            ("[[token]]\nname = \"a\"\n", 1),
            ("[[tokens]]\n", 1),
        ] {
            let error = TokenRule::read(file).unwrap_err();
            assert!(
                matches!(error, RulesError::Syntax { line: at, .. } if at == line),
                "{file} {error}"
            );
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        let token = Secret::generate();
        assert!(
            TokenRule::read(&text("a", &token, "publsh = []"))
                .unwrap_err()
                .to_string()
                .contains("publsh")
        );
        assert_eq!(TokenRule::read(&text(" ", &token, "")), Err(RulesError::Name));
        assert!(TokenRule::read(&text("a", &token, "publish = [\"a b\"]")).is_err());
        assert_eq!(TokenRule::read(""), Ok(vec![]));
    }
}
