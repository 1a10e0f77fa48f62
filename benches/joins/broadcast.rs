//! A publisher that sends from its own thread, undisturbed by joining viewers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecast_clients::bench::clients::Clients;
use onecast_clients::load::layers::LayerSet;
use onecast_clients::load::publisher::{LoadPublisher, PublisherConfig, PublisherCounts};
use onecast_clients::load::receiver::ReceiverConfig;
use onecast_clients::load::workload::Video;
use onecast_udp::clock;

use crate::rig::wait;

/// A running broadcast. Stops when dropped.
pub(crate) struct Broadcast {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    /// The publisher's counts, and its slowest send since they were last taken.
    counts: Mutex<(PublisherCounts, Duration)>,
}

impl Broadcast {
    /// Connects and starts to send.
    pub(crate) fn start(http: SocketAddr, video: Video) -> Result<Broadcast> {
        let mut clients = Clients::new(http, "bench", ReceiverConfig::default())?;
        clients.publish(PublisherConfig {
            video: Some(video),
            frame_interval: video.frame_interval(),
            has_audio: false,
            obeys_requests: false,
            layers: LayerSet::SINGLE,
        })?;
        let mut publisher = clients.into_publisher().context("the publisher is connected")?;
        publisher.start(clock::now());
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || shared.run(publisher)
        });
        Ok(Broadcast {
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn counts(&self) -> PublisherCounts {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// See [`LoadPublisher::take_slowest_send`].
    pub(crate) fn take_slowest_send(&self) -> Duration {
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut counts.1)
    }

    /// Stops and returns the final counts.
    pub(crate) fn stop(mut self) -> Result<PublisherCounts> {
        self.shared.stops.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome.context("the server ended the publisher")?,
            _ => bail!("the publisher's thread panicked"),
        }
        Ok(self.counts())
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
    }
}

impl Shared {
    fn run(&self, mut publisher: LoadPublisher) -> std::io::Result<()> {
        while !self.stops.load(Ordering::Acquire) {
            publisher.turn(clock::now())?;
            let slowest = publisher.take_slowest_send();
            {
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                *counts = (publisher.counts(), counts.1.max(slowest));
            }
            wait(
                publisher
                    .poll_timeout()
                    .saturating_duration_since(clock::now())
                    .min(TURN),
            );
        }
        Ok(())
    }
}

/// Time between two looks at what the server sent.
const TURN: Duration = Duration::from_millis(8);
