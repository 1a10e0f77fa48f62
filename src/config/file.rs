//! The configuration file: TOML whose keys are the names of the command-line options.
//!
//! Each key becomes the words that would set the option on the command line. clap then validates values and combinations once, for all
//! sources, so there is a single definition of the options.

use std::ops::Range;

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::auth::{RulesError, TokenRule};

/// What a file sets. The values are not validated yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConfigFile {
    /// In the order of the file.
    pub(super) settings: Vec<Setting>,
    /// Its `[[token]]` tables.
    pub(super) tokens: Vec<TokenRule>,
}

/// One key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Name of the option, without leading dashes.
    pub(super) option: String,
    /// The same on the command line; empty for a switch that is off.
    pub(super) words: Vec<String>,
    /// Line in the file, from 1.
    pub(super) line: usize,
}

/// Why a file cannot be used: all its faults, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ConfigFileError(Vec<Fault>);

/// One fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
struct Fault {
    line: usize,
    what: String,
}

impl ConfigFile {
    /// Reads a file for the options of `command`.
    ///
    /// # Errors
    /// When it is not TOML, has unknown keys, or values of the wrong type.
    pub(super) fn parse(text: &str, command: &Command) -> Result<ConfigFile, ConfigFileError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            ConfigFileError::at(line, format!("this is not TOML: {}", error.message()))
        })?;
        let mut file = ConfigFile::default();
        let mut faults = Vec::new();
        for (key, value) in table.get_ref().iter().filter(|(key, _)| key.get_ref() != TOKEN) {
            let line = line_of(text, &key.span());
            match setting(command, key.get_ref(), value.get_ref(), line) {
                Ok(setting) => file.settings.push(setting),
                Err(what) => faults.push(Fault { line, what }),
            }
        }
        match TokenRule::read_among_others(text) {
            Ok(tokens) => file.tokens = tokens,
            Err(RulesError::Syntax { line, why: what }) => faults.push(Fault { line, what }),
            Err(error) => faults.push(Fault {
                line: line_of_first(text, TOKEN),
                what: error.to_string(),
            }),
        }
        file.settings.sort_by_key(|setting| setting.line);
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(ConfigFileError(faults))
        }
    }
}

impl ConfigFileError {
    /// A single fault.
    pub(super) fn at(line: usize, what: String) -> ConfigFileError {
        ConfigFileError(vec![Fault { line, what }])
    }
}

/// A file with every option, its description and its default, each commented out.
pub(super) fn example(command: &Command) -> String {
    let mut text = "# Configuration of onecast. Every command-line option may be set here under its name. The command line and ONECAST_\n\
                    # variables take precedence. `onecast config check FILE` validates a file.\n"
        .to_owned();
    for option in options(command) {
        let name = option.get_long().unwrap_or_default();
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in wrap(&help, 118) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{name} = {}\n", example_value(option)));
    }
    text.push_str(TOKEN_EXAMPLE);
    text
}

/// Parses any bytes. Panics if a setting is not written as words of its option, or a fault has no line.
#[doc(hidden)]
pub fn fuzz_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ConfigFile::parse(text, &super::layers::serve_command()) {
        Ok(file) => {
            for Setting { option, words, .. } in &file.settings {
                let start = format!("--{option}");
                assert!(words.iter().all(|word| word.starts_with(&start)));
            }
        }
        Err(error) => assert!(error.to_string().starts_with("line ")),
    }
}

/// The options that a file may set.
pub(super) fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| {
        let name = argument.get_long().unwrap_or_default();
        !matches!(name, "" | "help" | "version" | "config") && !argument.is_hide_set()
    })
}

fn setting(command: &Command, key: &str, value: &DeValue<'_>, line: usize) -> Result<Setting, String> {
    // Either dash is accepted, because both are common in configuration files.
    let option = key.replace('_', "-");
    let definition = options(command).find(|argument| argument.get_long() == Some(&option));
    let definition = definition.ok_or_else(|| unknown(command, key, &option))?;
    let words = words(definition, &option, value).map_err(|expected| format!("{key} takes {expected}"))?;
    Ok(Setting { option, words, line })
}

/// The words that set an option, or which values it takes.
fn words(definition: &Arg, option: &str, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    let values = match (definition.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => return Ok(vec![format!("--{option}")]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => return Ok(vec![]),
        (ArgAction::SetTrue, _) => return Err("true or false"),
        (ArgAction::Append, DeValue::Array(values)) => {
            let values = values.iter().map(Spanned::get_ref).map(scalar);
            values.collect::<Option<_>>().ok_or("a list of texts or numbers")?
        }
        (_, DeValue::Array(_)) => return Err("one value, not a list"),
        (_, value) => vec![scalar(value).ok_or("a text or a number")?],
    };
    Ok(values.iter().map(|value| format!("--{option}={value}")).collect())
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn unknown(command: &Command, key: &str, name: &str) -> String {
    let known = options(command).filter_map(Arg::get_long);
    let likeness = known.map(|known| (strsim::jaro_winkler(known, name), known));
    let best = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b));
    let shown: String = key.chars().take(60).collect();
    match best {
        Some((likeness, known)) if likeness > LIKE => format!("there is no option {shown}; did you mean {known}?"),
        _ => format!("there is no option {shown}; `onecast config example` lists them all"),
    }
}

fn example_value(option: &Arg) -> String {
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return "false".to_owned();
    }
    let default = option.get_default_values().first().and_then(|value| value.to_str());
    let placeholder = option.get_value_names().and_then(|names| names.first());
    let value = default.or(placeholder.map(|name| name.as_str())).unwrap_or_default();
    let written = match value.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => toml::Value::from(value).to_string(),
    };
    match option.get_action() {
        ArgAction::Append => format!("[{written}]"),
        _ => written,
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The line of the first table with this name.
fn line_of_first(text: &str, table: &str) -> usize {
    let head = format!("[[{table}]]");
    1 + text.lines().take_while(|line| line.trim() != head).count()
}

fn list(faults: &[Fault]) -> String {
    let mut lines: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
    if faults.len() > FAULTS_SHOWN {
        lines.push(format!("and {} more", faults.len() - FAULTS_SHOWN));
    }
    lines.join("\n")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Name of the token tables.
const TOKEN: &str = "token";
/// Similarity (Jaro-Winkler) above which a name is suggested.
const LIKE: f64 = 0.8;
/// In TOML, tables come after all plain keys.
const TOKEN_EXAMPLE: &str = "
# Any number of tokens. `onecast token new NAME` makes one and prints its table; `onecast token hash` hashes an existing
# one. A broadcaster that returns with the same token takes over its own live stream.
#[[token]]
#name = \"studio\"
#hash = \"sha256:...\"
#publish = [\"live\", \"demo-*\"]
#watch = [\"*\"]
#admin = false
";
/// Further faults are only counted.
const FAULTS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::layers::serve_command;
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(text, &serve_command()).map_err(|error| error.to_string())
    }

    fn arguments(text: &str) -> Vec<String> {
        let settings = parse(text).unwrap().settings;
        settings.into_iter().flat_map(|setting| setting.words).collect()
    }

    #[test]
    fn keys_are_the_names_of_options_with_either_dash() {
        let text = "http = \"0.0.0.0:80\"\nmax_viewers = 1_000\n\npli-interval = \"3s\"\ndemo = true\npin = false\n\
                    public-ip = [\"203.0.113.7\", \"2001:db8::1\"]\n";
        let expected = [
            "--http=0.0.0.0:80",
            "--max-viewers=1000",
            "--pli-interval=3s",
            "--demo",
            "--public-ip=203.0.113.7",
            "--public-ip=2001:db8::1",
        ];
        assert_eq!(arguments(text), expected);
        assert_eq!(parse(text).unwrap().settings[2].line, 4);
    }

    #[test]
    fn every_fault_names_its_line_and_suggests_a_key() {
        let error = parse("htp = 1\ndemo = \"yes\"\nshards = [1]\nhttp = { a = 1 }\nxyzzy = 1\n[server]\nport = 1")
            .unwrap_err();
        for expected in [
            "line 1: there is no option htp; did you mean http?",
            "line 2: demo takes true or false",
            "line 3: shards takes one value, not a list",
            "line 4: http takes a text or a number",
            "line 5: there is no option xyzzy; `onecast config example`",
            "line 6: there is no option server",
        ] {
            assert!(error.contains(expected), "{expected} is not in\n{error}");
        }
        assert!(
            parse("a = 1\nb = = 2")
                .unwrap_err()
                .starts_with("line 2: this is not TOML")
        );
        let many: String = (0..100).map(|number| format!("k{number} = 1\n")).collect();
        assert!(parse(&many).unwrap_err().ends_with("and 80 more"));
    }

    #[test]
    fn the_example_names_every_option_and_its_defaults_are_valid() {
        let command = serve_command();
        let text = example(&command);
        assert_eq!(parse(&text).unwrap().settings, []);
        let defaults: String = options(&command)
            .filter(|option| !option.get_default_values().is_empty() || !option.get_action().takes_values())
            .map(|option| format!("{} = {}\n", option.get_long().unwrap(), example_value(option)))
            .collect();
        assert!(parse(&defaults).unwrap().settings.len() > 10);
        for option in options(&command) {
            assert!(text.contains(&format!("\n#{} = ", option.get_long().unwrap())));
        }
        assert!(text.lines().all(|line| line.len() <= 121), "{text}");
    }

    #[test]
    fn tokens_have_their_own_tables() {
        let hash = format!("sha256:{}", "5a".repeat(32));
        let text =
            format!("http = \"0.0.0.0:80\"\n[[token]]\nname = \"studio\"\nhash = \"{hash}\"\npublish = [\"live\"]\n");
        let file = parse(&text).unwrap();
        assert_eq!((file.settings.len(), file.tokens.len()), (1, 1));
        assert_eq!(file.tokens[0].name, "studio");
        assert!(parse(&text.replace("name", "nam")).unwrap_err().starts_with("line 3: "));
        assert!(
            parse(&text.replace("sha256", "sha999"))
                .unwrap_err()
                .starts_with("line ")
        );
        let twice = format!("{text}[[token]]\nname = \"studio\"\nhash = \"{hash}\"\n");
        assert!(parse(&twice).unwrap_err().contains("studio"));
        assert!(parse("token = 7").is_err());
    }

    #[test]
    fn a_file_cannot_name_another_file_nor_ask_for_help() {
        for key in ["config", "help", "version"] {
            assert!(parse(&format!("{key} = \"x\"")).is_err(), "{key}");
        }
    }
}
