//! Tokens that the server makes itself, and keeps so that a restart does not break the links that people have.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Rooms, Secret, TokenRule};

/// Tokens that the server has made. They are kept in the clear, because its links carry them; the file is its owner's only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// For publishing and watching every stream.
    pub publish: Secret,
    /// For watching every stream.
    pub watch: Secret,
    /// For administration.
    pub admin: Secret,
}

impl Made {
    /// What each of them is good for.
    pub(super) fn rules(&self) -> Vec<TokenRule> {
        let rule = |name: &str, secret: &Secret, publish, watch, admin| TokenRule {
            name: name.to_owned(),
            hash: secret.hash(),
            publish,
            watch,
            admin,
        };
        vec![
            rule("publish", &self.publish, Rooms::all(), Rooms::all(), false),
            rule("watch", &self.watch, Rooms::none(), Rooms::all(), false),
            rule("admin", &self.admin, Rooms::none(), Rooms::none(), true),
        ]
    }

    fn generate() -> Made {
        Made {
            publish: Secret::generate(),
            watch: Secret::generate(),
            admin: Secret::generate(),
        }
    }

    fn read(text: &str) -> Option<Made> {
        let value: Value = serde_json::from_str(text).ok()?;
        // Somebody may have written the file; what is too short to be safe is not taken.
        let secret = |name: &str| {
            value[name]
                .as_str()
                .filter(|text| text.len() >= SECRET_MIN)
                .map(Secret::new)
        };
        Some(Made {
            publish: secret("publish")?,
            watch: secret("watch")?,
            admin: secret("admin")?,
        })
    }

    fn write(&self) -> String {
        let Made { publish, watch, admin } = self;
        let value = json!({ "publish": publish.tell(), "watch": watch.tell(), "admin": admin.tell() });
        format!("{value:#}\n")
    }
}

/// The tokens that were made at an earlier start, or new ones; and the file that keeps them, or why they will not outlive this run.
pub fn made(directory: Option<&Path>) -> (Made, Result<PathBuf, String>) {
    let Some(directory) = directory else {
        let why = "there is no place for them: give one with --state-dir".to_owned();
        return (Made::generate(), Err(why));
    };
    let file = directory.join(FILE);
    match kept(directory, &file) {
        Ok(made) => (made, Ok(file)),
        Err(why) => (Made::generate(), Err(why)),
    }
}

fn kept(directory: &Path, file: &Path) -> Result<Made, String> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    create(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let made = Made::generate();
    let Some(other) = write_new(file, &made.write()).map_err(told)? else {
        return Ok(made);
    };
    let text = read(file, &other).map_err(told)?;
    let unreadable = || {
        format!(
            "{} cannot be understood: remove it, and new ones are made",
            file.display()
        )
    };
    Made::read(&text).ok_or_else(unreadable)
}

fn create(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// What a file of our own making is like: those that are kept must be of the same owner.
type Ours = fs::Metadata;

/// `None` when it is written. When there is one already it stays: of two servers that start together, one makes the tokens and the other
/// takes them, and neither ever sees half a file.
fn write_new(file: &Path, text: &str) -> io::Result<Option<Ours>> {
    let mut unfinished = file.to_owned();
    // Two servers in containers with one directory may both have the process number 1.
    unfinished.set_file_name(format!(".{FILE}.{}", &Secret::generate().tell()[..8]));
    let written = write(&unfinished, text).and_then(|ours| match fs::hard_link(&unfinished, file) {
        Ok(()) => Ok(None),
        Err(_) if file.exists() => Ok(Some(ours)),
        // Some file systems have no links.
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
        // Somebody who may write into the directory would otherwise choose the tokens.
        return Err(io::Error::other(
            "it belongs to somebody else: give a directory of your own with --state-dir",
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

/// A backup may have brought it back readable for everybody.
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
    fn links_outlive_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state/onecast");
        let file = state.join(FILE);
        let (first, kept) = made(Some(&state));
        assert_eq!(kept, Ok(file.clone()));
        assert_eq!(made(Some(&state)), (first.clone(), Ok(file.clone())));
        assert!(first.publish != first.watch && first.watch != first.admin);

        fs::write(&file, "{}").unwrap();
        let (other, kept) = made(Some(&state));
        assert!(other != first && kept.unwrap_err().contains("remove it"));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_tokens() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("onecast");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (first, _) = made(Some(&state));
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        fs::set_permissions(state.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(made(Some(&state)).0, first);
        assert_eq!(mode(&state.join(FILE)), 0o600);
    }

    #[test]
    fn servers_that_start_together_have_the_same_tokens() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("onecast");
        let start = std::sync::Barrier::new(8);
        let servers = || {
            start.wait();
            made(Some(&state))
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(servers)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|(made, kept)| *made == all[0].0 && kept.is_ok()));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[cfg(unix)]
    #[test]
    fn tokens_that_somebody_else_chose_are_not_taken() {
        let place = tempfile::tempdir().unwrap();
        let (first, _) = made(Some(place.path()));
        let file = place.path().join(FILE);
        // Only root may give files away; others are stopped by the file's mode.
        if std::os::unix::fs::chown(&file, Some(65_534), None).is_err() {
            return;
        }
        let (other, kept) = made(Some(place.path()));
        assert!(other != first && kept.unwrap_err().contains("somebody else"));
    }

    #[test]
    fn without_a_place_tokens_are_for_this_run() {
        let (first, kept) = made(None);
        assert!(kept.unwrap_err().contains("--state-dir"));
        assert_ne!(made(None).0, first);
        let file = tempfile::NamedTempFile::new().unwrap();
        let (_, kept) = made(Some(&file.path().join("below")));
        assert!(kept.is_err());
    }

    #[test]
    fn each_token_is_good_for_one_thing() {
        let made = Made::generate();
        let rules = made.rules();
        let live = onecast_control::StreamName::default();
        let good: Vec<_> = rules
            .iter()
            .map(|rule| (rule.publish.has(&live), rule.watch.has(&live), rule.admin))
            .collect();
        assert_eq!(good, [(true, true, false), (false, true, false), (false, false, true)]);
        assert!(rules[1].hash.is_of(made.watch.tell()) && !rules[1].hash.is_of(made.publish.tell()));
    }
}
