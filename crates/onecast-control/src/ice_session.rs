//! Trickling and ICE restarts as WHIP sees them (RFC 9725 section 4.3): which ICE session a PATCH is for, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::{Restart, Session};
use onecast_rtc::sdp::Fragment;
use onecast_rtc::{IceCredentials, IceSession, SessionId};

use crate::refusal::Refusal;
use crate::registry::Sessions;

/// What `If-Match` demands (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// There is no such header.
    Missing,
    /// `*`: whichever ICE session there is.
    Any,
    /// One of these strong tags, in the form without quotes.
    Tags(Vec<Box<str>>),
}

/// A PATCH of a session.
#[derive(Debug, Clone, Copy)]
pub struct IcePatch<'a> {
    /// Which session.
    pub session: SessionId,
    /// For which ICE session of it.
    pub condition: &'a Precondition,
    /// What the client sends.
    pub fragment: &'a Fragment,
}

/// What a PATCH was.
#[derive(Debug)]
pub enum IceChange {
    /// Candidates of the ICE session that there is.
    Trickled,
    /// An ICE restart, for the shards.
    Restarted(Arc<Restart>),
}

/// Shortest time between two restarts of a session: a client that moves between networks needs no more.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// The newest ICE session of a client, once it has restarted.
#[derive(Debug)]
pub(crate) struct Restarted {
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

impl Sessions {
    /// Decides what a PATCH is, and does it. A restart has the `fresh` credentials. It is a command for the shards, which must
    /// not be busy.
    ///
    /// # Errors
    /// When it is not for the ICE session that there is, or cannot be done. That ICE session then goes on.
    pub(crate) fn patch(
        &mut self,
        now: Instant,
        patch: IcePatch<'_>,
        fresh: &IceCredentials,
        shards_busy: bool,
    ) -> Result<IceChange, Refusal> {
        let (session, newest) = self.ice_session(patch.session).ok_or(Refusal::UnknownSession)?;
        let current = Current::of(session, newest.as_deref());
        current.check(patch.condition)?;
        let (ufrag, pwd) = match (current.meaning(patch.fragment), patch.condition) {
            (Meaning::Trickle, _) => return Ok(IceChange::Trickled),
            (_, Precondition::Missing) => return Err(Refusal::Unconditional),
            (Meaning::Late, _) => return Err(Refusal::StaleIceSession),
            (Meaning::Half, _) => return Err(Refusal::HalfRestart),
            (Meaning::Restart { ufrag, pwd }, _) => (ufrag, pwd),
        };
        let last = newest.as_ref().map(|restarted| restarted.at);
        if last.is_some_and(|at| now.saturating_duration_since(at) < RESTART_INTERVAL) {
            return Err(Refusal::RestartTooSoon);
        }
        if shards_busy {
            return Err(Refusal::Overloaded);
        }
        let remote = IceCredentials {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
        };
        let number = current.number + 1;
        let restarted = Restarted {
            number,
            tag: entity_tag(fresh).into(),
            remote: remote.clone(),
            remote_ufrag_before: current.remote_ufrag.into(),
            at: now,
        };
        let ice = IceSession {
            number,
            local: fresh.clone(),
            remote,
        };
        let session = session.clone();
        *newest = Some(Box::new(restarted));
        Ok(IceChange::Restarted(Arc::new(Restart { session, ice })))
    }

    /// An ICE restart that an offer asks for, with both sides' new credentials.
    ///
    /// # Errors
    /// As [`patch`](Self::patch).
    pub(crate) fn restart_ice(
        &mut self,
        now: Instant,
        session: SessionId,
        theirs: &IceCredentials,
        ours: &IceCredentials,
        shards_busy: bool,
    ) -> Result<Arc<Restart>, Refusal> {
        let fragment = Fragment {
            ufrag: Some(theirs.ufrag.clone()),
            pwd: Some(theirs.pwd.clone()),
            candidates: 0,
            line: None,
        };
        let patch = IcePatch {
            session,
            condition: &Precondition::Any,
            fragment: &fragment,
        };
        match self.patch(now, patch, ours, shards_busy)? {
            IceChange::Restarted(restart) => Ok(restart),
            // The restart has been done already, with other server credentials.
            IceChange::Trickled => Err(Refusal::StaleIceSession),
        }
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

    fn check(&self, condition: &Precondition) -> Result<(), Refusal> {
        match condition {
            Precondition::Tags(tags) if !tags.iter().any(|tag| **tag == *self.tag) => Err(Refusal::StaleIceSession),
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
