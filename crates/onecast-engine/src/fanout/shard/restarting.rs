//! ICE restarts: a session is expected under more than one user name until its client has chosen.
//!
//! Every shard hears of a restart, because any of them may receive the client's next check. The owner's transport decides when the
//! new ICE session takes over; [`Session::ice_number`] tells the others, which then let the older ones go.

use super::*;

impl Expected {
    /// The restart in use, the one before the newest (its client may be going over at this very moment), and the newest.
    pub(super) const RESTARTS_MAX: usize = 3;

    pub(super) fn new(session: Arc<Session>) -> Expected {
        Expected {
            session,
            peer: None,
            restarts: Vec::new(),
            membership: None,
            lift: None,
        }
    }
}

impl Expected {
    /// Whether a check is its client's, by any of the credentials that it may use.
    pub(super) fn is_authentic(&self, check: &[u8]) -> bool {
        let (session, restarts) = (&self.session, self.restarts.iter());
        let restarted = restarts.map(|restart| (&restart.ice.local, &restart.ice.remote));
        let mut all = restarted.chain([(&session.local, &session.remote.ice)]);
        all.any(|(local, remote)| ice::probe::is_authentic(check, local, &remote.ufrag))
    }
}

impl Shard {
    /// Whom our user name fragment stands for.
    pub(super) fn expected(&self, ufrag: &str) -> Option<&Expected> {
        let known = self.sessions.get(ufrag);
        known.or_else(|| self.sessions.get(self.restarted.get(ufrag)?))
    }

    pub(super) fn newest_restart(&self, session: &Session) -> Option<Arc<Restart>> {
        self.sessions.get(&session.local.ufrag)?.restarts.last().cloned()
    }

    /// The client may check with new credentials from now on, too.
    pub(super) fn expect_restart(&mut self, restart: Arc<Restart>) {
        let key = &restart.session.local.ufrag;
        let Some(expected) = self
            .sessions
            .get_mut(key)
            .filter(|expected| expected.session.id == restart.session.id)
        else {
            return;
        };
        if let Some(peer) = expected.peer.and_then(|index| self.peers.get_mut(index)) {
            peer.transport.restart(restart.ice.clone());
        }
        // One that not all shards could be told of is no more: the next has its number.
        let same = |known: &Restart| known.ice.number == restart.ice.number;
        for void in expected.restarts.extract_if(.., |known| same(known)) {
            self.restarted.remove(&void.ice.local.ufrag);
        }
        self.restarted.insert(restart.ice.local.ufrag.clone(), key.clone());
        expected.restarts.push(restart.clone());
        self.forget_old_restarts(&restart.session);
    }

    /// The peer's client may just have gone over to another ICE session.
    pub(super) fn note_restart(&mut self, index: u32) {
        let Some(peer) = self.peers.get(index) else { return };
        let number = peer.transport.ice_number();
        if number == peer.session.ice_number() {
            return;
        }
        let session = peer.session.clone();
        session.set_ice_number(number);
        self.counters.ice_restarts.add(1);
        if let Some(address) = peer.transport.remote() {
            self.events.push_back(Event::Restarted {
                session: session.id,
                address,
            });
        }
        self.forget_old_restarts(&session);
    }

    fn forget_old_restarts(&mut self, session: &Session) {
        let Some(expected) = self.sessions.get_mut(&session.local.ufrag) else {
            return;
        };
        let newest = expected.restarts.last().map_or(0, |restart| restart.ice.number);
        let current = session.ice_number();
        let is_of_use = |number: u32| number == current || number > current && number + 1 >= newest;
        expected.restarts.retain(|restart| {
            let stays = is_of_use(restart.ice.number);
            if !stays {
                self.restarted.remove(&restart.ice.local.ufrag);
            }
            stays
        });
        debug_assert!(expected.restarts.len() <= Expected::RESTARTS_MAX);
    }

    /// User names of restarts that are known here.
    pub fn restarts(&self) -> usize {
        self.restarted.len()
    }
}
