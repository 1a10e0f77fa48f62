//! Checks whether the system grants the threads and the memory that the program needs at the start.

use std::io;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

/// The system refuses what is needed.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesError {
    /// Too few threads.
    #[error(
        "the system does not let this program have {count} threads: {source}; raise its limits (ulimit -u and ulimit -v, or TasksMax= \
         and LimitAS= of its systemd unit), or have fewer media threads with --shards"
    )]
    Threads {
        /// How many are needed at once.
        count: usize,
        /// What the system said.
        source: io::Error,
    },
    /// Too little memory.
    #[error(
        "the system does not let this program have {mib} MiB of memory to begin with; raise its limit (ulimit -v, or LimitAS= of its \
         systemd unit), or have fewer media threads with --shards"
    )]
    Memory {
        /// How much that is.
        mib: usize,
    },
}

/// Checks this with threads that do nothing, before the runtime starts its own: a runtime that gets only some of its threads panics
/// and waits for them for ever, and a process without memory cannot continue.
///
/// # Errors
/// When the system refuses the threads or the memory.
pub fn check(threads: usize, mib: usize) -> Result<(), ResourcesError> {
    check_with(threads, mib, |barrier| {
        thread::Builder::new().spawn(move || {
            barrier.wait();
        })
    })
}

fn check_with(
    count: usize,
    mib: usize,
    mut spawn: impl FnMut(Arc<Barrier>) -> io::Result<JoinHandle<()>>,
) -> Result<(), ResourcesError> {
    // Memory first, returned unused: a thread that gets its stack but not the little that the standard library needs beside it ends the
    // process, and each thread also makes the allocator reserve memory that it does not need.
    let stacks = count.saturating_mul(STACK);
    if Vec::<u8>::new().try_reserve_exact(mib << 20).is_err() {
        return Err(ResourcesError::Memory { mib });
    }
    if Vec::<u8>::new()
        .try_reserve_exact(stacks.saturating_add(mib << 20))
        .is_err()
    {
        let source = io::ErrorKind::OutOfMemory.into();
        return Err(ResourcesError::Threads { count, source });
    }
    // Each waits for this one with a barrier of its own, so that all of them are there at once.
    let mut threads = Vec::with_capacity(count);
    let mut refused = None;
    while threads.len() < count && refused.is_none() {
        let barrier = Arc::new(Barrier::new(2));
        match spawn(barrier.clone()) {
            Ok(thread) => threads.push((barrier, thread)),
            Err(source) => refused = Some(ResourcesError::Threads { count, source }),
        }
    }
    for (barrier, thread) in threads {
        barrier.wait();
        let _ = thread.join();
    }
    refused.map_or(Ok(()), Err)
}

/// The standard library's 2 MiB, the stack for signals, and guard pages.
const STACK: usize = (2 << 20) + (64 << 10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_threads_are_there_at_once_and_gone_afterwards() {
        let here = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let spawn = |barrier: Arc<Barrier>| {
            let (here, most) = (here.clone(), most.clone());
            most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::Builder::new().spawn(move || {
                barrier.wait();
                here.fetch_sub(1, Ordering::SeqCst);
            })
        };
        check_with(5, 1, spawn).unwrap();
        assert_eq!((here.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 5));
    }

    #[test]
    fn one_that_is_refused_is_told_in_one_line_and_ends_the_others() {
        let mut left = 2;
        let spawn = |barrier: Arc<Barrier>| {
            if left == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            left -= 1;
            thread::Builder::new().spawn(move || {
                barrier.wait();
            })
        };
        let text = check_with(5, 1, spawn).unwrap_err().to_string();
        assert!(
            text.contains("have 5 threads") && text.contains("--shards") && text.lines().count() == 1,
            "{text}"
        );
    }

    #[test]
    fn memory_that_no_system_has_is_told_in_one_line() {
        let text = check(1, usize::MAX >> 21).unwrap_err().to_string();
        assert!(text.contains("MiB of memory") && text.lines().count() == 1, "{text}");
    }
}
