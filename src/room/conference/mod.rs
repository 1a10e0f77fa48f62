//! Conference rooms: who takes part, what is sent to whom, and the offers and answers that this takes. Pure.

pub mod roster;

pub use roster::{MemberState, Roster, TrackState};

use std::time::Duration;

/// How long a member whose WebSocket has broken may take to come back.
pub const RESUME: Duration = Duration::from_secs(10);
