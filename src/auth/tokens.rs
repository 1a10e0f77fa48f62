//! Static tokens: a list of names, hashes and what each is good for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Credential, Denied, Powers, Rooms, TokenDigest, TokenHash};

/// A token, as a configuration file has it:
///
/// ```toml
/// [[token]]
/// name = "studio"              # unique; who comes with the same token takes over their own stream
/// hash = "sha256:9f86d0.."     # as printed by `onecast token new` or `onecast token hash`
/// publish = ["live", "demo-*"] # streams that may be published; * stands for any characters; default: none
/// watch = ["*"]                # streams that may be watched; default: none
/// admin = false                # whether /api may be used to see and end what others do; default: false
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRule {
    /// Its name, for people.
    pub name: String,
    /// What is kept of it.
    pub hash: TokenHash,
    /// Streams that may be published with it.
    #[serde(default)]
    pub publish: Rooms,
    /// Streams that may be watched with it.
    #[serde(default)]
    pub watch: Rooms,
    /// Whether it is an administrator's.
    #[serde(default)]
    pub admin: bool,
}

/// A file that has tokens, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<TokenRule>,
}

/// Why a list of tokens cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// It is no TOML, or not of this form. Where and why; without the text, which may be a secret.
    #[error("line {line}: {why}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Two have the same name.
    #[error("two tokens have the name {0:?}")]
    SameName(String),
    /// A name that cannot be told apart or printed.
    #[error("a token's name is 1 to {} visible characters", Tokens::NAME_MAX)]
    Name,
    /// Too many.
    #[error("at most {} tokens are taken", Tokens::RULES_MAX)]
    TooMany,
    /// Too many slow ones.
    #[error(
        "at most {} argon2 hashes are taken, because each is tried; give generated tokens to the others",
        Tokens::SLOW_MAX
    )]
    TooManySlow,
}

/// Tokens in use. They may be replaced while the server runs.
#[derive(Debug)]
pub struct Tokens {
    rules: RwLock<Arc<Rules>>,
    /// Who computes argon2 at this moment.
    slow: Arc<Semaphore>,
    /// Who may wait for that.
    waiting: Semaphore,
}

#[derive(Debug)]
struct Rules {
    all: Vec<(TokenHash, Arc<Powers>)>,
    /// Tokens that argon2 has found right, so that it is asked once for each. At most as many as there are slow rules.
    verified: RwLock<HashMap<[u8; 32], Arc<Powers>>>,
}

impl TokenRule {
    /// Reads the text of a file with `[[token]]` tables.
    ///
    /// # Errors
    /// With the line, when it cannot be read.
    pub fn read(text: &str) -> Result<Vec<TokenRule>, RulesError> {
        let TokenFile { token } = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        check(&token)?;
        Ok(token)
    }

    /// Reads the `[[token]]` tables of a file that may have other things, too.
    ///
    /// # Errors
    /// With the line, when they cannot be read.
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

    fn powers(&self) -> Powers {
        Powers {
            credential: Credential(format!("token:{}", self.name).into()),
            publish: self.publish.clone(),
            watch: self.watch.clone(),
            admin: self.admin,
        }
    }
}

impl Tokens {
    /// Most tokens: each hash is compared with each token that comes.
    pub const RULES_MAX: usize = 4_096;
    /// Most argon2 hashes: a wrong token costs 20 ms for each.
    pub const SLOW_MAX: usize = 16;
    /// Longest name, bytes.
    pub const NAME_MAX: usize = 64;
    /// How many compute argon2 at once: one core stays for everybody else.
    const SLOW_AT_ONCE: usize = 1;
    /// How many may wait for it.
    const WAITING_MAX: usize = 32;
    /// And for how long.
    const WAIT_MAX: Duration = Duration::from_secs(3);
    /// Longest token that is looked at, bytes.
    const TOKEN_MAX: usize = 4_096;

    /// Takes these tokens.
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

    /// Takes these tokens instead.
    ///
    /// # Errors
    /// When the list cannot be used; the old one then stays.
    pub fn replace(&self, rules: &[TokenRule]) -> Result<(), RulesError> {
        let rules = Arc::new(Rules::new(rules)?);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// What a token is good for. `digest` recognises it again; when `hurried`, nothing slow is done.
    pub(super) async fn powers(&self, token: &str, digest: TokenDigest, hurried: bool) -> Result<Arc<Powers>, Denied> {
        let unknown = || Denied::Wrong("this token is not known here".to_owned());
        if token.is_empty() || token.len() > Tokens::TOKEN_MAX {
            return Err(unknown());
        }
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(powers) = rules.quickly(token, digest) {
            return Ok(powers);
        }
        if hurried || !rules.has_slow() {
            return Err(unknown());
        }
        self.slowly(rules, token, digest).await?.ok_or_else(unknown)
    }

    async fn slowly(&self, rules: Arc<Rules>, token: &str, digest: TokenDigest) -> Result<Option<Arc<Powers>>, Denied> {
        let busy = || Denied::Unavailable("too many passwords are being checked at this moment".to_owned());
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(Tokens::WAIT_MAX, self.slow.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let token = super::Secret::new(token);
        // The turn goes with the work: who asked may have left, and the work would go on without being counted.
        let work = tokio::task::spawn_blocking(move || {
            let found = rules.slowly(token.tell(), digest);
            drop(turn);
            found
        });
        work.await.map_err(|_| busy())
    }
}

impl Rules {
    fn new(rules: &[TokenRule]) -> Result<Rules, RulesError> {
        check(rules)?;
        let all = rules.iter().map(|rule| (rule.hash.clone(), Arc::new(rule.powers())));
        Ok(Rules {
            all: all.collect(),
            verified: RwLock::default(),
        })
    }

    fn has_slow(&self) -> bool {
        self.all.iter().any(|(hash, _)| hash.is_slow())
    }

    /// All hashes are compared whatever is found, each in constant time: how long it takes tells nothing.
    fn quickly(&self, token: &str, digest: TokenDigest) -> Option<Arc<Powers>> {
        let mut found = None;
        let token = super::secret::sha256(token);
        for (hash, powers) in &self.all {
            if hash.is_digest(&token) {
                found = Some(powers);
            }
        }
        let verified = || {
            let verified = self.verified.read().unwrap_or_else(PoisonError::into_inner);
            verified.get(&digest.0).cloned()
        };
        found.cloned().or_else(verified)
    }

    fn slowly(&self, token: &str, digest: TokenDigest) -> Option<Arc<Powers>> {
        let mut slow = self.all.iter().filter(|(hash, _)| hash.is_slow());
        let powers = slow
            .find(|(hash, _)| hash.is_of(token))
            .map(|(_, powers)| powers.clone())?;
        let mut verified = self.verified.write().unwrap_or_else(PoisonError::into_inner);
        if verified.len() < Tokens::SLOW_MAX {
            verified.insert(digest.0, powers.clone());
        }
        Some(powers)
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

/// A message of another's making on one line, and not too long.
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

/// Takes any bytes for a file of tokens. What can be read can be used, and what cannot is told in one line.
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
    async fn a_file_of_tokens_says_what_each_is_good_for() {
        let (studio, admin) = (Secret::generate(), Secret::generate());
        let file = text("studio", &studio, "publish = [\"live\", \"demo-*\"]\nwatch = \"*\"")
            + &text("admin", &admin, "admin = true");
        let tokens = Tokens::new(&TokenRule::read(&file).unwrap()).unwrap();
        let powers = tokens.powers(studio.tell(), digest(1), false).await.unwrap();
        assert_eq!(&*powers.credential.0, "token:studio");
        let stream = |name: &str| -> StreamName { name.parse().unwrap() };
        for (action, name, may) in [
            (Action::Publish, "live", true),
            (Action::Publish, "demo-1", true),
            (Action::Publish, "other", false),
            (Action::Watch, "other", true),
            (Action::Administer, "live", false),
        ] {
            assert_eq!(
                powers.suffice(action, Some(&stream(name))).is_ok(),
                may,
                "{action:?} {name}"
            );
        }
        let powers = tokens.powers(admin.tell(), digest(2), false).await.unwrap();
        assert!(powers.suffice(Action::Administer, None).is_ok());
        assert!(powers.suffice(Action::Publish, Some(&stream("live"))).is_err());

        for wrong in ["", "x", &studio.hash().to_string(), &"x".repeat(100_000)] {
            assert!(matches!(
                tokens.powers(wrong, digest(3), false).await,
                Err(Denied::Wrong(_))
            ));
        }
    }

    #[tokio::test]
    async fn a_password_is_computed_once_and_not_in_a_hurry() {
        let password = Secret::new("correct horse");
        let rule = TokenRule {
            name: "person".to_owned(),
            hash: password.hash_slowly(),
            publish: Rooms::all(),
            watch: Rooms::none(),
            admin: false,
        };
        let tokens = Tokens::new(&[rule]).unwrap();
        assert!(tokens.powers(password.tell(), digest(1), true).await.is_err());
        assert!(tokens.powers("wrong horse", digest(2), false).await.is_err());
        assert!(tokens.powers(password.tell(), digest(1), false).await.is_ok());
        // Known by now, so that it is not computed any more.
        assert!(tokens.powers(password.tell(), digest(1), true).await.is_ok());
        assert!(tokens.powers("wrong horse", digest(2), true).await.is_err());
    }

    #[tokio::test]
    async fn tokens_that_are_replaced_do_not_count_any_more() {
        let (old, new) = (Secret::generate(), Secret::generate());
        let rules = |token: &Secret| TokenRule::read(&text("a", token, "publish = \"*\"")).unwrap();
        let tokens = Tokens::new(&rules(&old)).unwrap();
        assert!(tokens.powers(old.tell(), digest(1), false).await.is_ok());
        tokens.replace(&rules(&new)).unwrap();
        assert!(tokens.powers(old.tell(), digest(1), false).await.is_err());
        assert!(tokens.powers(new.tell(), digest(2), false).await.is_ok());
        let twice = [rules(&old), rules(&new)].concat();
        assert_eq!(tokens.replace(&twice), Err(RulesError::SameName("a".to_owned())));
        assert!(tokens.powers(new.tell(), digest(2), false).await.is_ok());
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_without_its_secrets() {
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
