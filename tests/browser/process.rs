//! Child processes: their output line by line, and their end within a limit.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Reads `from` to its end on its own thread: a full pipe would block its writer.
pub(crate) fn each_line(from: impl Read + Send + 'static, mut take: impl FnMut(&str) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            take(&line);
        }
    });
}

/// Makes the command the leader of a process group, so that all its processes can be ended together.
pub(crate) fn lead_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
}

/// Sends a signal by name to a process, or to a process group if the number is negative.
pub(crate) fn signal(name: &str, target: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), "--", target]).status();
}

/// Waits for the end of the process. `None` if it still runs after `limit`.
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
