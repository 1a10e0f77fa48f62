//! Options from everywhere: the command line before the environment before the file before the defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command as ClapCommand, CommandFactory as _, FromArgMatches as _};

use super::file::{self, ConfigFile, ConfigFileError};
use super::{Cli, Command, ServeArgs};
use crate::auth::TokenRule;

/// What was asked for, and how to ask again.
#[derive(Debug)]
pub struct Loaded {
    /// What to do.
    pub command: Command,
    /// Where its options came from.
    pub sources: Sources,
}

/// The command line of this process: with it a changed file can be read again.
#[derive(Debug, Clone)]
pub struct Sources {
    words: Vec<OsString>,
    values: BTreeMap<String, Vec<OsString>>,
    tokens: Vec<TokenRule>,
}

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line, or the request for help: clap tells it best.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// The file is not there or cannot be read.
    #[error("the configuration file {} cannot be read: {source}", file.display())]
    Unreadable {
        /// Its name.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has faults.
    #[error("the configuration file {} cannot be used:\n{source}", file.display())]
    File {
        /// Its name.
        file: PathBuf,
        /// Its faults.
        source: ConfigFileError,
    },
    /// An option in the file has a value that it does not take.
    #[error("the configuration file {} cannot be used:\nline {line}: {what}", file.display())]
    Value {
        /// Its name.
        file: PathBuf,
        /// Line of the value.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// Reads all options of this process: `words` are its arguments, its own name first.
///
/// # Errors
/// When the command line or the configuration file cannot be used.
pub fn load(words: impl IntoIterator<Item = OsString>) -> Result<Loaded, LoadError> {
    let words: Vec<OsString> = words.into_iter().collect();
    // What is on the command line and in the environment, even if it is only good together with the file.
    let alone = Cli::command().ignore_errors(true).try_get_matches_from(&words)?;
    let Some(alone) = of_serve(&alone) else {
        let command = Cli::from_arg_matches(&matches(&words)?)?.into_command();
        let sources = Sources {
            words,
            values: BTreeMap::new(),
            tokens: Vec::new(),
        };
        return Ok(Loaded { command, sources });
    };
    let from_file = match alone.get_one::<PathBuf>("config") {
        Some(path) => Some((path.clone(), read(path)?)),
        None => None,
    };
    let all = match &from_file {
        Some((_, file)) => with_file(&words, alone, file),
        None => words.clone(),
    };
    let matches = matches(&all).map_err(|error| match &from_file {
        Some((path, file)) => blame(error, path.clone(), file),
        None => error.into(),
    })?;
    let values = of_serve(&matches).map(raw_values).unwrap_or_default();
    let mut command = Cli::from_arg_matches(&matches)?.into_command();
    let tokens = from_file.map(|(_, file)| file.tokens).unwrap_or_default();
    if let Command::Serve(args) = &mut command {
        args.auth.token.clone_from(&tokens);
    }
    let sources = Sources { words, values, tokens };
    Ok(Loaded { command, sources })
}

impl Sources {
    /// Reads everything again. Gives the options, and the names of those that have changed since.
    ///
    /// # Errors
    /// As [`load`]; the options stay what they were.
    pub fn reload(&mut self) -> Result<(ServeArgs, Vec<String>), LoadError> {
        let Loaded { command, sources } = load(self.words.iter().cloned())?;
        let Command::Serve(args) = command else {
            unreachable!("the same words ask for the same command")
        };
        let names = self.values.keys().chain(sources.values.keys());
        let mut changed: Vec<String> = names
            .filter(|name| self.values.get(*name) != sources.values.get(*name))
            .cloned()
            .collect();
        if self.tokens != sources.tokens {
            changed.push(TOKENS.to_owned());
        }
        changed.sort();
        changed.dedup();
        (self.values, self.tokens) = (sources.values, sources.tokens);
        Ok((args, changed))
    }
}

/// The options of `serve`, as a command of their own.
pub(super) fn serve_command() -> ClapCommand {
    ServeArgs::augment_args(ClapCommand::new("serve"))
}

/// A file that has every option with its description and default, each as a comment.
pub fn example() -> String {
    file::example(&serve_command())
}

/// Reads a file and checks it as far as it can be without a command line.
///
/// # Errors
/// As [`load`].
pub fn check(path: &Path) -> Result<usize, LoadError> {
    let file = read(path)?;
    let words = [OsString::from("onecast"), "serve".into()];
    let nothing = Cli::command().ignore_errors(true).try_get_matches_from(&words)?;
    let all = match of_serve(&nothing) {
        Some(nothing) => with_file(&words, nothing, &file),
        None => words.to_vec(),
    };
    match matches(&all) {
        Ok(_) => Ok(file.settings.len()),
        Err(error) => Err(blame(error, path.to_owned(), &file)),
    }
}

fn read(path: &Path) -> Result<ConfigFile, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Unreadable {
        file: path.to_owned(),
        source,
    })?;
    ConfigFile::parse(&text, &serve_command()).map_err(|source| LoadError::File {
        file: path.to_owned(),
        source,
    })
}

/// What the words say. A value that may have a secret in it is not repeated when it is wrong: the error is for a journal, too.
fn matches(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    Cli::command().try_get_matches_from(words).map_err(|mut error| {
        let serve = serve_command();
        let named = error
            .get(ContextKind::InvalidArg)
            .map(ToString::to_string)
            .unwrap_or_default();
        let named = named
            .trim_start_matches("--")
            .split([' ', '='])
            .next()
            .unwrap_or_default();
        let mut options = file::options(&serve);
        if options.any(|option| option.get_long() == Some(named) && option.is_hide_env_values_set()) {
            error.insert(ContextKind::InvalidValue, ContextValue::String("..".to_owned()));
        }
        error
    })
}

/// The words with those of the file in front of their options, but for what the command line or the environment says.
fn with_file(words: &[OsString], said: &ArgMatches, file: &ConfigFile) -> Vec<OsString> {
    let serve = serve_command();
    let free = file.settings.iter().filter(|setting| {
        let id = setting.option.replace('-', "_");
        !matches!(
            said.value_source(&id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    });
    let inserted = free.flat_map(|setting| setting.arguments(&serve)).map(OsString::from);
    let is_named = words.get(1).is_some_and(|word| word == OsStr::new("serve"));
    let (before, after) = words.split_at(words.len().min(if is_named { 2 } else { 1 }));
    before
        .iter()
        .cloned()
        .chain(inserted)
        .chain(after.iter().cloned())
        .collect()
}

/// Tells a fault of the file with its line; others are left to clap.
fn blame(error: clap::Error, path: PathBuf, file: &ConfigFile) -> LoadError {
    let named = error
        .get(ContextKind::InvalidArg)
        .map(ToString::to_string)
        .unwrap_or_default();
    let option = named
        .trim_start_matches("--")
        .split([' ', '='])
        .next()
        .unwrap_or_default();
    let Some(setting) = file.settings.iter().find(|setting| setting.option == option) else {
        return error.into();
    };
    let text = error.to_string();
    let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    LoadError::Value {
        file: path,
        line: setting.line,
        what: what.to_owned(),
    }
}

/// The matches of `serve`, which is what is done without a subcommand; `None` for other subcommands.
fn of_serve(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand() {
        None => Some(matches),
        Some(("serve", serve)) => Some(serve),
        Some(_) => None,
    }
}

fn raw_values(matches: &ArgMatches) -> BTreeMap<String, Vec<OsString>> {
    let serve = serve_command();
    let named = file::options(&serve).filter_map(|option| {
        let values = matches.get_raw(option.get_id().as_str())?;
        Some((option.get_long()?.to_owned(), values.map(OsStr::to_owned).collect()))
    });
    named.collect()
}

/// What is said of the tokens when they have changed.
const TOKENS: &str = "[[token]]";

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn loaded(file: &tempfile::NamedTempFile, more: &[&str]) -> Result<ServeArgs, String> {
        let words = [&["onecast", "--config", file.path().to_str().unwrap()], more].concat();
        let loaded = load(words.into_iter().map(OsString::from)).map_err(|error| error.to_string())?;
        match loaded.command {
            Command::Serve(args) => Ok(args),
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn the_file_comes_after_the_command_line_and_before_the_defaults() {
        let file = file("max-viewers = 7\nmax-streams = 8\npublic-ip = [\"203.0.113.7\"]\n");
        let args = loaded(&file, &["--max-streams", "9", "--public-ip", "203.0.113.8"]).unwrap();
        assert_eq!((args.max_viewers, args.max_streams), (7, 9));
        assert_eq!(args.joins_per_second, 1_000);
        assert_eq!(args.public_ip, ["203.0.113.8".parse::<std::net::IpAddr>().unwrap()]);
    }

    #[test]
    fn the_subcommand_may_be_named() {
        let file = file("max-viewers = 7");
        let words = ["onecast", "serve", "--config", file.path().to_str().unwrap()];
        let loaded = load(words.into_iter().map(OsString::from)).unwrap();
        assert!(matches!(loaded.command, Command::Serve(args) if args.max_viewers == 7));
    }

    #[test]
    fn what_belongs_together_may_come_from_both() {
        let file = file("public-ip = \"203.0.113.7\"");
        assert!(loaded(&file, &["--announce-only-public"]).unwrap().announce_only_public);
    }

    #[test]
    fn a_value_that_cannot_be_is_told_with_its_line() {
        let file = file("max-viewers = 7\nstart-cache-bytes = \"eight\"");
        let error = loaded(&file, &[]).unwrap_err();
        assert!(error.contains("line 2: ") && error.contains("such as 8M"), "{error}");
        assert!(check(file.path()).unwrap_err().to_string().contains("line 2: "));
        let alone = self::file("announce-only-public = true");
        assert!(loaded(&alone, &[]).unwrap_err().contains("--public-ip"));
    }

    #[test]
    fn a_secret_in_a_wrong_value_is_not_repeated() {
        for option in ["jwks-url", "auth-webhook"] {
            let words = ["onecast".to_owned(), format!("--{option}=user:s-e-c-r-e-t@host")].map(OsString::from);
            let error = load(words).unwrap_err().to_string();
            assert!(error.contains(option) && !error.contains("s-e-c-r-e-t"), "{error}");
            let file = file(&format!("{option} = \"user:s-e-c-r-e-t@host\""));
            let error = loaded(&file, &[]).unwrap_err();
            assert!(error.contains("line 1: ") && !error.contains("s-e-c-r-e-t"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let words = ["onecast", "--config", "/no/such/onecast.toml"].map(OsString::from);
        assert!(load(words).unwrap_err().to_string().contains("/no/such/onecast.toml"));
    }

    #[test]
    fn other_commands_read_no_file() {
        let words = ["onecast", "bench"].map(OsString::from);
        assert!(matches!(load(words).unwrap().command, Command::Bench(_)));
        let words = ["onecast", "--no-such-option"].map(OsString::from);
        assert!(matches!(load(words), Err(LoadError::CommandLine(_))));
    }

    #[test]
    fn a_reload_tells_what_has_changed() {
        let file = file("max-viewers = 7\nshards = 1");
        let words = [
            "onecast",
            "--config",
            file.path().to_str().unwrap(),
            "--max-streams",
            "5",
        ]
        .map(OsString::from);
        let mut sources = load(words).unwrap().sources;
        assert_eq!(sources.reload().unwrap().1, [""; 0]);
        fs::write(file.path(), "max-viewers = 8\npin = true\nmax-streams = 6").unwrap();
        let (args, changed) = sources.reload().unwrap();
        assert_eq!(changed, ["max-viewers", "pin", "shards"]);
        assert_eq!((args.max_viewers, args.max_streams, args.pin), (8, 5, true));
        fs::write(file.path(), "max-viewers = \"many\"").unwrap();
        assert!(sources.reload().is_err());
        fs::write(file.path(), "max-viewers = 8\npin = true").unwrap();
        assert_eq!(sources.reload().unwrap().1, [""; 0]);
    }
}
