//! What whoever runs the server sees and does, and what its bounds do by themselves.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{App, Inner, lock};
use crate::http::operation::{Condition, DrainState, Operation};
use crate::http::service::Refusal;
use onecast_control::audience::Farewell;
use onecast_control::drain::{Drain, DrainOrder};
use onecast_control::ended::{End, Note};
use onecast_control::registry::{SessionFilter, SessionState, Verdict, Via};
use onecast_control::{EndReason, SessionId, StreamName};
use onecast_udp::clock;

/// Sessions that are ended at once; then the media threads get time to say goodbye to their clients. A fraction of what their mailboxes hold.
const ENDS_AT_ONCE: usize = 1_024;
/// That time.
const ENDS_PAUSE: Duration = Duration::from_millis(50);
/// How often the log says how far a drain is.
const DRAIN_NEWS: Duration = Duration::from_secs(10);

impl Operation for App {
    fn sessions(&self, filter: &SessionFilter) -> Vec<SessionState> {
        lock(&self.inner.registry).sessions(clock::now(), clock::unix_time(), filter)
    }

    fn session(&self, handle: u64) -> Option<SessionState> {
        lock(&self.inner.registry).session(clock::now(), clock::unix_time(), handle)
    }

    fn ended(&self, limit: usize) -> Vec<End> {
        lock(&self.inner.registry).history(limit)
    }

    fn why_ended(&self, session: SessionId) -> Option<EndReason> {
        lock(&self.inner.registry).why_ended(session)
    }

    fn kick(&self, handle: u64, note: Option<Note>) -> Result<(), Refusal> {
        let id = lock(&self.inner.registry).find(handle).ok_or(Refusal::UnknownHandle)?;
        self.inner.end_session(id, EndReason::Operator(note));
        Ok(())
    }

    fn end_stream(&self, stream: &StreamName, everybody: bool, note: Option<Note>) -> Result<usize, Refusal> {
        let sessions = {
            let registry = lock(&self.inner.registry);
            if !registry.has(stream) {
                return Err(Refusal::UnknownStream);
            }
            registry.of_stream(stream, everybody)
        };
        let count = sessions.len();
        self.end_all(sessions, EndReason::Operator(note));
        Ok(count)
    }

    fn drain(&self, order: DrainOrder) -> DrainState {
        let now = clock::now();
        let configured = &self.inner.config.drain;
        let (begun, is_news) = {
            let mut drain = lock(&self.inner.drain);
            let begun = drain.is_none();
            let before = drain.as_ref().and_then(Drain::to).cloned();
            match drain.as_mut() {
                Some(drain) => drain.reorder(order, now),
                None => {
                    let order = DrainOrder {
                        to: order.to.or_else(|| configured.to.clone()),
                        timeout: order.timeout.or(configured.timeout),
                    };
                    *drain = Some(Drain::new(order, now));
                }
            }
            (begun, begun || drain.as_ref().and_then(Drain::to) != before.as_ref())
        };
        let state = self.drain_state().expect("it has just begun, and nothing ends it");
        self.inner.tell_about_the_drain(&state);
        if begun {
            let sessions = state.sessions;
            info!("{sessions} sessions are in; they stay until they leave by themselves or the time is over");
        }
        if is_news {
            self.ask_to_reconnect(Farewell { to: state.to.clone() });
        }
        state
    }

    fn drain_state(&self) -> Option<DrainState> {
        let now = clock::now();
        let drain = lock(&self.inner.drain).clone()?;
        Some(DrainState {
            since_unix: clock::unix_time().saturating_sub(drain.age(now)),
            to: drain.to().cloned(),
            left: drain.left(now),
            sessions: lock(&self.inner.registry).len(),
        })
    }

    fn condition(&self) -> Condition {
        if self.inner.closing.load(Ordering::Acquire) {
            return Condition::Stopping;
        }
        let stuck = lock(&self.inner.pulse).stuck(clock::now());
        match () {
            () if !stuck.is_empty() => Condition::Stuck(stuck),
            () if lock(&self.inner.drain).is_some() => Condition::Draining,
            () => Condition::Ready,
        }
    }
}

impl App {
    /// Notes how a session came about; nothing else depends on it.
    pub(super) fn introduce(&self, session: SessionId, via: Via, client: SocketAddr) {
        lock(&self.inner.registry).introduce(session, via, client);
    }

    /// Ends many sessions, a few at a time.
    fn end_all(&self, sessions: Vec<SessionId>, why: EndReason) {
        let app = self.clone();
        let end = move |sessions: &[SessionId]| sessions.iter().for_each(|&id| app.inner.end_session(id, why.clone()));
        let now = sessions.len().min(ENDS_AT_ONCE);
        end(&sessions[..now]);
        if now == sessions.len() {
            return;
        }
        tokio::spawn(async move {
            for sessions in sessions[now..].chunks(ENDS_AT_ONCE) {
                tokio::time::sleep(ENDS_PAUSE).await;
                end(sessions);
            }
        });
    }
}

impl Inner {
    /// Ends a session if it is still there.
    pub(super) fn end_session(&self, id: SessionId, why: EndReason) {
        let ended = lock(&self.registry).remove(clock::now(), id);
        if let Some(ended) = ended {
            self.end(ended, why);
        }
    }

    /// Once a second: what the bounds of sessions demand, whether the media threads turn, how far a drain is.
    pub(super) fn sweep_bounds(&self, now: Instant) {
        let mut verdicts = lock(&self.registry).verdicts(now);
        // The next sweep finds those who are left.
        verdicts.truncate(ENDS_AT_ONCE);
        for verdict in verdicts {
            match verdict {
                Verdict::End(id, why) => self.end_session(id, why),
                Verdict::Warn {
                    stream,
                    measured_bps,
                    max_bps,
                } => warn!(
                    %stream,
                    "broadcaster sends {:.1} Mbit/s, and {:.1} are allowed (--max-publish-bitrate); it is ended if it goes on",
                    measured_bps as f64 / 1e6,
                    max_bps as f64 / 1e6
                ),
                Verdict::Large { stream, longest } => warn!(
                    %stream,
                    "broadcaster sends datagrams of {longest} bytes, which an MTU of 1,500 does not carry whole: they reach viewers in \
                     fragments, and many players take none above 1,500 bytes. Set the encoder's packet size to 1,200 bytes"
                ),
            }
        }
        let turns = self.counters.iter().map(|counters| counters.turns.value());
        lock(&self.pulse).feel(now, turns);
        self.tell_again_about_the_drain(now);
    }

    fn tell_again_about_the_drain(&self, now: Instant) {
        let mut told = lock(&self.drain_told);
        let Some(drain) = lock(&self.drain).clone() else { return };
        let due = told.is_none_or(|told| now.saturating_duration_since(told) >= DRAIN_NEWS);
        if !due || drain.age(now) < DRAIN_NEWS {
            return;
        }
        *told = Some(now);
        self.tell_about_the_drain(&DrainState {
            since_unix: Duration::ZERO,
            to: drain.to().cloned(),
            left: drain.left(now),
            sessions: lock(&self.registry).len(),
        });
    }

    fn tell_about_the_drain(&self, state: &DrainState) {
        let sessions = state.sessions;
        let place = match &state.to {
            Some(to) => format!("new clients are sent to {to}"),
            None => "nobody new is let in".to_owned(),
        };
        match state.left {
            Some(left) => info!(
                "draining: {sessions} sessions left; {place}; leaving in {} s at the latest",
                left.as_secs()
            ),
            None => info!("draining: {sessions} sessions left; {place}; leaving with the last"),
        }
    }
}
