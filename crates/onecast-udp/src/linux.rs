//! Turns runs into messages: what goes into one sendmmsg, and how to continue when the kernel takes only part of it.

use super::socket::{DATAGRAM_IN_MAX, Family, Received};
use super::sys::{BATCH, Message, ReceiveBatch, SendBatch, knows_gso, wait_writable};
use onecast_rtc::Path;
use onecast_rtc::transmit::{Run, SendQueue};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use onecast_metrics::SocketCounts;

/// The Linux way to move datagrams.
pub(super) struct Linux {
    sender: RunSender,
    outgoing: SendBatch,
    incoming: ReceiveBatch<DATAGRAM_IN_MAX>,
}

impl Linux {
    pub(super) fn new(socket: BorrowedFd<'_>, family: Family) -> Linux {
        Linux {
            sender: RunSender::new(knows_gso(socket), family),
            outgoing: SendBatch::new(),
            incoming: ReceiveBatch::new(),
        }
    }

    /// Sends every run of the queue. `failed` gets the owner of each run that was not sent completely.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        queue: &SendQueue,
        failed: &mut dyn FnMut(u32),
    ) -> SocketCounts {
        let mut kernel = Kernel {
            socket,
            batch: &mut self.outgoing,
        };
        self.sender.send(&mut kernel, queue, failed)
    }

    /// Receives with one recvmmsg.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        each: &mut dyn FnMut(Path, &mut [u8]),
    ) -> io::Result<Received> {
        let count = match self.incoming.receive(socket) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let mut received = Received {
            drained: count < BATCH,
            ..Received::default()
        };
        received.counts.receive_calls = 1;
        for index in 0..count {
            let Some((from, datagram)) = self.incoming.datagram(index) else {
                received.counts.oversized_in += 1;
                continue;
            };
            received.counts.datagrams_in += 1;
            received.counts.bytes_in += datagram.len() as u64;
            each(Family::incoming(from), datagram);
        }
        Ok(received)
    }
}

/// The two system calls of sending.
trait Calls {
    /// Returns how many messages the kernel took. An error concerns the first message.
    fn send<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize>;
    /// Waits briefly for room in the send buffer. False if it stays full.
    fn wait_writable(&mut self) -> bool;
}

struct Kernel<'a> {
    socket: BorrowedFd<'a>,
    batch: &'a mut SendBatch,
}

impl Calls for Kernel<'_> {
    fn send<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        self.batch.send(self.socket, messages)
    }

    fn wait_writable(&mut self) -> bool {
        wait_writable(self.socket, WAIT_MAX)
    }
}

/// Cuts a queue into messages and decides what each refusal means.
struct RunSender {
    gso: bool,
    family: Family,
    /// The messages of the next call.
    parts: Vec<Part>,
    /// Destinations whose runs the kernel does not segment, each with the shortest refused segment: the path's MTU is smaller
    /// (EINVAL, EMSGSIZE), or the route does not support segmentation (EIO, IPsec). The kernel, too, keeps both by destination.
    refused: HashMap<SocketAddr, u16>,
}

/// One message: a whole run, or one datagram of it.
#[derive(Clone, Copy)]
struct Part {
    run: usize,
    offset: usize,
    len: usize,
    /// 0 for a single datagram.
    segment: u16,
}

/// Position in the queue at which the next message begins.
#[derive(Clone, Copy, Default)]
struct Cursor {
    run: usize,
    offset: usize,
}

/// What an error means for its message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The send buffer is full.
    Full,
    /// Interrupted: try again.
    Again,
    /// Refused as one message; single datagrams or shorter segments may work.
    Split,
    /// Refused as one message, whatever the length of its segments.
    AlwaysSplit,
    /// Refused altogether; other destinations are not affected.
    Refused,
}

impl RunSender {
    fn new(gso: bool, family: Family) -> RunSender {
        RunSender {
            gso,
            family,
            parts: Vec::with_capacity(BATCH),
            refused: HashMap::new(),
        }
    }

    fn send(&mut self, calls: &mut impl Calls, queue: &SendQueue, failed: &mut dyn FnMut(u32)) -> SocketCounts {
        let mut sent = SocketCounts::default();
        let mut cursor = Cursor::default();
        // After a wait without success the rest of the queue is tried without waiting, so a queue costs the shard at most one
        // whole wait.
        let mut patient = true;
        loop {
            self.plan(queue, &mut cursor);
            if self.parts.is_empty() {
                return sent;
            }
            let Err((verdict, part)) = self.send_parts(calls, queue, &mut patient, &mut sent) else {
                continue;
            };
            let run = &queue.runs()[part.run];
            if matches!(verdict, Verdict::Split | Verdict::AlwaysSplit) {
                sent.gso_refused += 1;
                self.remember(run.to.remote, if verdict == Verdict::Split { run.segment } else { 0 });
                cursor = Cursor {
                    run: part.run,
                    offset: 0,
                };
                continue;
            }
            let lost = (run.len as usize - part.offset)
                .div_ceil(usize::from(run.segment).max(1))
                .max(1) as u64;
            match verdict {
                Verdict::Full => sent.dropped_full += lost,
                _ => {
                    // The kernel refused the destination, not the segmentation.
                    self.refused.remove(&run.to.remote);
                    sent.dropped_refused += lost;
                }
            }
            if run.owner != Run::NO_OWNER {
                failed(run.owner);
            }
            cursor = Cursor {
                run: part.run + 1,
                offset: 0,
            };
        }
    }

    /// Sends all parts, or stops at one that cannot be sent.
    fn send_parts(
        &mut self,
        calls: &mut impl Calls,
        queue: &SendQueue,
        patient: &mut bool,
        sent: &mut SocketCounts,
    ) -> Result<(), (Verdict, Part)> {
        let mut done = 0;
        let mut waited_for = None;
        while let Some(part) = self.parts.get(done) {
            let messages = self.parts[done..].iter().map(|part| part.message(queue, self.family));
            sent.send_calls += 1;
            let error = match calls.send(messages) {
                Ok(count) => {
                    self.parts[done..][..count].iter().for_each(|part| part.tally(sent));
                    done += count;
                    continue;
                }
                Err(error) => error,
            };
            match Verdict::new(&error, part.segment > 0) {
                Verdict::Again => {}
                // Wait once per message, even if the room is gone again.
                Verdict::Full if *patient && waited_for != Some(done) => {
                    sent.send_waits += 1;
                    waited_for = Some(done);
                    *patient = calls.wait_writable();
                }
                verdict => return Err((verdict, *part)),
            }
        }
        Ok(())
    }

    /// Fills `parts` with the messages of one call and advances the cursor past them.
    fn plan(&mut self, queue: &SendQueue, cursor: &mut Cursor) {
        self.parts.clear();
        while self.parts.len() < BATCH
            && let Some(run) = queue.runs().get(cursor.run)
        {
            let left = run.len as usize - cursor.offset;
            let whole = run.segments == 1 || (cursor.offset == 0 && self.segments(run));
            let len = if whole {
                left
            } else {
                left.min(usize::from(run.segment))
            };
            let segment = if whole && run.segments > 1 { run.segment } else { 0 };
            self.parts.push(Part {
                run: cursor.run,
                offset: cursor.offset,
                len,
                segment,
            });
            if len < left {
                cursor.offset += len;
            } else {
                *cursor = Cursor {
                    run: cursor.run + 1,
                    offset: 0,
                };
            }
        }
    }

    fn segments(&self, run: &Run) -> bool {
        let shorter = |refused: &u16| run.segment < *refused;
        self.gso && (self.refused.is_empty() || self.refused.get(&run.to.remote).is_none_or(shorter))
    }

    fn remember(&mut self, to: SocketAddr, segment: u16) {
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&to) {
            // A forgotten destination costs one refused call.
            self.refused.clear();
        }
        self.refused
            .entry(to)
            .and_modify(|refused| *refused = segment.min(*refused))
            .or_insert(segment);
    }
}

impl Part {
    fn message<'a>(&self, queue: &'a SendQueue, family: Family) -> Message<'a> {
        let run = &queue.runs()[self.run];
        Message {
            to: family.outgoing(run.to),
            bytes: &queue.bytes(run)[self.offset..][..self.len],
            segment: self.segment,
        }
    }

    fn tally(&self, sent: &mut SocketCounts) {
        sent.bytes_out += self.len as u64;
        if self.segment > 0 {
            sent.gso_runs += 1;
            sent.datagrams_out += self.len.div_ceil(usize::from(self.segment)) as u64;
        } else {
            sent.datagrams_out += 1;
        }
    }
}

impl Verdict {
    fn new(error: &io::Error, segmented: bool) -> Verdict {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Verdict::Full,
            Some(libc::EINTR) => Verdict::Again,
            Some(libc::EIO) if segmented => Verdict::AlwaysSplit,
            Some(libc::EINVAL | libc::EMSGSIZE) if segmented => Verdict::Split,
            _ => Verdict::Refused,
        }
    }
}

/// Longest wait for room in the send buffer: at 100 Mbit/s a millisecond drains ten packets. A shard never blocks longer.
const WAIT_MAX: Duration = Duration::from_millis(1);
/// Limit of remembered destinations without segmentation: more than a shard has behind tunnels, and at most 64 KB.
const REFUSED_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::super::sys::tests::refuse_gso;
    use super::*;
    use std::collections::VecDeque;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Answers sends as scripted, then takes everything.
    #[derive(Default)]
    struct Script {
        answers: VecDeque<Result<usize, i32>>,
        writable: VecDeque<bool>,
        taken: Vec<(u16, Vec<u8>, u16)>,
        calls: usize,
    }

    impl Calls for Script {
        fn send<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
            self.calls += 1;
            let messages: Vec<_> = messages.collect();
            assert!((1..=BATCH).contains(&messages.len()));
            let count = match self.answers.pop_front() {
                Some(Err(code)) => return Err(io::Error::from_raw_os_error(code)),
                Some(Ok(count)) => count,
                None => messages.len(),
            };
            let taken = messages[..count]
                .iter()
                .map(|m| (m.to.port(), m.bytes.to_vec(), m.segment));
            self.taken.extend(taken);
            Ok(count)
        }

        fn wait_writable(&mut self) -> bool {
            self.writable.pop_front().expect("no wait was scripted")
        }
    }

    fn script(answers: &[Result<usize, i32>], writable: &[bool]) -> Script {
        Script {
            answers: answers.iter().copied().collect(),
            writable: writable.iter().copied().collect(),
            ..Script::default()
        }
    }

    fn path(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], port).into())
    }

    /// To each port a run of 10, 10 and 4 bytes, owned by the port's number.
    fn queue(ports: std::ops::Range<u16>) -> SendQueue {
        let mut queue = SendQueue::new();
        for port in ports {
            for (byte, len) in [(1, 10), (2, 10), (3, 4)] {
                queue.push(path(port), u32::from(port), &[byte; 10][..len]);
            }
        }
        queue
    }

    fn run(sender: &mut RunSender, script: &mut Script, queue: &SendQueue) -> (SocketCounts, Vec<u32>) {
        let mut owners = Vec::new();
        let sent = sender.send(script, queue, &mut |owner| owners.push(owner));
        (sent, owners)
    }

    fn ports(script: &Script) -> Vec<u16> {
        script.taken.iter().map(|(port, ..)| *port).collect()
    }

    #[test]
    fn a_queue_is_sent_in_one_call_with_one_message_per_run() {
        let mut calls = script(&[], &[]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..4));
        assert_eq!((calls.calls, ports(&calls), owners), (1, vec![1, 2, 3], vec![]));
        assert_eq!((sent.datagrams_out, sent.bytes_out, sent.gso_runs), (9, 72, 3));
        assert!(
            calls
                .taken
                .iter()
                .all(|(_, bytes, segment)| bytes.len() == 24 && *segment == 10)
        );
    }

    #[test]
    fn without_segmentation_datagrams_of_many_runs_share_calls() {
        let mut calls = script(&[], &[]);
        let (sent, owners) = run(&mut RunSender::new(false, Family::V4), &mut calls, &queue(1..31));
        assert_eq!(
            (calls.calls, sent.datagrams_out, sent.gso_runs, owners.len()),
            (2, 90, 0, 0)
        );
        assert_eq!(calls.taken.len(), 90);
        for (index, (port, bytes, segment)) in calls.taken.iter().enumerate() {
            let (byte, len) = [(1, 10), (2, 10), (3, 4)][index % 3];
            assert_eq!(
                (*port, bytes.as_slice(), *segment),
                (index as u16 / 3 + 1, &[byte; 10][..len], 0)
            );
        }
    }

    #[test]
    fn the_rest_of_a_partly_sent_batch_follows() {
        let mut calls = script(&[Ok(1), Err(libc::EINTR), Ok(2)], &[]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..6));
        assert_eq!((ports(&calls), owners), (vec![1, 2, 3, 4, 5], vec![]));
        assert_eq!(sent.send_calls, 4);
    }

    #[test]
    fn a_refused_destination_is_reported_and_the_others_are_sent() {
        let mut calls = script(&[Ok(1), Err(libc::ECONNREFUSED), Ok(1), Err(libc::EPERM)], &[]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..6));
        assert_eq!((ports(&calls), owners), (vec![1, 3, 5], vec![2, 4]));
        assert_eq!((sent.dropped_refused, sent.datagrams_out), (6, 9));
    }

    #[test]
    fn a_refused_segmentation_falls_back_to_datagrams_and_is_remembered() {
        for code in [libc::EINVAL, libc::EIO, libc::EMSGSIZE] {
            let mut sender = RunSender::new(true, Family::V4);
            let mut calls = script(&[Ok(1), Err(code)], &[]);
            let (sent, owners) = run(&mut sender, &mut calls, &queue(1..4));
            assert_eq!((ports(&calls), owners), (vec![1, 2, 2, 2, 3], vec![]));
            assert_eq!((sent.gso_refused, sent.gso_runs, sent.datagrams_out), (1, 2, 9));

            let mut calls = script(&[], &[]);
            let (sent, _) = run(&mut sender, &mut calls, &queue(1..4));
            assert_eq!(
                (ports(&calls), sent.send_calls, sent.gso_refused),
                (vec![1, 2, 2, 2, 3], 1, 0)
            );
        }
    }

    #[test]
    fn runs_of_shorter_datagrams_are_segmented_although_longer_ones_were_refused() {
        for (code, segmented) in [(libc::EINVAL, true), (libc::EMSGSIZE, true), (libc::EIO, false)] {
            let mut sender = RunSender::new(true, Family::V4);
            let mut calls = script(&[Err(code)], &[]);
            let (sent, _) = run(&mut sender, &mut calls, &queue(1..2));
            assert_eq!((sent.gso_refused, sent.gso_runs), (1, 0));

            let mut shorter = SendQueue::new();
            (0..3).for_each(|_| shorter.push(path(1), 1, &[7; 9]));
            let mut calls = script(&[], &[]);
            let (sent, _) = run(&mut sender, &mut calls, &shorter);
            assert_eq!((sent.gso_runs, sent.datagrams_out), (u64::from(segmented), 3), "{code}");
            let (sent, _) = run(&mut sender, &mut calls, &queue(1..2));
            assert_eq!(
                (sent.gso_runs, sent.datagrams_out),
                (0, 3),
                "{code}: the longer ones go one by one"
            );
        }
    }

    #[test]
    fn an_unreachable_destination_is_not_remembered() {
        let mut sender = RunSender::new(true, Family::V4);
        let mut calls = script(&[Err(libc::EINVAL), Ok(1), Err(libc::EINVAL)], &[]);
        let (sent, owners) = run(&mut sender, &mut calls, &queue(1..3));
        assert_eq!((ports(&calls), owners), (vec![1, 2], vec![1]));
        assert_eq!((sent.datagrams_out, sent.dropped_refused), (4, 2));
        assert!(sender.refused.is_empty());
    }

    #[test]
    fn sending_waits_for_a_full_buffer() {
        let full = Err(libc::EAGAIN);
        let mut calls = script(&[Ok(1), full, Ok(1), full], &[true, true]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..5));
        assert_eq!((ports(&calls), owners, sent.send_waits), (vec![1, 2, 3, 4], vec![], 2));
    }

    #[test]
    fn a_buffer_that_stays_full_costs_one_wait_per_queue() {
        let full = Err(libc::ENOBUFS);
        let mut calls = script(&[Ok(1), full, full, full, Ok(1)], &[false]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..5));
        assert_eq!((ports(&calls), owners), (vec![1, 4], vec![2, 3]));
        assert_eq!((sent.send_waits, sent.dropped_full), (1, 6));
    }

    #[test]
    fn each_message_waits_only_once() {
        let full = Err(libc::EAGAIN);
        let mut calls = script(&[full, full], &[true]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue(1..3));
        assert_eq!((ports(&calls), owners, sent.send_waits), (vec![2], vec![1], 1));
    }

    #[test]
    fn failed_runs_without_an_owner_are_not_reported() {
        let mut queue = SendQueue::new();
        queue.push(path(1), Run::NO_OWNER, &[1]);
        let mut calls = script(&[Err(libc::ENETUNREACH)], &[]);
        let (sent, owners) = run(&mut RunSender::new(true, Family::V4), &mut calls, &queue);
        assert_eq!((sent.dropped_refused, owners), (1, vec![]));
    }

    #[test]
    fn remembered_refusals_are_bounded() {
        let mut sender = RunSender::new(true, Family::V4);
        for index in 0..3 * REFUSED_MAX as u32 {
            sender.remember((index.to_be_bytes(), 1).into(), 1_400);
            assert!(sender.refused.len() <= REFUSED_MAX);
        }
    }

    #[test]
    fn without_kernel_support_runs_are_sent_as_datagrams() {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        refuse_gso(near.as_fd());
        let port = far.local_addr().unwrap().port();
        let mut linux = Linux::new(near.as_fd(), Family::V4);
        let sent = linux.send(near.as_fd(), &queue(port..port + 1), &mut |owner| {
            panic!("{owner} failed")
        });
        assert_eq!((sent.gso_refused, sent.datagrams_out), (1, 3));
        let mut lengths = Vec::new();
        linux
            .receive(far.as_fd(), &mut |_, datagram| lengths.push(datagram.len()))
            .unwrap();
        assert_eq!(lengths, [10, 10, 4]);
    }
}
