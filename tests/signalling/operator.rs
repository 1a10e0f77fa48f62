//! What the fake service shows its operator: two sessions, one that has ended, and whatever drain was ordered.

use std::sync::Mutex;
use std::time::Duration;

use onecast_control::drain::DrainOrder;
use onecast_control::ended::{End, Note};
use onecast_control::layers::ViewerLayer;
use onecast_control::playable::Missing;
use onecast_control::port::{Condition, DrainState, Operation};
use onecast_control::registry::{SessionFilter, SessionState, Via};
use onecast_control::{EndReason, Purpose, Refusal, SessionId, SessionNumber, StreamName};
use onecast_engine::media::{LayerLimit, LayerReason};

use super::fake::{Fake, LAYERS};

/// What the operator has done, and what a test says that the server is like.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) kicked: Mutex<Vec<(u64, Option<String>)>>,
    pub(crate) ended: Mutex<Vec<(String, bool, Option<String>)>>,
    pub(crate) orders: Mutex<Vec<DrainOrder>>,
    pub(crate) condition: Mutex<Option<Condition>>,
}

fn session(number: u64, purpose: Purpose) -> SessionState {
    SessionState {
        session_number: SessionNumber(number),
        stream: "live".parse().unwrap(),
        purpose,
        via: Some(if purpose == Purpose::Publish {
            Via::Whip
        } else {
            Via::Paste
        }),
        number: if purpose == Purpose::Publish { 0 } else { 17 },
        client: Some("192.0.2.1:5000".parse().unwrap()),
        media: (purpose == Purpose::Publish).then(|| "192.0.2.1:6000".parse().unwrap()),
        cipher: None,
        since_unix: Duration::from_secs(1_709_210_096),
        connected: (purpose == Purpose::Publish).then_some(Duration::from_millis(2_500)),
        received_bytes: 1_234,
        silent: None,
        missing: Missing::default(),
        layer: (purpose == Purpose::Watch).then(|| ViewerLayer {
            sent: Some((LAYERS[1].state(), LayerReason::Path)),
            switches: 3,
            rid: None,
            limit: LayerLimit {
                max_height: Some(720),
                ..LayerLimit::default()
            },
        }),
    }
}

impl Operation for Fake {
    fn sessions(&self, filter: &SessionFilter) -> Vec<SessionState> {
        let all = [session(1, Purpose::Publish), session(2, Purpose::Watch)];
        let fits = |session: &SessionState| {
            session.session_number > filter.after
                && filter.purpose.is_none_or(|purpose| purpose == session.purpose)
                && filter.stream.as_ref().is_none_or(|stream| *stream == session.stream)
        };
        all.into_iter().filter(fits).take(filter.limit).collect()
    }

    fn session(&self, number: SessionNumber) -> Option<SessionState> {
        match number.0 {
            1 => Some(session(1, Purpose::Publish)),
            2 => Some(session(2, Purpose::Watch)),
            _ => None,
        }
    }

    fn ended(&self, limit: usize) -> Vec<End> {
        let end = End {
            session_number: SessionNumber(9),
            stream: "live".parse().unwrap(),
            purpose: Purpose::Watch,
            number: 3,
            client: Some("[2001:db8::1]:5000".parse().unwrap()),
            at_unix: Duration::from_secs(1_709_210_096),
            connected: Some(Duration::from_secs(61)),
            received_bytes: 0,
            why: EndReason::Operator(Some("off topic".parse().unwrap())),
        };
        [end].into_iter().take(limit).collect()
    }

    fn why_ended(&self, session: SessionId) -> Option<EndReason> {
        let reasons = [
            EndReason::Operator(Some("off topic".parse().unwrap())),
            EndReason::TakenOver,
            EndReason::Idle {
                after: Duration::from_secs(60),
            },
        ];
        (0xa0..)
            .zip(reasons)
            .find_map(|(byte, why)| (session == SessionId::from_random([byte; 16])).then_some(why))
    }

    fn kick(&self, number: SessionNumber, note: Option<Note>) -> Result<(), Refusal> {
        self.session(number).ok_or(Refusal::UnknownNumber)?;
        let note = note.map(|note| note.to_string());
        self.desk.kicked.lock().unwrap().push((number.0, note));
        Ok(())
    }

    fn end_stream(&self, stream: &StreamName, everybody: bool, note: Option<Note>) -> Result<usize, Refusal> {
        if stream.as_str() != "live" {
            return Err(Refusal::UnknownStream);
        }
        let note = note.map(|note| note.to_string());
        self.desk
            .ended
            .lock()
            .unwrap()
            .push((stream.to_string(), everybody, note));
        Ok(if everybody { 18 } else { 1 })
    }

    fn drain(&self, order: DrainOrder) -> DrainState {
        self.desk.orders.lock().unwrap().push(order);
        self.drain_state().unwrap()
    }

    fn drain_state(&self) -> Option<DrainState> {
        let orders = self.desk.orders.lock().unwrap();
        let order = orders.last()?;
        Some(DrainState {
            since_unix: Duration::from_secs(1_709_210_096),
            to: order.to.clone(),
            left: order.timeout,
            sessions: 2,
        })
    }

    fn condition(&self) -> Condition {
        self.desk.condition.lock().unwrap().clone().unwrap_or(Condition::Ready)
    }
}
