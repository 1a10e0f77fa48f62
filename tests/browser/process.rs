//! Child processes: what they write is read line by line, and their end is waited for with a limit.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Reads `from` to its end on a thread of its own: a pipe that nobody reads would stop its writer when it is full.
pub(crate) fn each_line(from: impl Read + Send + 'static, mut take: impl FnMut(&str) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            take(&line);
        }
    });
}

/// Has the command lead a process group, to which all processes that it starts belong.
pub(crate) fn lead_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
}

/// Sends a signal by its name, to a process or with a minus before the number to a process group.
pub(crate) fn signal(name: &str, target: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), "--", target]).status();
}

/// `None` when the process still runs after `limit`.
pub(crate) async fn ended(process: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = async {
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, end).await.ok()
}
