//! Tokens that the server generates, and stores so that links keep working after a restart.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Secret, StreamPatterns, TokenRule};

/// Tokens that the server has generated. They are stored in the clear, because links contain them; only the owner can read the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedTokens {
    /// Publishes and watches every stream.
    pub publish: Secret,
    /// Watches every stream.
    pub watch: Secret,
    /// Administers the server.
    pub admin: Secret,
}

impl GeneratedTokens {
    /// The rules of the tokens.
    pub(super) fn rules(&self) -> Vec<TokenRule> {
        let rule = |name: &str, secret: &Secret, publish, watch, admin| TokenRule {
            name: name.to_owned(),
            hash: secret.hash(),
            publish,
            watch,
            admin,
        };
        vec![
            rule(
                "publish",
                &self.publish,
                StreamPatterns::all(),
                StreamPatterns::all(),
                false,
            ),
            rule(
                "watch",
                &self.watch,
                StreamPatterns::none(),
                StreamPatterns::all(),
                false,
            ),
            rule(
                "admin",
                &self.admin,
                StreamPatterns::none(),
                StreamPatterns::none(),
                true,
            ),
        ]
    }

    fn generate() -> GeneratedTokens {
        GeneratedTokens {
            publish: Secret::generate(),
            watch: Secret::generate(),
            admin: Secret::generate(),
        }
    }

    fn read(text: &str) -> Option<GeneratedTokens> {
        let value: Value = serde_json::from_str(text).ok()?;
        // The file may have been edited: reject tokens that are too short to be safe.
        let secret = |name: &str| {
            value[name]
                .as_str()
                .filter(|text| text.len() >= SECRET_MIN)
                .map(Secret::new)
        };
        Some(GeneratedTokens {
            publish: secret("publish")?,
            watch: secret("watch")?,
            admin: secret("admin")?,
        })
    }

    fn write(&self) -> String {
        let GeneratedTokens { publish, watch, admin } = self;
        let value = json!({ "publish": publish.expose(), "watch": watch.expose(), "admin": admin.expose() });
        format!("{value:#}\n")
    }
}

/// Loads the tokens of an earlier start or generates new ones. Also returns the file that stores them, or why they are valid for this run
/// only.
pub fn load_or_generate(directory: Option<&Path>) -> (GeneratedTokens, Result<PathBuf, String>) {
    let Some(directory) = directory else {
        let why = "there is no directory to store them: specify one with --state-dir".to_owned();
        return (GeneratedTokens::generate(), Err(why));
    };
    let file = directory.join(FILE);
    match kept(directory, &file) {
        Ok(made) => (made, Ok(file)),
        Err(why) => (GeneratedTokens::generate(), Err(why)),
    }
}

fn kept(directory: &Path, file: &Path) -> Result<GeneratedTokens, String> {
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    create(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let made = GeneratedTokens::generate();
    let Some(other) = write_new(file, &made.write()).map_err(failed)? else {
        return Ok(made);
    };
    let text = read(file, &other).map_err(failed)?;
    let unreadable = || {
        format!(
            "{} is invalid: remove it, and the server generates new tokens",
            file.display()
        )
    };
    GeneratedTokens::read(&text).ok_or_else(unreadable)
}

fn create(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Metadata of a file that this process created: stored tokens must have the same owner.
type Ours = fs::Metadata;

/// Writes the file and returns `None`. An existing file stays: of two servers that start together, one writes the tokens and the other
/// reads them, and neither ever sees an incomplete file.
fn write_new(file: &Path, text: &str) -> io::Result<Option<Ours>> {
    let mut unfinished = file.to_owned();
    // Not the process id: two servers in containers that share the directory may both have process id 1.
    unfinished.set_file_name(format!(".{FILE}.{}", &Secret::generate().expose()[..8]));
    let written = write(&unfinished, text).and_then(|ours| match fs::hard_link(&unfinished, file) {
        Ok(()) => Ok(None),
        Err(_) if file.exists() => Ok(Some(ours)),
        // Some file systems have no hard links.
        Err(_) => fs::rename(&unfinished, file).map(|()| None),
    });
    let _ = fs::remove_file(&unfinished);
    written
}

fn write(file: &Path, text: &str) -> io::Result<Ours> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(file)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    opened.metadata()
}

fn read(file: &Path, ours: &Ours) -> io::Result<String> {
    let mut text = String::new();
    let opened = fs::File::open(file)?;
    if !is_of_same_owner(&opened.metadata()?, ours) {
        // Otherwise any user who may write to the directory could choose the tokens.
        return Err(io::Error::other(
            "it belongs to another user: specify a directory of your own with --state-dir",
        ));
    }
    #[cfg(unix)]
    only_for_owner(&opened)?;
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn is_of_same_owner(file: &fs::Metadata, ours: &Ours) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.uid() == ours.uid()
}

#[cfg(not(unix))]
fn is_of_same_owner(_: &fs::Metadata, _: &Ours) -> bool {
    true
}

/// Restoring a backup may have made the file readable for every user.
#[cfg(unix)]
fn only_for_owner(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

const FILE: &str = "tokens.json";
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// 128 bits in base64.
const SECRET_MIN: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state/onecast");
        let file = state.join(FILE);
        let (first, kept) = load_or_generate(Some(&state));
        assert_eq!(kept, Ok(file.clone()));
        assert_eq!(load_or_generate(Some(&state)), (first.clone(), Ok(file.clone())));
        assert!(first.publish != first.watch && first.watch != first.admin);

        fs::write(&file, "{}").unwrap();
        let (other, kept) = load_or_generate(Some(&state));
        assert!(other != first && kept.unwrap_err().contains("remove it"));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_tokens() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("onecast");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (first, _) = load_or_generate(Some(&state));
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        fs::set_permissions(state.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load_or_generate(Some(&state)).0, first);
        assert_eq!(mode(&state.join(FILE)), 0o600);
    }

    #[test]
    fn servers_that_start_together_have_the_same_tokens() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("onecast");
        let start = std::sync::Barrier::new(8);
        let servers = || {
            start.wait();
            load_or_generate(Some(&state))
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(servers)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|(made, kept)| *made == all[0].0 && kept.is_ok()));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn tokens_of_another_owner_are_rejected() {
        let place = tempfile::tempdir().unwrap();
        let (first, _) = load_or_generate(Some(place.path()));
        let file = place.path().join(FILE);
        // Only root may give files away. For other users, a file of root's stands for one of the process.
        let ours = if std::os::unix::fs::chown(&file, Some(65_534), None).is_ok() {
            let (other, kept) = load_or_generate(Some(place.path()));
            assert!(other != first && kept.unwrap_err().contains("another user"));
            fs::metadata(place.path()).unwrap()
        } else {
            fs::metadata("/").unwrap()
        };
        assert!(read(&file, &ours).unwrap_err().to_string().contains("another user"));
    }

    #[test]
    fn without_a_directory_tokens_are_for_this_run() {
        let (first, kept) = load_or_generate(None);
        assert!(kept.unwrap_err().contains("--state-dir"));
        assert_ne!(load_or_generate(None).0, first);
        let file = tempfile::NamedTempFile::new().unwrap();
        let (_, kept) = load_or_generate(Some(&file.path().join("below")));
        assert!(kept.is_err());
    }

    #[test]
    fn each_token_has_one_purpose() {
        let made = GeneratedTokens::generate();
        let rules = made.rules();
        let live = onecast_control::StreamName::default();
        let good: Vec<_> = rules
            .iter()
            .map(|rule| (rule.publish.has(&live), rule.watch.has(&live), rule.admin))
            .collect();
        assert_eq!(good, [(true, true, false), (false, true, false), (false, false, true)]);
        assert!(rules[1].hash.matches(made.watch.expose()) && !rules[1].hash.matches(made.publish.expose()));
    }
}
