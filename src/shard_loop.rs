//! The thread of a shard: a loop of numbered, bounded steps around the pure state machine.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;
use tracing::{debug, error};

use onecast_engine::fanout::{Claim, Command, Event, MisroutedDatagram, Shard};
use onecast_engine::media::{Inbox, Wake};
use onecast_udp::clock;
use onecast_udp::socket::MediaSocket;
use onecast_udp::waker::ShardWaker;

/// What other threads send to a shard.
#[derive(Debug)]
pub struct Mailbox {
    commands: ArrayQueue<Command>,
    misrouted: ArrayQueue<MisroutedDatagram>,
    claims: ArrayQueue<Claim>,
    waker: ShardWaker,
}

impl Mailbox {
    /// Commands that may wait: every one belongs to an HTTP request that waits for nothing, so a full box means overload.
    pub const COMMANDS_MAX: usize = 16_384;
    /// Misrouted datagrams that may wait.
    pub const MISROUTED_MAX: usize = 1_024;
    /// Claims that may wait; what finds no room waits at its shard.
    pub const CLAIMS_MAX: usize = 1_024;

    /// An empty mailbox of the shard that `waker` wakes.
    pub fn new(waker: ShardWaker) -> Mailbox {
        Mailbox {
            commands: ArrayQueue::new(Mailbox::COMMANDS_MAX),
            misrouted: ArrayQueue::new(Mailbox::MISROUTED_MAX),
            claims: ArrayQueue::new(Mailbox::CLAIMS_MAX),
            waker,
        }
    }

    /// Gives the shard a command, which it takes when it is woken; false when the box is full.
    pub fn push(&self, command: Command) -> bool {
        self.commands.push(command).is_ok()
    }

    /// Wakes the shard's thread if it sleeps.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Commands that wait.
    pub fn commands(&self) -> usize {
        self.commands.len()
    }

    fn hand_over(&self, datagram: MisroutedDatagram) -> bool {
        let handed = self.misrouted.push(datagram).is_ok();
        self.waker.wake();
        handed
    }

    fn claim(&self, claim: Claim) -> bool {
        let told = self.claims.push(claim).is_ok();
        self.waker.wake();
        told
    }

    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.misrouted.is_empty() && self.claims.is_empty()
    }
}

/// Wakes a shard's thread when a lane to it has something new.
#[derive(Debug)]
pub struct WakeThread(pub ShardWaker);

impl Wake for WakeThread {
    fn wake(&self) {
        self.0.wake();
    }
}

/// Everything a shard's thread owns or shares.
pub struct ShardLoop {
    /// The state machine.
    pub shard: Shard,
    /// Its socket.
    pub socket: MediaSocket,
    /// Its lanes' end.
    pub inbox: Arc<Inbox>,
    /// Every shard's mailbox, its own too.
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    /// Which of them is its own.
    pub id: usize,
    /// Where events go.
    pub events: mpsc::Sender<Event>,
}

impl ShardLoop {
    /// Commands, claims and misrouted datagrams taken in one turn.
    const MAIL_PER_TURN: usize = 256;

    /// Turns the shard until it takes a shutdown command.
    pub fn run(mut self) {
        debug!(shard = self.id, "media thread runs");
        loop {
            let now = clock::now();
            self.shard.counters().turns.add(1);
            // 1. Media first: what publishers on any shard sent goes out to this shard's viewers.
            self.shard.handle_lanes(now, &mut self.socket);
            // 2. Sessions to expect and to close, datagrams that reached another shard. Before the network: the first check of a client
            //    whose offer has just been answered may arrive in this very turn.
            let stop = self.take_mail(now);
            // 3. One bounded batch from the network.
            let shard = &mut self.shard;
            let received = self
                .socket
                .receive(&mut |from, datagram| shard.handle_datagram(now, from, datagram));
            let received = received.unwrap_or_else(|error| {
                error!(shard = self.id, %error, "cannot receive");
                0
            });
            // 4. Packets that came with it go out in the same turn.
            self.shard.handle_lanes(now, &mut self.socket);
            // 5. What is due: timers, and viewers that start.
            self.shard.handle_timeout(now, &mut self.socket);
            // 6. A few handshakes: connected viewers come first.
            self.shard.handle_handshakes(now);
            // 7. Everything queued leaves.
            self.shard.flush(&mut self.socket);
            // 8. Events, claims and misrouted datagrams go to other threads.
            self.send_mail();
            if stop {
                debug!(shard = self.id, "media thread ends");
                return;
            }
            if received == 0 {
                self.sleep();
            }
        }
    }

    fn take_mail(&mut self, now: std::time::Instant) -> bool {
        let mailbox = self.mailboxes[self.id].clone();
        for _ in 0..ShardLoop::MAIL_PER_TURN {
            let Some(claim) = mailbox.claims.pop() else { break };
            self.shard.handle_claim(now, claim);
        }
        for _ in 0..ShardLoop::MAIL_PER_TURN {
            let Some(mut datagram) = mailbox.misrouted.pop() else {
                break;
            };
            self.shard.handle_misrouted(now, &mut datagram);
        }
        let mut stop = false;
        for _ in 0..ShardLoop::MAIL_PER_TURN {
            let Some(command) = mailbox.commands.pop() else { break };
            stop |= matches!(command, Command::Shutdown);
            self.shard.handle_command(command);
        }
        stop
    }

    fn send_mail(&mut self) {
        while let Ok(permit) = self.events.try_reserve() {
            let Some(event) = self.shard.poll_event() else { break };
            permit.send(event);
        }
        let mailboxes = &self.mailboxes;
        self.shard.poll_claims(|claim| mailboxes[claim.shard].claim(claim));
        while let Some(datagram) = self.shard.poll_misrouted() {
            let owner = &self.mailboxes[datagram.shard];
            if !owner.hand_over(datagram) {
                self.shard.counters().strays_dropped.add(1);
            }
        }
    }

    fn sleep(&mut self) {
        let waker = self.socket.waker();
        waker.prepare_sleep();
        if !self.inbox.is_empty() || !self.mailboxes[self.id].is_empty() {
            return;
        }
        let now = clock::now();
        let timeout = self.shard.poll_timeout().map(|at| at.saturating_duration_since(now));
        if let Err(error) = self.socket.wait(Some(timeout.unwrap_or(IDLE).min(IDLE))) {
            error!(shard = self.id, %error, "cannot wait for the network");
        }
    }
}

/// Longest sleep. Events that found no room in the channel are offered again after it.
const IDLE: Duration = Duration::from_millis(500);
