//! A publisher on a thread of its own that sends its frames when they are due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::publisher::Publisher;
use onecast_udp::clock;

/// A running broadcast. Ends when dropped.
pub struct Broadcast {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    frames: AtomicU64,
    packets: AtomicU64,
    keyframe_requests: AtomicU64,
    slowest_send_ns: AtomicU64,
}

impl Broadcast {
    /// Starts to send.
    pub fn start(publisher: Publisher) -> Broadcast {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || shared.run(publisher)
        });
        Broadcast {
            shared,
            thread: Some(thread),
        }
    }

    /// Frames sent so far.
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Acquire)
    }

    /// Keyframe requests that the server sent so far.
    pub fn keyframe_requests(&self) -> u64 {
        self.shared.keyframe_requests.load(Ordering::Acquire)
    }

    /// See [`Publisher::take_slowest_send`].
    pub fn take_slowest_send(&self) -> Duration {
        Duration::from_nanos(self.shared.slowest_send_ns.swap(0, Ordering::AcqRel))
    }

    /// Stops sending and returns how many packets it was.
    ///
    /// # Errors
    /// That of the publisher when it could not go on.
    ///
    /// # Panics
    /// When the publisher's thread did.
    pub fn stop(mut self) -> io::Result<u64> {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a publisher does not panic")?;
        }
        Ok(self.shared.packets.load(Ordering::Acquire))
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
    }
}

impl Shared {
    fn run(&self, mut publisher: Publisher) -> io::Result<()> {
        let start = clock::now();
        while !self.ends.load(Ordering::Acquire) {
            publisher.send_frame()?;
            let slowest = publisher.take_slowest_send().as_nanos() as u64;
            self.slowest_send_ns.fetch_max(slowest, Ordering::AcqRel);
            self.frames.store(publisher.frames(), Ordering::Release);
            self.packets.store(publisher.packets(), Ordering::Release);
            let next = start + Publisher::FRAME_INTERVAL.mul_f64(publisher.frames() as f64);
            while let Some(left) = next.checked_duration_since(clock::now()) {
                publisher.turn(clock::now())?;
                self.keyframe_requests
                    .store(publisher.keyframe_requests(), Ordering::Release);
                wait(left.min(TURN));
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the load is paced in real time")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Between looks at what the server says.
const TURN: Duration = Duration::from_millis(8);
