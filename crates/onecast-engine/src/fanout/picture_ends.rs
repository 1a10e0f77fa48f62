//! Where pictures with spatial layers end.
//!
//! Receivers take a picture for complete when a packet has the marker, and the sender sets it on the last packet of the highest spatial layer.
//! But Chromium's VP9 encoder leaves out that layer of single pictures, for instance after a large keyframe, when the packets of the layer
//! below have been sent without a marker already: receivers wait for the rest of such a picture, and for all that refers to it, until the
//! next keyframe. So the last packet of a layer waits here for what follows it, which tells whether the picture goes on.

use std::time::{Duration, Instant};

use crate::media::Packet;

/// The last packet of a layer, if it is not known yet whether its picture has ended.
#[derive(Debug, Default)]
pub(super) struct PictureEnds {
    held: Option<(Packet, Instant)>,
}

impl PictureEnds {
    /// Longest wait. The next layer follows at once; otherwise the next picture does, after a frame interval.
    const WAIT: Duration = Duration::from_millis(100);

    /// A packet of a video track. Gives the packets to be sent now, in order.
    pub(super) fn take(&mut self, now: Instant, packet: Packet) -> [Option<Packet>; 2] {
        let tells_nothing = |(held, _): &(Packet, Instant)| packet.layer != held.layer || packet.index < held.index;
        if self.held.as_ref().is_some_and(tells_nothing) {
            return [Some(packet), None];
        }
        let released = self.held.take().map(|(held, _)| Packet {
            marker: packet.index == held.index + 1 && packet.timestamp != held.timestamp,
            ..held
        });
        if packet.ends_frame && !packet.marker {
            self.held = Some((packet, now + PictureEnds::WAIT));
            return [released, None];
        }
        [released, Some(packet)]
    }

    /// The packet after which nothing has come in time: its picture has ended.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Packet> {
        let (held, _) = self.held.take_if(|(_, until)| *until <= now)?;
        Some(Packet { marker: true, ..held })
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) -> Option<Packet> {
        let (held, _) = self.held.take()?;
        Some(Packet { marker: true, ..held })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;
    use onecast_rtc::rtp::RtpTime;

    fn sent(ends: &mut PictureEnds, index: u64, picture: u32, is_end: bool) -> Vec<(u64, bool)> {
        let mut packet = Packet::clone(&packet(index).timestamp(RtpTime(picture)).build());
        packet.ends_frame = is_end;
        let sent = ends.take(onecast_udp::clock::now(), packet);
        sent.into_iter()
            .flatten()
            .map(|packet| (packet.index, packet.marker))
            .collect()
    }

    #[test]
    fn a_picture_without_its_highest_layer_ends_where_the_next_one_begins() {
        let mut ends = PictureEnds::default();
        assert_eq!(sent(&mut ends, 1, 10, false), [(1, false)]);
        assert_eq!(sent(&mut ends, 2, 10, true), []);
        assert_eq!(sent(&mut ends, 3, 10, false), [(2, false), (3, false)], "it goes on");
        assert_eq!(sent(&mut ends, 4, 10, true), []);
        assert_eq!(sent(&mut ends, 5, 20, true), [(4, true)]);
        assert_eq!(sent(&mut ends, 6, 30, false), [(5, true), (6, false)]);
    }

    #[test]
    fn what_is_lost_or_late_tells_nothing() {
        let mut ends = PictureEnds::default();
        sent(&mut ends, 2, 10, true);
        assert_eq!(sent(&mut ends, 1, 10, false), [(1, false)], "the end still waits");
        assert_eq!(sent(&mut ends, 4, 20, false), [(2, false), (4, false)]);
    }

    #[test]
    fn nothing_waits_for_long() {
        let mut ends = PictureEnds::default();
        assert_eq!(ends.poll_timeout(), None);
        sent(&mut ends, 1, 10, true);
        let at = ends.poll_timeout().unwrap();
        assert!(ends.handle_timeout(at - Duration::from_millis(1)).is_none());
        assert!(ends.handle_timeout(at).is_some_and(|packet| packet.marker));
        assert!(ends.handle_timeout(at).is_none());
        sent(&mut ends, 2, 20, true);
        assert!(ends.end().is_some_and(|packet| packet.marker));
        assert!(ends.end().is_none());
    }
}
