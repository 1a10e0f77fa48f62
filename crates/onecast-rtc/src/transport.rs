//! The transport to one client: ICE and DTLS until there are keys, then consent checks and the orderly end.

mod paths;
#[cfg(test)]
mod tests;
mod values;

use std::time::{Duration, Instant};

use super::dtls::{Association, Remains, Step};
use super::ice::{self, Binding, probe};
use super::path::Path;
use super::{Certificate, DtlsRole, IceCredentials, RemoteTransport, SrtpKeys, StunDrop};
pub use paths::{CHECKED_MAX, SILENT};
use paths::{Nomination, Paths};
pub use values::{Check, CloseReason, Sends, Transmit, TransportEvent};

/// ICE, DTLS and consent of one client. Sockets, keys and media belong to the caller. What is known about a client's address belongs to
/// a [`Path`]: an address proven on one is not proven on another.
pub struct Transport {
    ice: IceSession,
    /// The ICE session of a restart. It replaces `ice` when the client nominates a path with it.
    pending: Option<Box<IceSession>>,
    role: DtlsRole,
    sends: Sends,
    /// Part of the transaction ids of our own requests.
    tag: u32,
    paths: Paths,
    /// The client has nominated the selected path. Until then the first path that passed a check is selected.
    is_nominated: bool,
    phase: Phase,
}

/// One ICE session: the credentials that checks are made with. A restart begins another for the same DTLS association
/// (RFC 8445 section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceSession {
    /// 0 in the offer, one more in each restart.
    pub number: u32,
    /// The server's side.
    pub local: IceCredentials,
    /// The client's side. Its password signs the answers to our own requests.
    pub remote: IceCredentials,
}

enum Phase {
    Handshaking {
        association: Box<Association>,
        deadline: Instant,
    },
    /// There are keys, but the client has moved meanwhile and its new path is not proven yet.
    Proving {
        association: Box<Association>,
        keys: Box<SrtpKeys>,
        deadline: Instant,
    },
    /// The caller has the keys, but the client may need our last flight once more.
    Lingering {
        association: Box<Association>,
        until: Instant,
    },
    Settled(Box<Remains>),
    Closed,
}

impl Transport {
    /// Waits for the client's first check. `sends` is what the client will be sent; `tag` comes back with its answers to our requests (see
    /// [`answered_tag`](probe::answered_tag)).
    pub fn new(
        local: IceCredentials,
        remote: RemoteTransport,
        certificate: Certificate,
        (sends, tag): (Sends, u32),
        now: Instant,
    ) -> Self {
        let association = Association::new(certificate, remote.role, remote.fingerprints);
        Self {
            ice: IceSession {
                number: 0,
                local,
                remote: remote.ice,
            },
            pending: None,
            role: remote.role,
            sends,
            tag,
            paths: Paths::default(),
            is_nominated: false,
            phase: Phase::Handshaking {
                association: Box::new(association),
                deadline: now + CHECK_TIMEOUT,
            },
        }
    }

    /// Number of the ICE session that the client uses.
    pub fn ice_number(&self) -> u32 {
        self.ice.number
    }

    /// Accepts checks of another ICE session as well from now on, and switches to it when the client nominates a path with it. Until then
    /// nothing changes. A newer restart replaces one that waits.
    pub fn restart(&mut self, ice: IceSession) {
        if ice.number > self.ice.number {
            self.pending = Some(Box::new(ice));
        }
    }

    /// Takes a STUN datagram that carries our user name fragment, and answers it if it is authentic.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Result<Check, StunDrop> {
        if matches!(self.phase, Phase::Closed) {
            return Err(StunDrop::Closed);
        }
        let (binding, ice) = self.answer(from, datagram)?;
        let (bytes, nominated) = match binding {
            Binding::Success { response, nominated } => (response, Some(nominated)),
            Binding::RoleConflict { response } | Binding::UnknownAttribute { response } => (response, None),
        };
        let len = bytes.len();
        out.push(Transmit { to: from, bytes });
        let Some(nominated) = nominated else {
            return Ok(Check::Refused);
        };
        let before = self.path();
        let is_new = self.note_check(now, from, datagram.len(), ice);
        self.paths.note_sent(from, len);
        if nominated {
            let nomination = self.paths.nominate(from, ice, self.is_connected());
            self.take_nomination(nomination);
            self.is_nominated = true;
            self.start_as_client(now, from, out);
        }
        if self.sends == Sends::Feedback && self.paths.is_fit_for_feedback(from) {
            self.prove(from);
        }
        self.leave_silent(now);
        // Before the handshake is done, its messages prove the path, unless they went to several.
        if self.is_connected() || before.is_some_and(|before| self.path() != Some(before)) {
            self.ask(now, from, out);
        }
        Ok(if is_new { Check::New } else { Check::Known })
    }

    /// Takes a datagram that may answer the server's own check. An answer on the path that the request went out on proves that path.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &[u8],
    ) -> Result<Option<TransportEvent>, StunDrop> {
        if matches!(self.phase, Phase::Closed) {
            return Err(StunDrop::Closed);
        }
        let sessions = || [Some(&self.ice), self.pending.as_deref()].into_iter().flatten();
        let is_answered = self.paths.is_answered(from, |transaction| {
            sessions().any(|ice| transaction.is_answered_by(datagram, &ice.remote.pwd))
        });
        if !is_answered {
            return Err(StunDrop::Unasked);
        }
        self.paths.note_heard(now, from);
        self.prove(from);
        self.leave_silent(now);
        Ok(self.admit(now))
    }

    /// Takes a DTLS datagram and does the work that follows from it. Datagrams on unchecked paths are ignored.
    pub fn handle_dtls(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Option<TransportEvent> {
        self.take_dtls(now, from, datagram, out)
            .or_else(|| self.work(now, from, out))
    }

    /// Reads a DTLS datagram. Public-key operations are left for [`work`](Self::work).
    pub fn take_dtls(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Option<TransportEvent> {
        if !self.is_checked(from) {
            return None;
        }
        self.paths.note_received(from, datagram.len());
        let before = out.len();
        let mut send = |bytes| out.push(Transmit { to: from, bytes });
        let step = match &mut self.phase {
            Phase::Handshaking { association, .. }
            | Phase::Proving { association, .. }
            | Phase::Lingering { association, .. } => association.take(now, datagram, &mut send),
            Phase::Settled(remains) => remains.is_closed_by(datagram).then(|| {
                send(remains.close_notify().to_vec());
                Step::PeerClosed
            }),
            Phase::Closed => None,
        };
        self.conclude(now, from, step, before, out)
    }

    /// Whether [`work`](Self::work) has something to do.
    pub fn has_work(&self) -> bool {
        match &self.phase {
            Phase::Handshaking { association, .. }
            | Phase::Proving { association, .. }
            | Phase::Lingering { association, .. } => association.has_work(),
            Phase::Settled(_) | Phase::Closed => false,
        }
    }

    /// Continues the handshake: a quarter of a millisecond of CPU at most. `from` is where the last datagram came from; if that path is
    /// no longer known, the reply goes to the selected one.
    pub fn work(&mut self, now: Instant, from: Path, out: &mut Vec<Transmit>) -> Option<TransportEvent> {
        let to = if self.is_checked(from) { from } else { self.path()? };
        let before = out.len();
        let mut send = |bytes| out.push(Transmit { to, bytes });
        let step = match &mut self.phase {
            Phase::Handshaking { association, .. }
            | Phase::Proving { association, .. }
            | Phase::Lingering { association, .. } => association.work(now, &mut send),
            Phase::Settled(_) | Phase::Closed => None,
        };
        self.conclude(now, to, step, before, out)
    }

    /// Finishes a step of DTLS that a datagram from `from` led to. The step has written to `out` from index `before` on.
    fn conclude(
        &mut self,
        now: Instant,
        from: Path,
        step: Option<Step>,
        before: usize,
        out: &mut Vec<Transmit>,
    ) -> Option<TransportEvent> {
        let event = step.and_then(|step| self.advance(now, from, step));
        self.limit_flight(from, before, out);
        if matches!(self.phase, Phase::Proving { .. })
            && let Some(selected) = self.path()
        {
            self.ask(now, selected, out);
        }
        event
    }

    /// Drops the work, when there is no time for it: as if the datagrams that led to it had been lost.
    pub fn forget_work(&mut self) {
        if let Phase::Handshaking { association, .. } = &mut self.phase {
            association.forget_work();
        }
    }

    /// Whether the path passed a check of this session. DTLS and media are accepted on such paths only.
    pub fn is_checked(&self, from: Path) -> bool {
        self.paths.get(from).is_some()
    }

    /// The paths that passed a check, at most [`CHECKED_MAX`].
    pub fn checked(&self) -> impl Iterator<Item = Path> {
        self.paths.iter().map(|known| known.path)
    }

    /// The next path that no longer counts as checked; each is returned once.
    pub fn poll_lost(&mut self) -> Option<Path> {
        self.paths.poll_lost()
    }

    /// Whether the client has shown that it is there.
    pub fn is_proven(&self, at: Path) -> bool {
        self.paths.get(at).is_some_and(paths::PathState::is_proven)
    }

    /// Whether the client was heard there within [`SILENT`].
    pub fn is_heard_at(&self, now: Instant, at: Path) -> bool {
        self.paths.get(at).is_some_and(|path| now < path.heard + SILENT)
    }

    /// Where media goes, and before that the flights of the handshake: the path that the client nominated last, or the first that
    /// passed a check.
    pub fn path(&self) -> Option<Path> {
        self.paths.selected().map(|selected| selected.path)
    }

    /// Whether the client has nominated a path.
    pub fn is_nominated(&self) -> bool {
        self.is_nominated
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. The time moves with every sign of life; a caller may keep an earlier one and
    /// ask again then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.phase {
            Phase::Handshaking { association, deadline } => {
                Some(association.poll_timeout().map_or(*deadline, |due| due.min(*deadline)))
            }
            // The client may have nominated a proven path meanwhile: then it is due at once.
            Phase::Proving { deadline, .. } => self.paths.selected().map(|path| match path.is_proven() {
                true => path.heard,
                false => *deadline,
            }),
            Phase::Lingering { until, .. } => self.paths.poll_timeout().into_iter().chain([*until]).min(),
            Phase::Settled(_) => self.paths.poll_timeout(),
            Phase::Closed => return None,
        };
        due.into_iter().chain(self.paths.probe_due()).min()
    }

    /// Does what is due: repeats a flight or a request, leaves a silent path, gives up, or frees the association.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Transmit>) -> Option<TransportEvent> {
        while let Some(to) = self.paths.take_due_probe(now) {
            self.ask(now, to, out);
        }
        match &self.phase {
            Phase::Handshaking { association, deadline } if now >= *deadline => {
                let complaint = association.complaint().map(CloseReason::HandshakeFailed);
                return Some(self.end(complaint.unwrap_or(CloseReason::HandshakeTimeout)));
            }
            Phase::Proving { deadline, .. } if now >= *deadline => {
                return Some(self.end(CloseReason::HandshakeTimeout));
            }
            Phase::Handshaking { .. } => self.repeat_flight(now, out),
            Phase::Proving { .. } => return self.admit(now),
            Phase::Closed => {}
            Phase::Lingering { .. } | Phase::Settled(_) => {
                self.leave_silent(now);
                self.paths.expire(now);
                if self.paths.selected().is_none_or(|path| now >= path.expiry()) {
                    return Some(self.end(CloseReason::ConsentExpired));
                }
            }
        }
        if matches!(self.phase, Phase::Lingering { until, .. } if now >= until) {
            self.settle(now);
        }
        None
    }

    /// Call for each authentic SRTP or SRTCP packet. It shows that the client is alive at that path and has its keys, so the handshake
    /// is no longer needed. Returns true if media goes out on another path from now on.
    pub fn handle_authenticated_media(&mut self, now: Instant, from: Path) -> bool {
        if matches!(self.phase, Phase::Lingering { .. }) {
            self.settle(now);
        }
        !self.paths.note_media(now, from) && self.take_media_elsewhere(now, from)
    }

    fn take_media_elsewhere(&mut self, now: Instant, from: Path) -> bool {
        let before = self.path();
        if self.paths.note_media_elsewhere(now, from) && self.sends == Sends::Feedback {
            self.prove(from);
        }
        self.leave_silent(now);
        self.path() != before
    }

    /// Asks the client whether it can be reached on an unproven path, within what may be sent there.
    pub fn ask(&mut self, now: Instant, to: Path, out: &mut Vec<Transmit>) {
        let Some((transaction, number)) = self.paths.probe(to, self.tag) else {
            return;
        };
        let pending = self.pending.as_deref().filter(|pending| pending.number == number);
        let ice = pending.unwrap_or(&self.ice);
        let bytes = probe::write_request(transaction, &ice.local.ufrag, &ice.remote);
        if self.paths.take_probe(now, to, bytes.len()) {
            out.push(Transmit { to, bytes });
        }
    }

    /// Ends the association and tells the client.
    pub fn close(&mut self, out: &mut Vec<Transmit>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Some(path) = self.paths.selected() else { return };
        let (to, heard) = (path.path, path.heard);
        let mut send = |bytes| out.push(Transmit { to, bytes });
        match phase {
            Phase::Handshaking { mut association, .. }
            | Phase::Proving { mut association, .. }
            | Phase::Lingering { mut association, .. } => association.close(heard, &mut send),
            Phase::Settled(remains) => send(remains.close_notify().to_vec()),
            Phase::Closed => {}
        }
    }

    /// Whether the transport has ended, by itself or by [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Answers a check of the ICE session in use, or of the pending one, and returns the number of that session.
    fn answer(&self, from: Path, datagram: &[u8]) -> Result<(Binding, u32), StunDrop> {
        let of = |ice: &IceSession| {
            let binding = ice::answer_binding(datagram, from.remote, &ice.local, &ice.remote.ufrag)?;
            Ok((binding, ice.number))
        };
        match (of(&self.ice), &self.pending) {
            (Err(StunDrop::Username), Some(pending)) => of(pending),
            (answer, _) => answer,
        }
    }

    fn note_check(&mut self, now: Instant, from: Path, len: usize, ice: u32) -> bool {
        if let Phase::Handshaking { deadline, .. } = &mut self.phase
            && self.paths.selected().is_none()
        {
            *deadline = now + HANDSHAKE_TIMEOUT;
        }
        self.paths.note_check(now, from, len, ice)
    }

    /// Whether the handshake is done. Media may be sent once the path is proven, too.
    fn is_connected(&self) -> bool {
        !matches!(self.phase, Phase::Handshaking { .. })
    }

    /// A nomination that takes effect also ends the ICE session before its own.
    fn take_nomination(&mut self, nomination: Option<Nomination>) {
        if let Some(Nomination { ice }) = nomination
            && let Some(pending) = self.pending.take_if(|pending| pending.number == ice)
        {
            self.ice = *pending;
        }
    }

    fn prove(&mut self, at: Path) {
        let nomination = self.paths.prove(at);
        self.take_nomination(nomination);
    }

    fn leave_silent(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Lingering { .. } | Phase::Settled(_)) {
            self.paths.leave_silent(now);
        }
    }

    /// Takes back what was written from index `before` on, if it exceeds what may be sent on the path.
    fn limit_flight(&mut self, to: Path, before: usize, out: &mut Vec<Transmit>) {
        let len: usize = out[before..].iter().map(|transmit| transmit.bytes.len()).sum();
        if len > 0 && !self.paths.take_flight(to, len) {
            out.truncate(before);
        }
    }

    /// Sends our flight again. An unproven path is also sent a request, before the flights that it may get are used up.
    fn repeat_flight(&mut self, now: Instant, out: &mut Vec<Transmit>) {
        let (Phase::Handshaking { association, .. }, Some(path)) = (&mut self.phase, self.paths.selected()) else {
            return;
        };
        let (to, before) = (path.path, out.len());
        association.handle_timeout(now, &mut |bytes| out.push(Transmit { to, bytes }));
        if out.len() > before {
            self.limit_flight(to, before, out);
            self.ask(now, to, out);
        }
    }

    /// A client's first flight starts a timer, so it waits until the path is chosen.
    fn start_as_client(&mut self, now: Instant, to: Path, out: &mut Vec<Transmit>) {
        let before = out.len();
        if let (DtlsRole::Client, Phase::Handshaking { association, .. }) = (self.role, &mut self.phase) {
            association.start(now, &mut |bytes| out.push(Transmit { to, bytes }));
        }
        if out.len() > before {
            self.limit_flight(to, before, out);
            self.ask(now, to, out);
        }
    }

    fn advance(&mut self, now: Instant, from: Path, step: Step) -> Option<TransportEvent> {
        match step {
            Step::Connected(keys) => {
                let phase = std::mem::replace(&mut self.phase, Phase::Closed);
                if let Phase::Handshaking { association, deadline } = phase {
                    let keys = Box::new(keys);
                    self.phase = Phase::Proving {
                        association,
                        keys,
                        deadline,
                    };
                }
                self.paths.note_heard(now, from);
                // The client's last message depends on random numbers in our last flight, so its sender has received that flight.
                if self.paths.all_flights_went_to(from) {
                    self.prove(from);
                } else if self.sends == Sends::Feedback && self.paths.note_media_elsewhere(now, from) {
                    // The message is as authentic as media.
                    self.prove(from);
                }
                self.admit(now)
            }
            Step::PeerClosed => Some(self.end(CloseReason::PeerClosed)),
            Step::FingerprintMismatch => Some(self.end(CloseReason::FingerprintMismatch)),
            Step::Failed(error) => Some(self.end(CloseReason::HandshakeFailed(error))),
        }
    }

    /// Hands out the keys as soon as the selected path is proven.
    fn admit(&mut self, now: Instant) -> Option<TransportEvent> {
        let is_proven = self.paths.selected().is_some_and(paths::PathState::is_proven);
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Proving { association, keys, .. } if is_proven => {
                let until = now + LINGER;
                self.phase = Phase::Lingering { association, until };
                Some(TransportEvent::Connected(*keys))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        self.phase = match phase {
            Phase::Lingering { association, .. } => Phase::Settled(Box::new(association.settle(now))),
            other => other,
        };
    }

    fn end(&mut self, reason: CloseReason) -> TransportEvent {
        self.phase = Phase::Closed;
        TransportEvent::Closed(reason)
    }
}

/// From the offer to the first check. The client has to receive the answer and gather candidates; a person who pastes an answer too late
/// tries again.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// From the first check to the keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// RFC 7675 section 5.1.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// For so long the last flight is kept: a client that lost it repeats its own within a few seconds.
const LINGER: Duration = Duration::from_secs(10);
