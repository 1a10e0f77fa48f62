//! Options of the STUN and TURN servers for clients.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use clap::Args;

use crate::turn::{
    CredentialText, CredentialTextError, IceServers, IceServersError, IceUrl, SharedSecret, TurnCredentials,
};
use onecast_clients::values::duration;

/// Options of the STUN and TURN servers for clients.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "STUN and TURN")]
pub struct IceArgs {
    /// STUN or TURN server for clients (repeatable), such as turn:turn.example.org:3478?transport=udp. Only clients behind firewalls that
    /// block UDP need one
    #[arg(long, value_name = "URL", env = "ONECAST_ICE_SERVER", value_delimiter = ',')]
    pub ice_server: Vec<IceUrl>,

    /// File with the secret shared with the TURN server (coturn: use-auth-secret, static-auth-secret). Each client gets its own login
    #[arg(
        long,
        value_name = "FILE",
        env = "ONECAST_TURN_SECRET_FILE",
        conflicts_with_all = ["turn_username", "turn_password_file"]
    )]
    pub turn_secret_file: Option<PathBuf>,

    /// Validity of such a login, 1m to 720h. Some TURN servers end sessions that outlive it; coturn does not
    #[arg(long, value_name = "TIME", env = "ONECAST_TURN_TTL", default_value = "12h", value_parser = ttl)]
    pub turn_ttl: Duration,

    /// User name of all clients at the TURN servers, instead of --turn-secret-file
    #[arg(
        long,
        value_name = "NAME",
        env = "ONECAST_TURN_USERNAME",
        requires = "turn_password_file"
    )]
    pub turn_username: Option<CredentialText>,

    /// File with the password for --turn-username
    #[arg(
        long,
        value_name = "FILE",
        env = "ONECAST_TURN_PASSWORD_FILE",
        requires = "turn_username"
    )]
    pub turn_password_file: Option<PathBuf>,
}

/// Why the STUN and TURN servers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IceArgsError {
    /// The file of a secret cannot be read.
    #[error("{option} {}: {source}", file.display())]
    Unreadable {
        /// The option that names the file.
        option: &'static str,
        /// Its name.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of the secret is empty.
    #[error("--turn-secret-file {} is empty; put the value of coturn's static-auth-secret there", .0.display())]
    NoSecret(PathBuf),
    /// A password that some clients could not parse.
    #[error("the password in --turn-password-file {} cannot be used: {source}", file.display())]
    Password {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: CredentialTextError,
    },
    /// Servers and credentials do not match.
    #[error(transparent)]
    Servers(#[from] IceServersError),
}

impl IceArgs {
    /// The servers with their credentials; reads the files.
    ///
    /// # Errors
    /// When a file cannot be used, or servers and credentials do not match.
    pub fn servers(&self) -> Result<IceServers, IceArgsError> {
        Ok(IceServers::new(self.ice_server.clone(), self.credentials()?)?)
    }

    fn credentials(&self) -> Result<Option<TurnCredentials>, IceArgsError> {
        if let Some(file) = &self.turn_secret_file {
            let text = read("--turn-secret-file", file)?;
            let secret = SharedSecret::new(text.trim()).ok_or_else(|| IceArgsError::NoSecret(file.clone()))?;
            let ttl = self.turn_ttl;
            return Ok(Some(TurnCredentials::TimeLimited { secret, ttl }));
        }
        let (Some(username), Some(file)) = (&self.turn_username, &self.turn_password_file) else {
            return Ok(None);
        };
        let password = read("--turn-password-file", file)?.trim().parse();
        let password = password.map_err(|source| IceArgsError::Password {
            file: file.clone(),
            source,
        })?;
        let username = username.clone();
        Ok(Some(TurnCredentials::Fixed { username, password }))
    }
}

fn read(option: &'static str, file: &Path) -> Result<String, IceArgsError> {
    fs::read_to_string(file).map_err(|source| IceArgsError::Unreadable {
        option,
        file: file.to_owned(),
        source,
    })
}

fn ttl(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time from 1m to 720h, such as 12h or 30m".to_owned();
    let minutes_an_hour = 60;
    let ttl = match text.trim().strip_suffix('h') {
        Some(hours) => duration(&format!("{hours}m")).map_err(|_| expected())? * minutes_an_hour,
        None => duration(text).map_err(|_| expected())?,
    };
    // Not shorter than a page may take to connect, and not so long that it is no limit.
    let sensible = Duration::from_secs(60)..=Duration::from_secs(720 * 3600);
    sensible.contains(&ttl).then_some(ttl).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};

    fn args(arguments: &[&str]) -> Result<IceArgs, String> {
        let cli = Cli::try_parse_from([&["onecast"], arguments].concat()).map_err(|error| error.to_string())?;
        match cli.into_command() {
            Command::Serve(args) => Ok(args.ice),
            other => panic!("not serve: {other:?}"),
        }
    }

    fn refused(arguments: &[&str]) -> String {
        match args(arguments) {
            Ok(args) => args.servers().unwrap_err().to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn servers_may_be_repeated_or_listed() {
        let expected: Vec<IceUrl> = vec!["stun:a.example".parse().unwrap(), "stun:b.example:1".parse().unwrap()];
        for arguments in [
            &["--ice-server", "stun:a.example", "--ice-server", "stun:b.example:1"][..],
            &["--ice-server", "stun:a.example,stun:b.example:1"],
        ] {
            assert_eq!(args(arguments).unwrap().ice_server, expected);
        }
        assert!(args(&[]).unwrap().servers().unwrap().is_empty());
    }

    #[test]
    fn secrets_come_from_files_without_their_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let turn = ["--ice-server", "turn:a.example"];
        let with = |more: &[&str]| args(&[&turn, more].concat()).unwrap().servers().unwrap();
        let password = file("password", "westward\r\n");
        let fixed = with(&["--turn-username", "user", "--turn-password-file", &password]);
        let login = fixed.for_client(Duration::ZERO)[0].login.clone().unwrap();
        assert_eq!(
            (login.username.as_str(), login.credential.as_str()),
            ("user", "westward")
        );
        let limited = with(&["--turn-secret-file", &file("secret", "north\n"), "--turn-ttl", "2h"]);
        let login = limited.for_client(Duration::from_secs(1))[0].login.clone().unwrap();
        assert!(login.username.starts_with("7201:"), "{login:?}");

        let refused = |more: &[&str]| refused(&[&turn, more].concat());
        assert!(refused(&["--turn-secret-file", &file("empty", "\n")]).contains("is empty; put"));
        let spaced = file("spaced", "go west");
        let text = refused(&["--turn-username", "user", "--turn-password-file", &spaced]);
        assert!(text.contains("cannot be used") && !text.contains("west"), "{text}");
        assert!(refused(&["--turn-secret-file", "/no/such/file"]).starts_with("--turn-secret-file /no/such/file: "));
    }

    #[test]
    fn unusable_servers_are_refused_with_a_remedy() {
        assert!(refused(&["--ice-server", "turn://a.example"]).contains("turn:turn.example.org, not"));
        assert!(refused(&["--ice-server", "turn:a.example"]).contains("--turn-secret-file (for coturn"));
        assert!(refused(&["--turn-username", "user"]).contains("--turn-password-file"));
        assert!(refused(&["--turn-password-file", "f"]).contains("--turn-username"));
        let both = [
            "--turn-username",
            "u",
            "--turn-password-file",
            "f",
            "--turn-secret-file",
            "f",
        ];
        assert!(refused(&both).contains("cannot be used with"));
        assert!(refused(&["--turn-username", "a b", "--turn-password-file", "f"]).contains("visible ASCII"));
        for text in ["59s", "721h", "h", "-1h", "soon", "1e9h"] {
            assert!(
                refused(&[&format!("--turn-ttl={text}")]).contains("from 1m to 720h"),
                "{text}"
            );
        }
        for (text, seconds) in [("12h", 43_200), ("0.5h", 1_800), ("90", 90), ("1m", 60)] {
            assert_eq!(
                args(&["--turn-ttl", text]).unwrap().turn_ttl,
                Duration::from_secs(seconds)
            );
        }
    }
}
