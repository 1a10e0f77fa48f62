//! Trickling and ICE restarts as WHIP sees them (RFC 9725 section 4.3): which ICE session a PATCH is for, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SessionId;
use super::registry::Registry;
use onecast_engine::fanout::{Restart, Session};
use onecast_rtc::sdp::Fragment;
use onecast_rtc::{IceCredentials, IceSession};

/// What `If-Match` demands (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no such header.
    Missing,
    /// `*`: whichever ICE session there is.
    Any,
    /// One of these strong tags, in the form without quotes.
    Tags(Vec<Box<str>>),
}

/// A PATCH of a session.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'a> {
    /// Which session.
    pub session: SessionId,
    /// For which ICE session of it.
    pub condition: &'a Condition,
    /// What the client sends.
    pub fragment: &'a Fragment,
}

/// What a PATCH was.
#[derive(Debug)]
pub enum Patched {
    /// Candidates of the ICE session that there is.
    Trickled,
    /// An ICE restart; the shards have been told.
    Restarted(Arc<Restart>),
}

/// Why a PATCH was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatchRefused {
    /// No such session.
    #[error("there is no such session")]
    UnknownSession,
    /// It is for an ICE session that is over.
    #[error("the ICE session has been restarted")]
    Stale,
    /// It must say which ICE session it is for.
    #[error("there is no If-Match")]
    Unconditional,
    /// Of name and password only one is new.
    #[error("an ICE restart changes both the user name fragment and the password")]
    HalfRestart,
    /// Another restart was less than [`RESTART_INTERVAL`] ago.
    #[error("restarts come too fast")]
    TooSoon,
    /// A media thread took no word of it; the old ICE session goes on.
    #[error("the media threads are overloaded")]
    Overloaded,
}

/// Shortest time between two restarts of a session: a client that is on its way between networks needs no more.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// The newest ICE session of a client, once it has restarted.
#[derive(Debug)]
pub(super) struct Restarted {
    number: u32,
    tag: Box<str>,
    remote: IceCredentials,
    /// The client's name before: what still comes for it is late.
    remote_ufrag_before: Box<str>,
    at: Instant,
}

/// What a fragment means for the newest ICE session.
enum Meaning<'a> {
    Trickle,
    Restart { ufrag: &'a str, pwd: &'a str },
    Late,
    Half,
}

/// The strong entity tag of an ICE session, without quotes: our name, which is random and the client knows it anyway.
pub fn entity_tag(local: &IceCredentials) -> &str {
    &local.ufrag
}

impl Registry {
    /// Decides what a PATCH is, and does it. `fresh` makes credentials; `tell` tells the shards, and says whether all have taken it.
    ///
    /// # Errors
    /// When it is not for the ICE session that there is, or cannot be done. That ICE session then goes on.
    pub fn patch(
        &mut self,
        now: Instant,
        patch: Patch<'_>,
        fresh: impl FnOnce() -> IceCredentials,
        tell: impl FnOnce(&Arc<Restart>) -> bool,
    ) -> Result<Patched, PatchRefused> {
        let (session, newest) = self.ice_session(patch.session).ok_or(PatchRefused::UnknownSession)?;
        let current = Current::of(session, newest.as_deref());
        current.check(patch.condition)?;
        let (ufrag, pwd) = match (current.meaning(patch.fragment), patch.condition) {
            (Meaning::Trickle, _) => return Ok(Patched::Trickled),
            (_, Condition::Missing) => return Err(PatchRefused::Unconditional),
            (Meaning::Late, _) => return Err(PatchRefused::Stale),
            (Meaning::Half, _) => return Err(PatchRefused::HalfRestart),
            (Meaning::Restart { ufrag, pwd }, _) => (ufrag, pwd),
        };
        let last = newest.as_ref().map(|restarted| restarted.at);
        if last.is_some_and(|at| now.saturating_duration_since(at) < RESTART_INTERVAL) {
            return Err(PatchRefused::TooSoon);
        }
        let ice = IceSession {
            number: current.number + 1,
            local: fresh(),
            remote: IceCredentials {
                ufrag: ufrag.into(),
                pwd: pwd.into(),
            },
        };
        let before = current.remote_ufrag.into();
        let session = session.clone();
        let restart = Arc::new(Restart { session, ice });
        if !tell(&restart) {
            return Err(PatchRefused::Overloaded);
        }
        *newest = Some(Box::new(Restarted {
            number: restart.ice.number,
            tag: entity_tag(&restart.ice.local).into(),
            remote: IceCredentials {
                ufrag: ufrag.into(),
                pwd: pwd.into(),
            },
            remote_ufrag_before: before,
            at: now,
        }));
        Ok(Patched::Restarted(restart))
    }
}

/// The ICE session that a PATCH must be for: the newest, whether or not the client has gone over to it.
struct Current<'a> {
    number: u32,
    tag: &'a str,
    remote_ufrag: &'a str,
    remote_pwd: &'a str,
    before: Option<&'a str>,
    first: &'a str,
}

impl<'a> Current<'a> {
    fn of(session: &'a Session, newest: Option<&'a Restarted>) -> Current<'a> {
        let offered = &session.remote.ice;
        match newest {
            None => Current {
                number: 0,
                tag: entity_tag(&session.local),
                remote_ufrag: &offered.ufrag,
                remote_pwd: &offered.pwd,
                before: None,
                first: &offered.ufrag,
            },
            Some(restarted) => Current {
                number: restarted.number,
                tag: &restarted.tag,
                remote_ufrag: &restarted.remote.ufrag,
                remote_pwd: &restarted.remote.pwd,
                before: Some(&restarted.remote_ufrag_before),
                first: &offered.ufrag,
            },
        }
    }

    fn check(&self, condition: &Condition) -> Result<(), PatchRefused> {
        match condition {
            Condition::Tags(tags) if !tags.iter().any(|tag| **tag == *self.tag) => Err(PatchRefused::Stale),
            _ => Ok(()),
        }
    }

    fn meaning<'f>(&self, fragment: &'f Fragment) -> Meaning<'f> {
        let (ufrag, pwd) = (fragment.ufrag.as_deref(), fragment.pwd.as_deref());
        let same_ufrag = ufrag.is_none_or(|ufrag| ufrag == self.remote_ufrag);
        let same_pwd = pwd.is_none_or(|pwd| pwd == self.remote_pwd);
        match (ufrag, pwd) {
            _ if same_ufrag && same_pwd => Meaning::Trickle,
            // Its client may say `*` to everything; a name that was in use before is no restart.
            (Some(ufrag), _) if !same_ufrag && (self.before == Some(ufrag) || self.first == ufrag) => Meaning::Late,
            (Some(ufrag), Some(pwd)) if !same_ufrag && !same_pwd => Meaning::Restart { ufrag, pwd },
            _ => Meaning::Half,
        }
    }
}

#[cfg(test)]
mod tests;
