//! Programs and abilities of the machine that tests need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Something that tests need and not every machine has.
#[derive(Debug)]
pub struct Requirement {
    /// What is needed, as in "needs Chromium".
    pub name: &'static str,
    /// How to get it: a command where there is one.
    pub install: &'static str,
    /// Whether its absence is a failure with `CI=true`.
    pub in_ci: bool,
    is_met: LazyLock<bool>,
}

impl Requirement {
    /// The check runs at most once.
    pub const fn new(name: &'static str, install: &'static str, is_met: fn() -> bool) -> Requirement {
        Requirement {
            name,
            install,
            in_ci: true,
            is_met: LazyLock::new(is_met),
        }
    }

    /// Its absence is no failure in CI either: containers may not have it.
    pub const fn optional_in_ci(mut self) -> Requirement {
        self.in_ci = false;
        self
    }

    /// Whether this machine has it.
    pub fn is_met(&self) -> bool {
        *self.is_met
    }
}

/// Finds a program in `PATH`, or in `target/tools`, where `.ci/run` installs what no package provides.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let mut folders = std::env::split_paths(&path).chain([tools]);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

/// Chromium, driven through ChromeDriver.
pub static CHROMIUM: Requirement = Requirement::new(
    "Chromium and ChromeDriver",
    "apt-get install chromium chromium-driver",
    || have(&["chromium", "chromedriver"]),
);

/// Firefox, which is driven directly.
pub static FIREFOX: Requirement = Requirement::new("Firefox", "apt-get install firefox-esr", || {
    have(&["firefox-esr"]) || have(&["firefox"])
});

/// A TURN server.
pub static COTURN: Requirement = Requirement::new("coturn", "apt-get install coturn", || have(&["turnserver"]));

/// Let's Encrypt's ACME test server with its DNS server.
pub static PEBBLE: Requirement = Requirement::new(
    "Pebble",
    "GOBIN=$PWD/target/tools go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.0 \
     github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.0",
    || have(&["pebble", "pebble-challtestsrv"]),
);

/// A video decoder that is not ours.
pub static FFMPEG: Requirement = Requirement::new("ffmpeg", "apt-get install ffmpeg", || have(&["ffmpeg"]));

/// `unshare --user --map-root-user --net`, for a network of the test's own.
pub static NETWORK_NAMESPACES: Requirement = Requirement::new(
    "network namespaces",
    "apt-get install util-linux iproute2; unprivileged user namespaces must be enabled",
    || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "ip", "link"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    },
)
.optional_in_ci();

/// Signals and file modes.
pub static UNIX: Requirement =
    Requirement::new("a Unix system", "run the tests on Linux or macOS", || cfg!(unix)).optional_in_ci();

fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| find_program(program).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path() {
        let shell = find_program("sh").expect("every machine has a shell");
        assert!(shell.is_absolute());
        assert_eq!(find_program("no-such-program"), None);
    }
}
