//! Outgoing datagrams, grouped into runs that one UDP_SEGMENT send carries.
//!
//! Packets are sealed straight into the queue's buffer; the socket sends run by run and never copies.
//!
//! ```text
//!  bytes  [ run 0: seg seg seg seg_ ][ run 1: seg_ ][ run 2: seg seg ] free ...
//!           equal segments, the last may be shorter
//! ```

use crate::path::Path;

/// Equal datagrams on one path, the last of which may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where to, and from which local socket.
    pub to: Path,
    /// Offset of the first byte in the queue's buffer.
    pub start: u32,
    /// Bytes in all, at most 65,507 - 48.
    pub len: u32,
    /// Bytes of each segment but the last.
    pub segment: u16,
    /// Datagrams in the run, at most [`Run::SEGMENTS_MAX`].
    pub segments: u8,
    /// Reported when the run could not be sent; [`Run::NO_OWNER`] for none.
    pub owner: u32,
}

impl Run {
    /// Linux takes at most 64 segments in one send (UDP_MAX_SEGMENTS was 64 until 6.9).
    pub const SEGMENTS_MAX: u8 = 64;
    /// No owner.
    pub const NO_OWNER: u32 = u32::MAX;
}

/// A bounded batch of runs, which a shard fills and a socket empties.
#[derive(Debug)]
pub struct SendQueue {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

/// Sends queues. The socket of a shard implements it, and the simulated network of the tests.
pub trait Outlet {
    /// Sends every run and leaves the queue empty. `failed` is called with the owner of each run that could not be sent completely, because
    /// the socket's buffer is full or the destination unreachable. Those packets are lost; nothing is retried.
    fn send(&mut self, queue: &mut SendQueue, failed: &mut dyn FnMut(u32));
}

impl SendQueue {
    /// Runs in one batch. A sendmmsg of more than 64 messages costs hardly less per message.
    pub const RUNS_MAX: usize = 64;
    /// Room for 64 runs of a usual frame (6 packets of 1,100 B), and more than the longest run.
    pub const BYTES_MAX: usize = 512 * 1024;
    /// Largest datagram that is ever queued: the largest that is received (9,216 B), and what a packet may grow by: a longer tag, extensions
    /// in their longer form, the number of a retransmission, a byte of padding. So everything that is received can be sent, and sent
    /// again.
    pub const DATAGRAM_MAX: usize = 9_216 + 64;
    /// Largest datagram that Ethernet carries without fragmentation, over IPv6: 1,500 bytes less 48 of headers. The server's own datagrams
    /// are never longer.
    pub const PATH_DATAGRAM_MAX: usize = 1_452;
    const RUN_BYTES_MAX: usize = 65_000;

    /// An empty queue.
    pub fn new() -> SendQueue {
        SendQueue {
            bytes: vec![0; SendQueue::BYTES_MAX].into_boxed_slice(),
            used: 0,
            // The last of RUNS_MAX - 1 runs may be followed by a frame whose datagrams differ in length: a run each.
            runs: Vec::with_capacity(2 * SendQueue::RUNS_MAX),
        }
    }

    /// The runs, in the order in which they were queued.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of a run.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.bytes[run.start as usize..][..run.len as usize]
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Drops everything that is queued.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.used = 0;
    }

    /// Whether another datagram may not fit, so that the queue has to be sent first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.runs.len() >= SendQueue::RUNS_MAX || self.used + SendQueue::DATAGRAM_MAX > self.bytes.len()
    }

    /// Whether datagrams of so many bytes in all certainly fit. Callers ask this before the frame of a viewer, so that the frame stays in one
    /// batch and can be one run; [`SendQueue::is_full`] could split it.
    #[inline]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        // Each datagram is written into a reservation of the full length.
        self.runs.len() < SendQueue::RUNS_MAX && self.used + bytes + SendQueue::DATAGRAM_MAX <= self.bytes.len()
    }

    /// Room for one datagram. Nothing is queued until [`SendQueue::commit`].
    ///
    /// # Panics
    /// When the queue [is full](SendQueue::is_full), which the caller checks first.
    #[inline]
    pub fn reserve(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..][..SendQueue::DATAGRAM_MAX]
    }

    /// Queues the first `len` bytes of the reservation, in the last run if they fit there.
    #[inline]
    pub fn commit(&mut self, to: Path, owner: u32, len: usize) {
        let start = self.used as u32;
        self.used += len;
        if let Some(run) = self.runs.last_mut()
            && run.owner == owner
            && run.to == to
            && run.open_for(len)
        {
            run.len += len as u32;
            run.segments += 1;
            return;
        }
        self.runs.push(Run {
            to,
            start,
            len: len as u32,
            segment: len as u16,
            segments: 1,
            owner,
        });
    }

    /// Queues a copy of one datagram, for what is not on the packet path.
    pub fn push(&mut self, to: Path, owner: u32, datagram: &[u8]) {
        self.reserve()[..datagram.len()].copy_from_slice(datagram);
        self.commit(to, owner, datagram.len());
    }
}

impl Default for SendQueue {
    fn default() -> SendQueue {
        SendQueue::new()
    }
}

impl Run {
    /// Whether a datagram of `len` bytes may follow: all before it are full segments, and it is not longer.
    fn open_for(&self, len: usize) -> bool {
        self.len == u32::from(self.segment) * u32::from(self.segments)
            && len <= usize::from(self.segment)
            && self.segments < Run::SEGMENTS_MAX
            && self.len as usize + len <= SendQueue::RUN_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::LocalSocket;

    fn path(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn equal_datagrams_and_a_shorter_last_form_one_run() {
        let mut queue = SendQueue::new();
        for len in [100, 100, 60, 100] {
            queue.push(path(1), 7, &[1; 200][..len]);
        }
        let shapes: Vec<_> = queue.runs().iter().map(|r| (r.len, r.segment, r.segments)).collect();
        assert_eq!(shapes, [(260, 100, 3), (100, 100, 1)]);
    }

    #[test]
    fn a_longer_datagram_or_another_path_starts_a_new_run() {
        let mut queue = SendQueue::new();
        queue.push(path(1), 7, &[1; 100]);
        queue.push(path(1), 7, &[1; 101]);
        queue.push(path(2), 7, &[1; 101]);
        queue.push(path(2), 8, &[1; 101]);
        let elsewhere = Path {
            local: LocalSocket(1),
            ..path(2)
        };
        queue.push(elsewhere, 8, &[1; 101]);
        assert_eq!(queue.runs().len(), 5);
    }

    #[test]
    fn a_full_queue_is_reported() {
        let mut queue = SendQueue::new();
        let mut pushed = 0;
        while !queue.is_full() {
            queue.push(path(1), pushed, &[0; 1_200]);
            pushed += 1;
        }
        assert_eq!(pushed as usize, SendQueue::RUNS_MAX);
        queue.clear();
        assert!(!queue.is_full() && queue.is_empty());
    }

    #[test]
    fn a_frame_that_has_room_stays_one_run() {
        let mut queue = SendQueue::new();
        for viewer in 0..SendQueue::RUNS_MAX as u32 {
            assert!(queue.has_room_for(5 * 1_100));
            (0..5).for_each(|_| queue.push(path(1), viewer, &[0; 1_100]));
        }
        assert!(!queue.has_room_for(1));
        assert!(queue.runs().iter().all(|run| run.segments == 5));
        assert_eq!(queue.runs().len(), SendQueue::RUNS_MAX);
        queue.clear();
        let most = SendQueue::BYTES_MAX - SendQueue::DATAGRAM_MAX;
        assert!(queue.has_room_for(most) && !queue.has_room_for(most + 1));
    }

    #[test]
    fn reservations_that_have_room_reach_the_last_byte() {
        for len in [100, 1_200, SendQueue::DATAGRAM_MAX] {
            let mut queue = SendQueue::new();
            while queue.has_room_for(len) {
                queue.push(path(1), 0, &vec![0; len]);
            }
            assert!(queue.runs().iter().all(|run| run.len <= 65_000), "{len}");
        }
    }
}
