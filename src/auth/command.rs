//! `onecast token`: generates tokens and their hashes.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use clap::{Args, Subcommand};

use super::{Pattern, Secret, StreamPatterns, TokenHash, Tokens};

/// Generates tokens and hashes.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Generates tokens and hashes.
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum TokenCommand {
    /// Generate a token: prints it once, together with its entry for the configuration
    New(NewTokenArgs),
    /// Print the hash of a password from standard input
    Hash,
}

#[derive(Debug, Clone, Args)]
struct NewTokenArgs {
    /// Its name in the configuration. A client with the same token takes over its own stream
    #[arg(default_value = "token", value_parser = name)]
    name: String,

    /// A stream that it may publish; * stands for any characters (repeatable) [default: live, if there is no other permission]
    #[arg(long, value_name = "STREAM")]
    publish: Vec<Pattern>,

    /// A stream that it may watch (repeatable)
    #[arg(long, value_name = "STREAM")]
    watch: Vec<Pattern>,

    /// It may administer the server
    #[arg(long)]
    admin: bool,
}

/// Runs the command and returns the exit code.
pub fn run(args: TokenArgs) -> u8 {
    let done = match args.command {
        TokenCommand::New(args) => new(&args),
        TokenCommand::Hash => hash(),
    };
    match done {
        Ok(text) => u8::from(io::stdout().write_all(text.as_bytes()).is_err()),
        Err(why) => {
            eprintln!("error: {why}");
            2
        }
    }
}

fn new(args: &NewTokenArgs) -> Result<String, String> {
    let rooms = |patterns: &[Pattern]| StreamPatterns::of(patterns.to_vec()).map_err(|error| error.to_string());
    let mut publish = args.publish.clone();
    if publish.is_empty() && args.watch.is_empty() && !args.admin {
        publish.push("live".parse().expect("a name is a pattern"));
    }
    let secret = Secret::generate();
    Ok(format!(
        "The token, which is shown only this once: {}\n\nFor the configuration file or the file of --tokens-file:\n\n{}",
        secret.expose(),
        table(
            &args.name,
            &secret.hash(),
            &rooms(&publish)?,
            &rooms(&args.watch)?,
            args.admin
        )
    ))
}

/// The rule in TOML.
fn table(name: &str, hash: &TokenHash, publish: &StreamPatterns, watch: &StreamPatterns, admin: bool) -> String {
    let list = |rooms: &StreamPatterns| {
        let quoted: Vec<String> = rooms.patterns().map(|pattern| format!("{pattern:?}")).collect();
        quoted.join(", ")
    };
    format!(
        "[[token]]\nname = {}\nhash = \"{hash}\"\npublish = [{}]\nwatch = [{}]\nadmin = {admin}\n",
        toml::Value::from(name),
        list(publish),
        list(watch)
    )
}

fn hash() -> Result<String, String> {
    if io::stdin().is_terminal() {
        eprintln!("Type the password, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    let read = io::stdin().take(PASSWORD_MAX + 2).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the password: {error}"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err("standard input contains no password".to_owned());
    }
    // Only these characters are possible in a header.
    if !password.bytes().all(|byte| byte.is_ascii_graphic()) || password.len() as u64 > PASSWORD_MAX {
        return Err(format!(
            "a password has at most {PASSWORD_MAX} visible ASCII characters and no spaces"
        ));
    }
    Ok(format!("{}\n", Secret::new(password).hash_slowly()))
}

fn name(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && text.len() <= Tokens::NAME_MAX && !text.contains(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(super::RulesError::Name.to_string())
    }
}

/// Longest password, bytes.
const PASSWORD_MAX: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenRule;

    #[test]
    fn the_printed_entry_is_a_valid_configuration() {
        let good = NewTokenArgs {
            name: "a \"studio\"".to_owned(),
            publish: vec!["live".parse().unwrap(), "demo-*".parse().unwrap()],
            watch: vec!["*".parse().unwrap()],
            admin: true,
        };
        let text = new(&good).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let secret = first.rsplit(' ').next().unwrap();
        let rules = TokenRule::read(rest.split_once("\n\n").unwrap().1).unwrap();
        assert!(rules[0].hash.matches(secret) && rules[0].admin && rules[0].name == good.name);
        assert!(!rest.contains(secret));
        let stream = |name: &str| name.parse().unwrap();
        assert!(rules[0].publish.has(&stream("demo-2")) && !rules[0].publish.has(&stream("other")));
    }
}
