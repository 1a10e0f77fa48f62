//! Sessions whose clients may send STUN checks, and the ICE user names that stand for them.
//!
//! Every shard learns of an ICE restart, because any of them may receive the client's next check. The transport of the shard that
//! owns the peer decides when the new ICE session takes over; [`Session::ice_number`] tells the others, which then drop the older
//! user names.

use std::collections::HashMap;
use std::sync::Arc;

use onecast_rtc::ice;

use crate::fanout::ids::PeerIndex;
use crate::fanout::plan::Plan;
use crate::fanout::session::{Restart, Session};

/// Sessions of connected peers, and of clients that have not sent anything yet.
#[derive(Default)]
pub(super) struct Sessions {
    /// By our ICE ufrag in the answer.
    by_ufrag: HashMap<Box<str>, Expected>,
    /// From our ufrag of a restart to the one in the answer.
    restarted: HashMap<Box<str>, Box<str>>,
}

/// A session whose client may send us STUN checks.
pub(super) struct Expected {
    pub(super) session: Arc<Session>,
    /// Its peer, if it lives here.
    pub(super) peer: Option<PeerIndex>,
    /// The newest restarts, at most [`Expected::RESTARTS_MAX`].
    restarts: Vec<Arc<Restart>>,
    /// The newest plan, if it is not the session's own.
    pub(super) plan: Option<Arc<Plan>>,
}

impl Sessions {
    pub(super) fn expect(&mut self, session: Arc<Session>) {
        let ufrag = session.local.ufrag.clone();
        self.by_ufrag.insert(ufrag, Expected::new(session));
    }

    /// The session with this ufrag of the server.
    pub(super) fn find(&self, ufrag: &str) -> Option<&Expected> {
        let known = self.by_ufrag.get(ufrag);
        known.or_else(|| self.by_ufrag.get(self.restarted.get(ufrag)?))
    }

    pub(super) fn get(&self, session: &Session) -> Option<&Expected> {
        self.by_ufrag.get(&session.local.ufrag)
    }

    pub(super) fn get_mut(&mut self, session: &Session) -> Option<&mut Expected> {
        let expected = self.by_ufrag.get_mut(&session.local.ufrag)?;
        (expected.session.id == session.id).then_some(expected)
    }

    /// Drops a session and every user name that stands for it.
    pub(super) fn remove(&mut self, session: &Session) -> Option<Expected> {
        let expected = self.by_ufrag.remove(&session.local.ufrag)?;
        for restart in &expected.restarts {
            self.restarted.remove(&restart.ice.local.ufrag);
        }
        Some(expected)
    }

    pub(super) fn newest_restart(&self, session: &Session) -> Option<Arc<Restart>> {
        self.get(session)?.restarts.last().cloned()
    }

    /// Keeps a plan for a session, unless a newer one is known. Returns the session's peer, if the plan is to be applied to it.
    pub(super) fn set_plan(&mut self, session: &Session, plan: Arc<Plan>) -> Option<PeerIndex> {
        let expected = self.get_mut(session)?;
        let known = expected.plan.as_ref().map_or(session.plan.number, |known| known.number);
        if plan.number <= known {
            return None;
        }
        expected.plan = Some(plan);
        expected.peer
    }

    /// The client may also check with the credentials of `restart` from now on. False if the session is not known.
    pub(super) fn add_restart(&mut self, restart: &Arc<Restart>) -> bool {
        let key = &restart.session.local.ufrag;
        let expected = self.by_ufrag.get_mut(key);
        let Some(expected) = expected.filter(|expected| expected.session.id == restart.session.id) else {
            return false;
        };
        // A restart that could not be sent to every shard was void: the next one has its number.
        let is_void = |known: &mut Arc<Restart>| known.ice.number == restart.ice.number;
        for void in expected.restarts.extract_if(.., is_void) {
            self.restarted.remove(&void.ice.local.ufrag);
        }
        self.restarted.insert(restart.ice.local.ufrag.clone(), key.clone());
        expected.restarts.push(restart.clone());
        self.drop_old_restarts(&restart.session);
        true
    }

    /// Drops the user names that the client cannot use any more.
    pub(super) fn drop_old_restarts(&mut self, session: &Session) {
        let Some(expected) = self.by_ufrag.get_mut(&session.local.ufrag) else {
            return;
        };
        let newest = expected.restarts.last().map_or(0, |restart| restart.ice.number);
        let current = session.ice_number();
        let is_in_use = |number: u32| number == current || number > current && number + 1 >= newest;
        expected.restarts.retain(|restart| {
            let stays = is_in_use(restart.ice.number);
            if !stays {
                self.restarted.remove(&restart.ice.local.ufrag);
            }
            stays
        });
        debug_assert!(expected.restarts.len() <= Expected::RESTARTS_MAX);
    }

    pub(super) fn len(&self) -> usize {
        self.by_ufrag.len()
    }

    /// User names of restarts.
    pub(super) fn restarts(&self) -> usize {
        self.restarted.len()
    }
}

impl Expected {
    /// The restart in use, the one before the newest (its client may be switching to it at this very moment), and the newest.
    const RESTARTS_MAX: usize = 3;

    fn new(session: Arc<Session>) -> Expected {
        Expected {
            session,
            peer: None,
            restarts: Vec::new(),
            plan: None,
        }
    }

    /// Whether a check was signed with any of the credentials that the client may use.
    pub(super) fn is_authentic(&self, check: &[u8]) -> bool {
        let (session, restarts) = (&self.session, self.restarts.iter());
        let restarted = restarts.map(|restart| (&restart.ice.local, &restart.ice.remote));
        let mut all = restarted.chain([(&session.local, &session.remote.ice)]);
        all.any(|(local, remote)| ice::probe::is_authentic(check, local, &remote.ufrag))
    }
}
