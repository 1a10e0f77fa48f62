//! `onecast token`: makes tokens and their hashes, without a server.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use clap::{Args, Subcommand};

use super::{Pattern, Rooms, Secret, TokenHash, Tokens};

/// What to make.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// What to make.
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum TokenCommand {
    /// Make a token: prints it once, and what to put into the configuration
    New(Good),
    /// Print the hash of a password that is read from standard input
    Hash,
}

#[derive(Debug, Clone, Args)]
struct Good {
    /// Its name in the configuration: who comes with the same token takes over their own stream
    #[arg(default_value = "token", value_parser = name)]
    name: String,

    /// A stream that may be published with it; * stands for any characters (repeatable) [default: live, for a token that is good for
    /// nothing else]
    #[arg(long, value_name = "STREAM")]
    publish: Vec<Pattern>,

    /// A stream that may be watched with it (repeatable)
    #[arg(long, value_name = "STREAM")]
    watch: Vec<Pattern>,

    /// It is an administrator's
    #[arg(long)]
    admin: bool,
}

/// Runs the command; an exit code.
pub fn run(args: TokenArgs) -> u8 {
    let done = match args.command {
        TokenCommand::New(good) => new(&good),
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

fn new(good: &Good) -> Result<String, String> {
    let rooms = |patterns: &[Pattern]| Rooms::of(patterns.to_vec()).map_err(|error| error.to_string());
    let mut publish = good.publish.clone();
    if publish.is_empty() && good.watch.is_empty() && !good.admin {
        publish.push("live".parse().expect("a name is a pattern"));
    }
    let secret = Secret::generate();
    Ok(format!(
        "The token, which is shown this once: {}\n\nFor the configuration or the file of --tokens-file:\n\n{}",
        secret.tell(),
        table(
            &good.name,
            &secret.hash(),
            &rooms(&publish)?,
            &rooms(&good.watch)?,
            good.admin
        )
    ))
}

/// The rule in TOML.
fn table(name: &str, hash: &TokenHash, publish: &Rooms, watch: &Rooms, admin: bool) -> String {
    let list = |rooms: &Rooms| {
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
    read.map_err(|error| format!("the password cannot be read: {error}"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err("there is no password on standard input".to_owned());
    }
    // Others cannot stand in a header.
    if !password.bytes().all(|byte| byte.is_ascii_graphic()) || password.len() as u64 > PASSWORD_MAX {
        return Err(format!(
            "a password is up to {PASSWORD_MAX} visible ASCII characters without spaces"
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
    fn what_is_printed_can_be_pasted() {
        let good = Good {
            name: "a \"studio\"".to_owned(),
            publish: vec!["live".parse().unwrap(), "demo-*".parse().unwrap()],
            watch: vec!["*".parse().unwrap()],
            admin: true,
        };
        let text = new(&good).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let secret = first.rsplit(' ').next().unwrap();
        let rules = TokenRule::read(rest.split_once("\n\n").unwrap().1).unwrap();
        assert!(rules[0].hash.is_of(secret) && rules[0].admin && rules[0].name == good.name);
        assert!(!rest.contains(secret));
        let stream = |name: &str| name.parse().unwrap();
        assert!(rules[0].publish.has(&stream("demo-2")) && !rules[0].publish.has(&stream("other")));
    }
}
