//! Reads options from all sources. The command line takes precedence over the environment, the environment over the file, and the file
//! over the defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::builder::{OsStr as OsStrValue, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args as _, Command as ClapCommand, CommandFactory as _, FromArgMatches as _};

use super::file::{self, ConfigFile, ConfigFileError, Setting};
use super::{Cli, Command, ServeArgs};
use crate::auth::TokenRule;

/// The parsed options, and what is needed to read them again.
#[derive(Debug)]
pub struct Loaded {
    /// The subcommand.
    pub command: Command,
    /// Where its options came from.
    pub sources: Sources,
}

/// The command line of this process and the values in force, so that a changed file can be read again.
#[derive(Debug, Clone)]
pub struct Sources {
    words: Vec<OsString>,
    values: BTreeMap<String, Vec<OsString>>,
    tokens: Vec<TokenRule>,
}

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A faulty command line, or a request for help: clap explains it best.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// An environment variable has an invalid value.
    #[error("the environment variable {variable} cannot be used: {what}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong with the value.
        what: String,
    },
    /// The file is missing or cannot be read.
    #[error("the configuration file {} cannot be read: {source}", file.display())]
    Unreadable {
        /// Its name.
        file: PathBuf,
        /// The system's error.
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
}

/// Reads all options of this process. `words` are its arguments, starting with its own name.
///
/// # Errors
/// When the command line, an environment variable or the configuration file cannot be used.
pub fn load(words: impl IntoIterator<Item = OsString>) -> Result<Loaded, LoadError> {
    let words: Vec<OsString> = words.into_iter().collect();
    let without_file = leniently(&words)?;
    let path = of_serve(&without_file).and_then(|serve| serve.get_one::<PathBuf>("config"));
    let mut file = path.map(|path| read(path)).transpose()?.unwrap_or_default();
    let matches = match path {
        Some(path) => strictly_with_file(&words, path, &file)?,
        None => strictly(&words)?,
    };
    let values = of_serve(&matches).map(raw_values).unwrap_or_default();
    let mut command = Cli::from_arg_matches(&matches)?.into_command();
    let tokens = std::mem::take(&mut file.tokens);
    if let Command::Serve(args) = &mut command {
        args.auth.token.clone_from(&tokens);
    }
    let sources = Sources { words, values, tokens };
    Ok(Loaded { command, sources })
}

impl Sources {
    /// Reads everything again. Returns the options and the names of those that have changed.
    ///
    /// # Errors
    /// As [`load`]; the values in force stay as they were.
    pub fn reload(&mut self) -> Result<(ServeArgs, Vec<String>), LoadError> {
        let Loaded { command, sources } = load(self.words.iter().cloned())?;
        let Command::Serve(args) = command else {
            unreachable!("the same words select the same subcommand")
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

/// The options of `serve`, as a separate command.
pub(super) fn serve_command() -> ClapCommand {
    ServeArgs::augment_args(ClapCommand::new("serve"))
}

/// A file with every option, its description and its default, each commented out.
pub fn example() -> String {
    file::example(&serve_command())
}

/// Validates a file as far as possible without a command line. Returns how many options it sets.
///
/// # Errors
/// As [`load`].
pub fn check(path: &Path) -> Result<usize, LoadError> {
    let file = read(path)?;
    let words = [OsString::from("onecast"), "serve".into()];
    strictly_with_file(&words, path, &file)?;
    Ok(file.settings.len())
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

/// The command line. The server's options stand at the top, for `onecast` alone, and in `serve`: with a subcommand, those at the top read
/// no variables, or a variable of the server would be an error of `serve --OPTION`, `watch` and `config` as well.
fn command_line(words: &[OsString]) -> ClapCommand {
    let command = Cli::command();
    let is_named = words.get(1).is_some_and(|word| command.find_subcommand(word).is_some());
    if is_named {
        command.mut_args(|option| option.env(Resettable::<OsStrValue>::Reset))
    } else {
        command
    }
}

/// What the words and the environment set, even if that is valid only together with the file.
fn leniently(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    command_line(words).ignore_errors(true).try_get_matches_from(words)
}

/// What the words and the environment set. The error does not repeat a value that may contain a secret, because errors go to the
/// journal.
fn strictly(words: &[OsString]) -> Result<ArgMatches, LoadError> {
    command_line(words).try_get_matches_from(words).map_err(|mut error| {
        let named = option_of(&error);
        let serve = serve_command();
        let option = serve.get_arguments().find(|option| option.get_long() == Some(&named));
        if option.is_some_and(Arg::is_hide_env_values_set) {
            error.insert(ContextKind::InvalidValue, ContextValue::String("..".to_owned()));
        }
        let is_of_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
        let option = option.filter(|_| is_of_value && !is_among(words, &named));
        match option.and_then(variable) {
            Some(variable) => LoadError::Environment {
                variable,
                what: in_one_line(&error),
            },
            None => error.into(),
        }
    })
}

/// Name of the option's environment variable, if that is set.
fn variable(option: &Arg) -> Option<String> {
    let name = option.get_env()?;
    env::var_os(name).map(|_| name.to_string_lossy().into_owned())
}

/// Whether the option stands on the command line.
fn is_among(words: &[OsString], option: &str) -> bool {
    let is_named = |word: &str| word.strip_prefix("--").and_then(|word| word.split('=').next()) == Some(option);
    words.iter().any(|word| is_named(&word.to_string_lossy()))
}

/// As [`strictly`], with the settings of the file inserted before the other options, except those that the command line or the
/// environment sets, even to an invalid value. A fault of the file names its line.
fn strictly_with_file(words: &[OsString], path: &Path, file: &ConfigFile) -> Result<ArgMatches, LoadError> {
    let serve = serve_command();
    let is_overridden = |option: &str| {
        let mut arguments = serve.get_arguments();
        let argument = arguments.find(|argument| argument.get_long() == Some(option));
        is_among(words, option) || argument.and_then(variable).is_some()
    };
    let settings = file.settings.iter().filter(|setting| !is_overridden(&setting.option));
    let settings: Vec<&Setting> = settings.collect();
    let inserted = settings
        .iter()
        .flat_map(|setting| setting.words.iter().map(OsString::from));
    let is_named = words.get(1).is_some_and(|word| word == "serve");
    let mut words = words.to_vec();
    let at = words.len().min(if is_named { 2 } else { 1 });
    words.splice(at..at, inserted);
    strictly(&words).map_err(|error| match error {
        LoadError::CommandLine(error) => blame(error, path, &settings),
        other => other,
    })
}

/// Attributes an error to the line of the file that caused it, if any.
fn blame(error: clap::Error, path: &Path, settings: &[&Setting]) -> LoadError {
    let option = option_of(&error);
    let Some(setting) = settings.iter().find(|setting| setting.option == option) else {
        return error.into();
    };
    let text = error.to_string();
    let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    LoadError::File {
        file: path.to_owned(),
        source: ConfigFileError::at(setting.line, what.to_owned()),
    }
}

/// An error without the reference to `--help`.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .take_while(|line| !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// Name of the option that an error is about, without dashes. clap gives it as `--name <VALUE>` or `--name=<VALUE>`.
fn option_of(error: &clap::Error) -> String {
    let named = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let named = named.unwrap_or_default();
    let name = named.trim_start_matches("--").split([' ', '=']).next();
    name.unwrap_or_default().to_owned()
}

/// The matches of `serve`, the default subcommand; `None` for other subcommands.
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

/// Name under which a changed set of tokens is reported.
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
    fn the_command_line_overrides_the_file_and_the_file_the_defaults() {
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
    fn options_that_need_each_other_may_come_from_both() {
        let file = file("public-ip = \"203.0.113.7\"");
        assert!(loaded(&file, &["--announce-only-public"]).unwrap().announce_only_public);
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_line() {
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
    fn a_reload_reports_what_changed() {
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
