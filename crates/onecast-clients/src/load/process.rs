//! CPU time and memory of a process on this machine. Linux only.

use std::time::Duration;

use onecast_udp::process_cpu_time;

/// Resources used by a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all threads so far, user and system, including those that have ended.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Usage {
    /// Usage of a process; `None` when it does not exist or the system does not tell.
    pub fn of(pid: u32) -> Option<Usage> {
        let cpu = process_cpu_time(pid)?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident_bytes = resident_kib(&status)? * 1_024;
        Some(Usage { cpu, resident_bytes })
    }

    /// Usage of this process.
    pub fn own() -> Option<Usage> {
        Usage::of(std::process::id())
    }
}

/// CPU time of each running thread of a process, user and system, by name. Empty when the system does not tell.
pub fn thread_times(pid: u32) -> Vec<(String, Duration)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let times = tasks.filter_map(|task| {
        let folder = task.ok()?.path();
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        let text = std::fs::read_to_string(folder.join("schedstat")).ok()?;
        let ran = Duration::from_nanos(text.split_ascii_whitespace().next()?.parse().ok()?);
        Some((name.trim_end().to_owned(), ran))
    });
    times.collect()
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_its_line() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1_234));
        assert_eq!(resident_kib("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_usage_and_a_missing_process_has_none() {
        let own = Usage::own().unwrap();
        assert!(own.resident_bytes > 0);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
