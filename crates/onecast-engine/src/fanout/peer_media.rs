//! The SRTP side of a connected peer.

use std::time::Instant;

use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Opener, Path, RtcpSealer, SrtpKeys};

use super::ids::PeerIndex;
use super::receiver::Receiver;
use super::session::Direction;
use super::subscriptions::Subscriptions;

/// Keys of a connected peer, the streams that it sends, and those that it is sent.
///
/// There is one for each viewer, so it is small: a viewer has no receiver, and its one subscription is inline.
pub(super) struct PeerMedia {
    pub(super) opener: Opener,
    /// Seals all RTCP to the peer. One counter serves all SSRCs, so that no index is used twice.
    pub(super) rtcp: RtcpSealer,
    /// Number of the newest plan that was applied.
    pub(super) plan_number: u64,
    /// `None` for a viewer, from which no media is taken.
    pub(super) receiver: Option<Box<Receiver>>,
    pub(super) subscriptions: Subscriptions,
}

impl PeerMedia {
    /// A peer that has just connected; no plan has been applied yet.
    pub(super) fn new(direction: Direction, keys: &SrtpKeys, now: Instant) -> PeerMedia {
        let receiver = match direction {
            Direction::SendOnly => Some(Receiver::of_one(now)),
            Direction::ReceiveOnly => None,
            Direction::SendReceive => Some(Receiver::of_many(now)),
        };
        let subscriptions = match direction {
            Direction::SendOnly | Direction::ReceiveOnly => Subscriptions::one(),
            Direction::SendReceive => Subscriptions::many(keys, now),
        };
        PeerMedia {
            opener: Opener::new(keys),
            rtcp: RtcpSealer::new(keys),
            plan_number: 0,
            receiver: receiver.map(Box::new),
            subscriptions,
        }
    }

    /// Opens an RTCP datagram in place: its clear length. `None` if it is not authentic.
    pub(super) fn open_rtcp(&mut self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        let len = self.opener.open_rtcp(datagram).ok()?;
        if let Some(receiver) = &mut self.receiver {
            receiver.note_rtcp(now);
        }
        Some(len)
    }

    /// Seals the RTCP that is due about the streams that the client sends.
    pub(super) fn poll_rtcp(&mut self, now: Instant, to: Path, owner: PeerIndex, out: &mut SendQueue) {
        if let Some(receiver) = &mut self.receiver {
            receiver.poll_rtcp(now, &mut self.rtcp, (to, owner), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::subscriber::{Subscriber, ViewerLayers};

    /// There is one of each for every viewer.
    #[test]
    fn what_a_viewer_takes_is_bounded() {
        let sizes = [size_of::<PeerMedia>(), size_of::<Subscriber>()];
        assert!(sizes[0] <= 240 && sizes[1] <= 440, "{sizes:?}");
    }

    /// There is one for every viewer of a stream that has a choice.
    #[test]
    fn what_a_choice_takes_is_bounded() {
        assert!(size_of::<ViewerLayers>() <= 168, "{}", size_of::<ViewerLayers>());
    }
}
