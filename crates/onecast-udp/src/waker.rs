//! Waking the thread of a shard, without a system call while it is awake.
//!
//! One atomic word holds the state of the shard. Every change of it is a read-modify-write, so all changes have one order, and a
//! thread that reads a value also sees what was written before it (release, acquire). That is the whole argument:
//!
//! ```text
//!  shard                                   sender
//!  drain everything                        push to a lane
//!  prepare_sleep()      word := ASLEEP     wake()   old := word, word := NOTIFIED
//!  drain lanes once more                            if old was ASLEEP: write the eventfd
//!  wait()
//!       NOTIFIED: do not sleep
//!       word := AWAKE
//!  drain everything ...
//! ```
//!
//! A `wake` that comes before `prepare_sleep` is seen by the second draining, because `prepare_sleep` read the sender's word; one
//! that comes after it finds ASLEEP and writes. Of many senders only the first one writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Wakes the thread that waits in [`MediaSocket::wait`](super::socket::MediaSocket::wait). Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardWaker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    event: mio::Waker,
}

impl ShardWaker {
    pub(super) fn new(event: mio::Waker) -> ShardWaker {
        let state = AtomicU8::new(AWAKE);
        ShardWaker {
            shared: Arc::new(Shared { state, event }),
        }
    }

    /// Makes the shard look at its queues: call it after pushing. One atomic operation while the shard is awake, a system call
    /// when it sleeps.
    pub fn wake(&self) {
        if self.shared.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP
            && let Err(error) = self.shared.event.wake()
        {
            // The shard still wakes for its next datagram or timer; nothing better can be done here.
            tracing::warn!(%error, "cannot wake a shard");
        }
    }

    /// The shard says that it is about to sleep: from here on [`wake`](ShardWaker::wake) interrupts the wait. The shard looks at its
    /// queues once more after this call and may wait if they are empty. Without this call `wait` is correct too, but every `wake`
    /// since the wait before costs one turn.
    pub fn prepare_sleep(&self) {
        self.shared.state.swap(ASLEEP, Ordering::AcqRel);
    }

    /// False when something was pushed since the shard last looked.
    pub(super) fn may_sleep(&self) -> bool {
        let state = &self.shared.state;
        match state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(now) => now == ASLEEP,
        }
    }

    pub(super) fn awake(&self) {
        self.shared.state.swap(AWAKE, Ordering::AcqRel);
    }
}

/// The shard runs, nothing new since its wait ended.
const AWAKE: u8 = 0;
/// The shard sleeps or is about to.
const ASLEEP: u8 = 1;
/// Something was pushed.
const NOTIFIED: u8 = 2;
