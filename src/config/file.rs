//! The configuration file: TOML whose keys are the names of the options.

use std::fmt;
use std::ops::Range;

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::auth::{RulesError, TokenRule};

/// What a file says, not yet checked against what the options take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFile {
    /// In the order of the file.
    pub settings: Vec<Setting>,
    /// Its `[[token]]` tables.
    pub tokens: Vec<TokenRule>,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Name of the option, without dashes in front.
    pub option: String,
    /// As they would stand on the command line; several for options that may be repeated.
    pub values: Vec<String>,
    /// Line in the file, from 1.
    pub line: usize,
}

/// Why a file cannot be used: every fault that it has, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", listed(.0))]
pub struct ConfigFileError(Vec<Fault>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    line: usize,
    what: String,
}

impl ConfigFile {
    /// Reads a file for the options of `command`.
    ///
    /// # Errors
    /// When it is not TOML, or has keys or types that no option has.
    pub fn parse(text: &str, command: &Command) -> Result<ConfigFile, ConfigFileError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            ConfigFileError(vec![Fault::new(line, format!("this is not TOML: {}", error.message()))])
        })?;
        let mut file = ConfigFile::default();
        let mut faults = Vec::new();
        for (key, value) in table.get_ref() {
            if key.get_ref() == TOKEN {
                continue;
            }
            let line = line_of(text, &key.span());
            match setting(command, key.get_ref(), value, line) {
                Ok(setting) => file.settings.push(setting),
                Err(what) => faults.push(Fault::new(line, what)),
            }
        }
        match TokenRule::read_among_others(text) {
            Ok(tokens) => file.tokens = tokens,
            Err(RulesError::Syntax { line, why }) => faults.push(Fault::new(line, why)),
            Err(error) => faults.push(Fault::new(line_of_first(text, TOKEN), error.to_string())),
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

impl Setting {
    /// Words for the command line that say the same.
    pub(super) fn arguments(&self, command: &Command) -> Vec<String> {
        let is_switch = option(command, &self.option).is_some_and(is_switch);
        let values = self.values.iter();
        values
            .filter_map(|value| match (is_switch, value.as_str()) {
                (true, "true") => Some(format!("--{}", self.option)),
                (true, _) => None,
                (false, value) => Some(format!("--{}={value}", self.option)),
            })
            .collect()
    }
}

impl Fault {
    fn new(line: usize, what: String) -> Fault {
        Fault { line, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// A file that has every option with its description and default, each as a comment.
pub(super) fn example(command: &Command) -> String {
    let mut text = "# Configuration of onecast. Every option of the command line may stand here under its name; what the command line or an\n\
                    # ONECAST_ variable says comes first. `onecast config check FILE` tells whether a file is good.\n"
        .to_owned();
    for argument in options(command) {
        let name = argument.get_long().unwrap_or_default();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in wrapped(&help, 118) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{name} = {}\n", example_value(argument)));
    }
    text.push_str(TOKEN_EXAMPLE);
    text
}

/// Reads any bytes and panics if a promise is broken: what is read can be written as words, what cannot is told line by line.
#[doc(hidden)]
pub fn fuzz_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let command = super::layers::serve_command();
    match ConfigFile::parse(text, &command) {
        Ok(file) => {
            for setting in &file.settings {
                let words = setting.arguments(&command);
                assert!(words.len() <= setting.values.len() && words.iter().all(|word| word.starts_with("--")));
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

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    options(command).find(|argument| argument.get_long() == Some(name))
}

fn setting(command: &Command, key: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<Setting, String> {
    // Either dash is taken: people know both from other files.
    let name = key.replace('_', "-");
    let option = option(command, &name).ok_or_else(|| unknown(command, key, &name))?;
    let expected = |what: &str| format!("{key} takes {what}");
    let values = match value.get_ref() {
        DeValue::Boolean(value) if is_switch(option) => vec![value.to_string()],
        _ if is_switch(option) => return Err(expected("true or false")),
        DeValue::Array(values) if is_list(option) => {
            let values = values.iter().map(|value| scalar(value.get_ref()));
            let values: Option<Vec<String>> = values.collect();
            values.ok_or_else(|| expected("a list of texts or numbers"))?
        }
        DeValue::Array(_) => return Err(expected("one value, not a list")),
        value => vec![scalar(value).ok_or_else(|| expected("a text or a number"))?],
    };
    Ok(Setting {
        option: name,
        values,
        line,
    })
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

fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

fn example_value(option: &Arg) -> String {
    if is_switch(option) {
        return "false".to_owned();
    }
    let default = option.get_default_values().first().and_then(|value| value.to_str());
    let placeholder = option.get_value_names().and_then(|names| names.first());
    let value = default.or(placeholder.map(|name| name.as_str())).unwrap_or_default();
    let written = if value.parse::<i64>().is_ok() {
        value.to_owned()
    } else {
        toml::Value::from(value).to_string()
    };
    if is_list(option) {
        format!("[{written}]")
    } else {
        written
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The line of the first table of this name.
fn line_of_first(text: &str, table: &str) -> usize {
    let head = format!("[[{table}]]");
    1 + text.lines().take_while(|line| line.trim() != head).count()
}

fn listed(faults: &[Fault]) -> String {
    let shown = faults.iter().take(FAULTS_SHOWN).map(ToString::to_string);
    let mut lines: Vec<String> = shown.collect();
    if faults.len() > FAULTS_SHOWN {
        lines.push(format!("and {} more", faults.len() - FAULTS_SHOWN));
    }
    lines.join("\n")
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            let space = if line.is_empty() { "" } else { " " };
            line.push_str(space);
            line.push_str(word);
        }
    }
    lines
}

/// Name of the tables of tokens.
const TOKEN: &str = "token";
/// Likeness (Jaro-Winkler) from which a name is suggested.
const LIKE: f64 = 0.8;
/// Tables stand behind everything else in TOML.
const TOKEN_EXAMPLE: &str = "
# Tokens, as many as you like. `onecast token new NAME` makes one and prints its table, `onecast token hash` hashes one
# that you have. Who comes with the same token as before takes over their own live stream.
#[[token]]
#name = \"studio\"
#hash = \"sha256:...\"
#publish = [\"live\", \"demo-*\"]
#watch = [\"*\"]
#admin = false
";
/// More faults than this are only counted.
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
        let arguments = settings.iter().flat_map(|setting| setting.arguments(&serve_command()));
        arguments.collect()
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
    fn every_fault_is_told_with_its_line_and_a_suggestion() {
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
    fn the_example_names_every_option_and_its_defaults_are_good() {
        let command = serve_command();
        let text = example(&command);
        assert_eq!(parse(&text).unwrap().settings, []);
        let defaults: String = options(&command)
            .filter(|option| !option.get_default_values().is_empty() || is_switch(option))
            .map(|option| format!("{} = {}\n", option.get_long().unwrap(), example_value(option)))
            .collect();
        assert!(parse(&defaults).unwrap().settings.len() > 10);
        for option in options(&command) {
            assert!(text.contains(&format!("\n#{} = ", option.get_long().unwrap())));
        }
        assert!(text.lines().all(|line| line.len() <= 121), "{text}");
    }

    #[test]
    fn tokens_stand_in_tables_of_their_own() {
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
