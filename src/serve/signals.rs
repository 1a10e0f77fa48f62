//! When the server stops: on a signal, or when it has drained.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::info;

use super::systemd::Watchdog;
use onecast_control::drain::DrainOrder;
use onecast_control::port::{DrainState, Operation};
use onecast_control::registry::SessionFilter;
use onecast_control::{Purpose, StreamName};

/// The requests of signals.
#[derive(Debug)]
pub(super) struct Signals {
    /// Stop now. Once it is set, another signal ends the process immediately.
    stop: Arc<AtomicBool>,
    /// Drain: accept no new clients, and stop later.
    drain: Arc<AtomicBool>,
    /// Reload the options.
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Handles SIGINT and SIGTERM, which drains first if `drains`; on Unix, also SIGHUP.
    pub(super) fn listen(drains: bool) -> io::Result<Signals> {
        let signals = Signals {
            stop: Arc::default(),
            drain: Arc::default(),
            reload: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in the order of registration, so this one sees the flag only if an earlier signal has set it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, signals.stop.clone())?;
        }
        let of_term = if drains { &signals.drain } else { &signals.stop };
        signal_hook::flag::register(SIGINT, signals.stop.clone())?;
        signal_hook::flag::register(SIGTERM, of_term.clone())?;
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGHUP, signals.reload.clone())?;
        Ok(signals)
    }

    /// Returns when it is time to stop. Signal handlers can do little more than set a flag, so this polls the flags.
    ///
    /// This program itself publishes the stream `own`, so draining does not wait for its publisher. Calls `drained` once when draining
    /// starts, and `reload` for each request to reload.
    pub(super) async fn wait_for_shutdown(
        &self,
        server: &dyn Operation,
        own: Option<&StreamName>,
        mut watchdog: Watchdog,
        drained: impl FnOnce(),
        mut reload: impl FnMut(),
    ) {
        let mut drained = Some(drained);
        let mut asked = false;
        while !self.stop.load(Ordering::Relaxed) {
            if self.reload.swap(false, Ordering::Relaxed) {
                reload();
            }
            if self.drain.swap(false, Ordering::Relaxed) {
                if asked {
                    info!("second signal: stopping now");
                    self.stop.store(true, Ordering::Relaxed);
                    return;
                }
                asked = true;
                server.drain(DrainOrder::default());
            }
            if let Some(state) = server.drain_state() {
                if let Some(drained) = drained.take() {
                    drained();
                }
                if is_over(server, &state, own) {
                    self.stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
            watchdog.feed(server);
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

fn is_over(server: &dyn Operation, state: &DrainState, own: Option<&StreamName>) -> bool {
    let time_is_over = state.left.is_some_and(|left| left.is_zero());
    match state.sessions {
        0 => info!("drained: all clients have left"),
        1 if own.is_some_and(|own| is_published(server, own)) => info!("drained: all clients have left"),
        sessions if time_is_over => info!("drain timeout: ending {sessions} sessions"),
        _ => return false,
    }
    true
}

fn is_published(server: &dyn Operation, stream: &StreamName) -> bool {
    let filter = SessionFilter {
        stream: Some(stream.clone()),
        purpose: Some(Purpose::Publish),
        after: onecast_control::SessionNumber(0),
        limit: 1,
    };
    !server.sessions(&filter).is_empty()
}

/// Short enough to be unnoticeable, and cheap.
const POLL_EVERY: Duration = Duration::from_millis(50);
