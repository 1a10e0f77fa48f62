//! Sessions that have ended, and why.
//!
//! Two bounded tables. A client whose session the *server* ended learns why when it returns to the session's URL: these reasons are kept
//! apart, so that a crowd that leaves at once does not push them out. The history is for the operator, and has every session in it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::registry::{Purpose, SessionNumber};
use crate::{SessionId, StreamName};
use onecast_engine::fanout::CloseCause;

/// Why a session ended. As text: the end of a sentence that begins with the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The client ended it.
    Goodbye,
    /// The media path, or the lack of one.
    Peer(CloseCause),
    /// The client was answered and did not connect in time.
    NeverCame,
    /// The client asked for an offer and did not answer it.
    NoAnswer,
    /// A member of a room did not answer an offer of the server, which was repeated.
    Unanswered,
    /// The WebSocket of a member of a room broke, and it did not come back.
    Unfollowed,
    /// A publisher that did not connect made room for another.
    MadeRoom,
    /// The operator ended it.
    Operator(Option<Note>),
    /// A publisher with the same credential has taken the stream over.
    TakenOver,
    /// A silent publisher without a credential gave way to another one.
    Replaced {
        /// How long it had sent nothing.
        silent: Duration,
    },
    /// A publisher that was to replace a silent one connected when that one sent again.
    PlaceKept,
    /// A publisher sent more than it may.
    BitRate {
        /// What it sent, bits a second.
        measured_bps: u64,
        /// What it may send.
        max_bps: u64,
    },
    /// The longest time of a session is over.
    SessionTime {
        /// That time.
        max: Duration,
    },
    /// A publisher that sent nothing, or a viewer that had nothing to see.
    Idle {
        /// For how long.
        after: Duration,
    },
}

/// A message of the operator to a client: 1 to 200 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(Box<str>);

/// The text is not a valid note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason is 1 to {} characters without control characters", Note::CHARS_MAX)]
pub struct NoteError;

/// A session that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its public number.
    pub session_number: SessionNumber,
    /// Its stream.
    pub stream: StreamName,
    /// What it did.
    pub purpose: Purpose,
    /// Which viewer of the stream; 0 for a publisher.
    pub number: u64,
    /// Where its offer came from.
    pub client: Option<SocketAddr>,
    /// When, as time since 1970.
    pub at_unix: Duration,
    /// How long it was connected; `None` if it never was.
    pub connected: Option<Duration>,
    /// Payload and headers of the RTP that came from it, bytes.
    pub received_bytes: u64,
    /// Why.
    pub why: EndReason,
}

/// The last sessions that have ended.
#[derive(Debug, Default)]
pub struct RecentlyEnded {
    history: VecDeque<End>,
    told: HashMap<SessionId, EndReason>,
    /// Those in `told`, the oldest first.
    order: VecDeque<SessionId>,
}

impl EndReason {
    /// Whether the server decided it: the client learns that when it returns, and should not reconnect automatically.
    pub fn is_of_the_server(&self) -> bool {
        match self {
            EndReason::Goodbye
            | EndReason::Peer(_)
            | EndReason::NeverCame
            | EndReason::NoAnswer
            | EndReason::Unanswered
            | EndReason::Unfollowed
            | EndReason::MadeRoom => false,
            EndReason::Operator(_)
            | EndReason::TakenOver
            | EndReason::Replaced { .. }
            | EndReason::PlaceKept
            | EndReason::BitRate { .. }
            | EndReason::SessionTime { .. }
            | EndReason::Idle { .. } => true,
        }
    }

    /// Whether a client that returns learns the reason. This includes members of rooms that the server gave up: their pages still run.
    pub fn is_told(&self) -> bool {
        self.is_of_the_server() || matches!(self, EndReason::Unanswered | EndReason::Unfollowed)
    }

    /// Stable name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            EndReason::Goodbye => "goodbye",
            EndReason::Peer(_) => "connection",
            EndReason::NeverCame => "never-connected",
            EndReason::NoAnswer => "no-answer",
            EndReason::Unanswered => "unanswered",
            EndReason::Unfollowed => "socket-gone",
            EndReason::MadeRoom => "made-room",
            EndReason::Operator(_) => "operator",
            EndReason::TakenOver => "taken-over",
            EndReason::Replaced { .. } => "replaced",
            EndReason::PlaceKept => "place-kept",
            EndReason::BitRate { .. } => "bitrate",
            EndReason::SessionTime { .. } => "session-time",
            EndReason::Idle { .. } => "idle",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Goodbye => f.write_str("it said goodbye"),
            EndReason::Peer(cause) => cause.fmt(f),
            EndReason::NeverCame => {
                f.write_str("no ICE check and DTLS handshake arrived in time; is the UDP port reachable?")
            }
            EndReason::NoAnswer => f.write_str("it did not answer the offer that it had asked for"),
            EndReason::Unanswered => f.write_str("it did not answer an offer within 30 s, though it was repeated"),
            EndReason::Unfollowed => f.write_str("its WebSocket broke, and it did not come back within 10 s"),
            EndReason::MadeRoom => f.write_str("it never connected, and another broadcaster took its place"),
            EndReason::Operator(None) => f.write_str("the operator of the server ended it"),
            EndReason::Operator(Some(note)) => write!(f, "the operator of the server ended it: {note}"),
            EndReason::TakenOver => f.write_str("its owner publishes the stream from somewhere else now"),
            EndReason::Replaced { silent } => write!(
                f,
                "it had sent nothing for {} s, and another broadcaster took its place",
                silent.as_secs()
            ),
            EndReason::PlaceKept => f.write_str("the broadcaster that it was to replace sends media again"),
            EndReason::BitRate { measured_bps, max_bps } => write!(
                f,
                "it sent {:.1} Mbit/s, and {:.1} are allowed",
                megabits(*measured_bps),
                megabits(*max_bps)
            ),
            EndReason::SessionTime { max } => write!(f, "it lasted {} s, and that is the longest", max.as_secs()),
            EndReason::Idle { after } => write!(f, "there was no media for {} s", after.as_secs()),
        }
    }
}

impl Note {
    /// Longest text: a sentence or two, for a line of the page.
    pub const CHARS_MAX: usize = 200;
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Note, NoteError> {
        let text = text.trim();
        let fits = (1..=Note::CHARS_MAX).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            return Err(NoteError);
        }
        Ok(Note(text.into()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RecentlyEnded {
    /// Ends that the operator can look up.
    pub const HISTORY_MAX: usize = 1_000;
    /// Clients that can still learn why the server ended their sessions.
    pub const TOLD_MAX: usize = 1_024;

    /// Remembers an end, and forgets the oldest.
    pub fn note(&mut self, id: SessionId, end: End) {
        if end.why.is_told() && self.told.insert(id, end.why.clone()).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > RecentlyEnded::TOLD_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.told.remove(&oldest));
        }
        self.history.push_back(end);
        while self.history.len() > RecentlyEnded::HISTORY_MAX {
            self.history.pop_front();
        }
    }

    /// Why the server ended this session, as long as that is remembered.
    pub fn why(&self, id: SessionId) -> Option<&EndReason> {
        self.told.get(&id)
    }

    /// The last ends, the newest first.
    pub fn history(&self) -> impl Iterator<Item = &End> {
        self.history.iter().rev()
    }
}

fn megabits(bits: u64) -> f64 {
    bits as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> SessionId {
        SessionId::from_random(number.to_be_bytes())
    }

    fn end(handle: u64, why: EndReason) -> End {
        End {
            session_number: SessionNumber(handle),
            stream: "live".parse().unwrap(),
            purpose: Purpose::Watch,
            number: handle,
            client: None,
            at_unix: Duration::from_secs(handle),
            connected: None,
            received_bytes: 0,
            why,
        }
    }

    #[test]
    fn a_crowd_that_leaves_does_not_push_out_the_reasons_of_the_server() {
        let mut ended = RecentlyEnded::default();
        ended.note(id(7), end(7, EndReason::Operator(None)));
        for number in 100..10_000 {
            ended.note(id(number.into()), end(number, EndReason::Goodbye));
        }
        assert_eq!(ended.why(id(7)), Some(&EndReason::Operator(None)));
        assert_eq!(ended.why(id(9_999)), None);
        let handles: Vec<u64> = ended.history().map(|end| end.session_number.0).collect();
        assert_eq!(handles.len(), RecentlyEnded::HISTORY_MAX);
        assert_eq!((handles[0], handles[999]), (9_999, 9_000));
    }

    #[test]
    fn reasons_are_kept_for_a_bounded_number_of_sessions_and_the_newest_stay() {
        let mut ended = RecentlyEnded::default();
        for number in 0..5_000 {
            ended.note(id(number.into()), end(number, EndReason::TakenOver));
            assert_eq!(ended.told.len(), ended.order.len());
        }
        let kept = RecentlyEnded::TOLD_MAX as u128;
        assert_eq!(ended.told.len() as u128, kept);
        assert!(ended.why(id(4_999)).is_some() && ended.why(id(5_000 - kept)).is_some());
        assert_eq!(ended.why(id(5_000 - kept - 1)), None);
    }

    #[test]
    fn a_session_that_is_noted_twice_keeps_one_place() {
        let mut ended = RecentlyEnded::default();
        for _ in 0..3 {
            ended.note(id(1), end(1, EndReason::TakenOver));
        }
        assert_eq!((ended.told.len(), ended.order.len()), (1, 1));
    }

    #[test]
    fn a_note_is_a_short_line() {
        assert_eq!("  off topic ".parse::<Note>().unwrap().to_string(), "off topic");
        assert!("ü".repeat(200).parse::<Note>().is_ok());
        for text in ["", "  ", "a\nb", "a\u{7f}b", &"x".repeat(201)] {
            assert_eq!(text.parse::<Note>(), Err(NoteError), "{text:?}");
        }
    }
}
