//! The part of an association that is kept for as long as its client stays.

use super::keys::PeerKey;
use crate::record::{self, Record, records};

/// A finished association without its ten kilobytes of handshake state.
pub struct Remains {
    pub(super) close_notify: Box<[u8]>,
    pub(super) peer: Option<PeerKey>,
}

impl Remains {
    /// Our close_notify. It may be sent more than once, since the bytes are always the same.
    pub fn close_notify(&self) -> &[u8] {
        &self.close_notify
    }

    /// Whether the datagram holds an authentic close_notify or fatal alert of the client.
    pub fn is_closed_by(&self, datagram: &[u8]) -> bool {
        let is_alert = |record: &Record| record.kind == record::ALERT && record.epoch == 1;
        let mut alerts = records(datagram).filter(is_alert);
        self.peer
            .as_ref()
            .is_some_and(|key| alerts.any(|alert| is_closing(key, &alert)))
    }
}

/// Whether a sealed alert is authentic and ends the association.
pub(super) fn is_closing(key: &PeerKey, alert: &Record) -> bool {
    key.open(alert)
        .is_some_and(|[level, description]| level == ALERT_FATAL || description == CLOSE_NOTIFY)
}

pub(super) const ALERT_FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
