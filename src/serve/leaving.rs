//! When the server leaves: at a signal, or when it has been emptied.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::info;

use super::systemd::Watchdog;
use crate::http::operation::{DrainState, Operation};
use onecast_control::drain::DrainOrder;
use onecast_control::registry::SessionFilter;
use onecast_control::{Purpose, StreamName};

/// What signals have asked for.
#[derive(Debug)]
pub(super) struct Signals {
    /// To leave now. Once it is set, another signal ends the process on the spot.
    stop: Arc<AtomicBool>,
    /// To let nobody new in and leave later.
    drain: Arc<AtomicBool>,
    /// To read the options again.
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Listens for SIGINT and SIGTERM; the latter drains first if `drains`. And for SIGHUP, where there is one.
    pub(super) fn listen(drains: bool) -> io::Result<Signals> {
        let signals = Signals {
            stop: Arc::default(),
            drain: Arc::default(),
            reload: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            // Registered first, runs first: it sees the flag only when it was set before.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, signals.stop.clone())?;
        }
        let of_term = if drains { &signals.drain } else { &signals.stop };
        signal_hook::flag::register(SIGINT, signals.stop.clone())?;
        signal_hook::flag::register(SIGTERM, of_term.clone())?;
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGHUP, signals.reload.clone())?;
        Ok(signals)
    }

    /// Returns when it is time to leave. A handler can do little but set a flag, on every system; so flags are looked at.
    ///
    /// Who publishes the stream `own` is this program itself: it keeps nobody waiting. `drained` is called once, when the server begins to empty itself; `read_again` whenever the options are to be.
    pub(super) async fn time_to_leave(
        &self,
        server: &dyn Operation,
        own: Option<&StreamName>,
        mut watchdog: Watchdog,
        drained: impl FnOnce(),
        mut read_again: impl FnMut(),
    ) {
        let mut drained = Some(drained);
        let mut asked = false;
        while !self.stop.load(Ordering::Relaxed) {
            if self.reload.swap(false, Ordering::Relaxed) {
                read_again();
            }
            if self.drain.swap(false, Ordering::Relaxed) {
                if asked {
                    info!("a second signal: leaving at once");
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
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn is_over(server: &dyn Operation, state: &DrainState, own: Option<&StreamName>) -> bool {
    let time_is_over = state.left.is_some_and(|left| left.is_zero());
    match state.sessions {
        0 => info!("drained: everybody has left"),
        1 if own.is_some_and(|own| is_published(server, own)) => info!("drained: everybody has left"),
        sessions if time_is_over => info!("the time to drain is over: {sessions} sessions are ended"),
        _ => return false,
    }
    true
}

fn is_published(server: &dyn Operation, stream: &StreamName) -> bool {
    let filter = SessionFilter {
        stream: Some(stream.clone()),
        purpose: Some(Purpose::Publish),
        after: 0,
        limit: 1,
    };
    !server.sessions(&filter).is_empty()
}

/// Nobody notices, and it costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
