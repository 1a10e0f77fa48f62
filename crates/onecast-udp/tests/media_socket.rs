//! The media sockets over real loopback, by both ways of moving datagrams.
#![expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use onecast_rtc::Path;
use onecast_rtc::transmit::{Outlet, Run, SendQueue};
use onecast_udp::socket::{DATAGRAM_IN_MAX, MediaSocket, MediaSocketConfig, RECEIVE_MAX, bind};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

#[test]
fn runs_arrive_as_the_datagrams_they_were_made_of() {
    both_paths(|portable| {
        for ip in ["127.0.0.1", "::1"] {
            let mut socket = one(&format!("{}:0", bracketed(ip)), portable);
            let far = sink(ip);
            let to = Path::udp(far.local_addr().unwrap());
            let datagrams: Vec<Vec<u8>> = [1_000, 1_000, 1_000, 300, 1_200, 1_200, 17]
                .into_iter()
                .enumerate()
                .map(|(index, len)| (0..len).map(|at| (at + index * 7) as u8).collect())
                .collect();
            let mut queue = SendQueue::new();
            datagrams.iter().for_each(|datagram| queue.push(to, 1, datagram));
            assert_eq!(queue.runs().len(), 2);

            socket.send(&mut queue, &mut |owner| panic!("{owner} failed"));

            assert!(queue.is_empty());
            for expected in &datagrams {
                let (bytes, from) = receive(&far);
                assert_eq!((&bytes, from), (expected, socket.local_addr()));
            }
            let counters = socket.counters();
            assert_eq!(counters.datagrams_out.value(), 7);
            assert_eq!(counters.bytes_out.value(), 5_717);
            let runs = if portable || !cfg!(target_os = "linux") { 0 } else { 2 };
            assert_eq!(counters.gso_runs.value(), runs);
        }
    });
}

#[test]
fn the_default_address_speaks_ipv4_and_ipv6() {
    both_paths(|portable| {
        let mut socket = one("[::]:0", portable);
        let port = socket.local_addr().port();
        for ip in ["127.0.0.1", "::1"] {
            let far = sink(ip);
            far.send_to(b"ping", (ip, port)).unwrap();
            let received = receive_all(&mut socket, 1);
            assert_eq!(received, [(Path::udp(far.local_addr().unwrap()), b"ping".to_vec())]);

            let mut queue = SendQueue::new();
            queue.push(received[0].0, 1, b"pong");
            queue.push(received[0].0, 1, b"pong");
            socket.send(&mut queue, &mut |owner| panic!("{owner} failed"));
            for _ in 0..2 {
                assert_eq!(
                    receive(&far),
                    (b"pong".to_vec(), SocketAddr::new(ip.parse().unwrap(), port))
                );
            }
        }
    });
}

#[test]
fn an_impossible_destination_is_reported_and_the_others_get_theirs() {
    both_paths(|portable| {
        let mut socket = one("127.0.0.1:0", portable);
        let far = sink("127.0.0.1");
        let good = Path::udp(far.local_addr().unwrap());
        let [no_port, no_family] =
            ["127.0.0.1:0", "[2001:db8::1]:9"].map(|address| Path::udp(address.parse().unwrap()));
        let mut queue = SendQueue::new();
        for (owner, to) in [good, no_port, good, no_family, good].into_iter().enumerate() {
            queue.push(to, owner as u32, &[owner as u8; 100]);
            queue.push(to, owner as u32, &[owner as u8; 100]);
        }
        queue.push(no_port, Run::NO_OWNER, &[9]);

        let mut failed = Vec::new();
        socket.send(&mut queue, &mut |owner| failed.push(owner));

        assert!(queue.is_empty());
        assert_eq!(failed, [1, 3]);
        for owner in [0, 0, 2, 2, 4, 4] {
            assert_eq!(receive(&far).0, [owner; 100]);
        }
        assert_eq!(socket.counters().dropped_refused.value(), 5);
    });
}

#[test]
fn an_empty_queue_costs_no_call() {
    both_paths(|portable| {
        let mut socket = one("127.0.0.1:0", portable);
        socket.send(&mut SendQueue::new(), &mut |_| panic!("nothing can fail"));
        assert_eq!(socket.counters().send_calls.value(), 0);
    });
}

#[test]
fn one_turn_of_receiving_is_bounded_and_wait_knows_of_the_rest() {
    both_paths(|portable| {
        let mut socket = one("127.0.0.1:0", portable);
        let near = sink("127.0.0.1");
        let all = RECEIVE_MAX + 10;
        for index in 0..all {
            near.send_to(&[index as u8], socket.local_addr()).unwrap();
        }
        let mut seen = Vec::new();
        socket.wait(Some(LONG)).unwrap();
        let first = socket.receive(&mut |_, datagram| seen.push(datagram[0])).unwrap();
        assert_eq!(first, RECEIVE_MAX);

        // No new event comes for the rest, and still the socket does not sleep on it.
        let start = Instant::now();
        socket.wait(Some(LONG)).unwrap();
        assert!(start.elapsed() < LONG);
        let second = socket.receive(&mut |_, datagram| seen.push(datagram[0])).unwrap();

        assert_eq!(second, 10);
        assert_eq!(seen, (0..all).map(|index| index as u8).collect::<Vec<_>>());
        assert_eq!(socket.receive(&mut |_, _| panic!("there is no more")).unwrap(), 0);
    });
}

#[test]
fn oversized_datagrams_are_dropped_and_counted() {
    both_paths(|portable| {
        let mut socket = one("127.0.0.1:0", portable);
        let near = sink("127.0.0.1");
        for len in [DATAGRAM_IN_MAX, DATAGRAM_IN_MAX + 1, 30_000, 0, 5] {
            near.send_to(&vec![7; len], socket.local_addr()).unwrap();
        }
        let lengths: Vec<usize> = receive_all(&mut socket, 3)
            .iter()
            .map(|(_, datagram)| datagram.len())
            .collect();
        assert_eq!(lengths, [DATAGRAM_IN_MAX, 0, 5]);
        let counters = socket.counters();
        assert_eq!(counters.oversized_in.value(), 2);
        assert_eq!(counters.datagrams_in.value(), 3);
        assert_eq!(counters.bytes_in.value(), DATAGRAM_IN_MAX as u64 + 5);
    });
}

#[test]
fn the_waker_ends_a_wait_of_another_thread() {
    let mut socket = one("127.0.0.1:0", false);
    let waker = socket.waker();
    let (ready, prepared) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let start = Instant::now();
        socket.waker().prepare_sleep();
        ready.send(()).unwrap();
        socket.wait(Some(LONG)).unwrap();
        start.elapsed()
    });
    prepared.recv().unwrap();
    waker.wake();
    assert!(sleeper.join().unwrap() < LONG);
}

#[test]
fn a_wake_before_the_wait_is_not_lost_and_counts_once() {
    let mut socket = one("127.0.0.1:0", false);
    let waker = socket.waker();
    waker.wake();
    waker.wake();
    let start = Instant::now();
    socket.wait(Some(LONG)).unwrap();
    assert!(start.elapsed() < LONG);

    let short = Duration::from_millis(20);
    let start = Instant::now();
    socket.wait(Some(short)).unwrap();
    assert!(start.elapsed() >= short, "the second wait has nothing to wake it");
}

#[test]
fn what_many_threads_push_is_always_seen() {
    const EACH: usize = 2_000;
    let mut socket = one("127.0.0.1:0", false);
    let (push, lane) = std::sync::mpsc::channel();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (push, waker) = (push.clone(), socket.waker());
            std::thread::spawn(move || {
                for index in 0..EACH {
                    push.send(index).unwrap();
                    waker.wake();
                    if index % 16 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let start = Instant::now();
    let waker = socket.waker();
    let mut seen = 0;
    while seen < 3 * EACH {
        seen += lane.try_iter().count();
        waker.prepare_sleep();
        let late = lane.try_iter().count();
        seen += late;
        if late == 0 && seen < 3 * EACH {
            // Without a timeout: a lost wake-up would hang here.
            socket.wait(None).unwrap();
        }
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_wait_ends_after_its_timeout() {
    let mut socket = one("127.0.0.1:0", false);
    let start = Instant::now();
    socket.wait(Some(Duration::from_millis(15))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(15));
}

#[test]
fn a_port_in_use_is_refused_however_it_is_used() {
    let sharing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    #[cfg(unix)]
    sharing.set_reuse_port(true).unwrap();
    sharing
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let taken = sharing.local_addr().unwrap().as_socket().unwrap();
    for (address, shards) in [
        (taken, 1),
        (taken, 2),
        (SocketAddr::from(([0, 0, 0, 0], taken.port())), 2),
    ] {
        let error = bind(&config(&address.to_string(), shards, false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[test]
fn two_servers_do_not_share_a_port() {
    let first = bind(&config("[::]:0", 3, false)).unwrap();
    let address = first[0].local_addr();
    for shards in [1, 3] {
        let error = bind(&config(&address.to_string(), shards, false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

#[test]
fn an_address_of_another_machine_is_named_in_the_error() {
    let error = bind(&config("192.0.2.1:0", 1, false)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn shards_share_a_port_and_each_sender_stays_with_one() {
    both_paths(|portable| {
        let mut shards = bind(&config("[::]:0", 3, portable)).unwrap();
        assert_eq!(shards.len(), 3);
        let port = shards[0].local_addr().port();
        assert!(shards.iter().all(|shard| shard.local_addr().port() == port));
        let senders: Vec<_> = (0..48).map(|_| sink("127.0.0.1")).collect();
        for round in 0..4u8 {
            for sender in &senders {
                sender.send_to(&[round], ("127.0.0.1", port)).unwrap();
            }
        }
        let mut sources: Vec<Vec<Path>> = Vec::new();
        for shard in &mut shards {
            let mut from: Vec<Path> = Vec::new();
            while shard.receive(&mut |source, _| from.push(source)).unwrap() > 0 {}
            sources.push(from);
        }
        assert_eq!(sources.iter().map(Vec::len).sum::<usize>(), 4 * 48);
        for sender in &senders {
            let path = Path::udp(sender.local_addr().unwrap());
            let counts = sources
                .iter()
                .map(|from| from.iter().filter(|source| **source == path).count());
            assert_eq!(counts.filter(|count| *count > 0).collect::<Vec<_>>(), [4]);
        }
        assert!(
            sources.iter().all(|from| !from.is_empty()),
            "48 senders on one socket of three: not by chance"
        );
    });
}

#[test]
fn a_long_queue_of_runs_of_every_kind_arrives_whole() {
    both_paths(|portable| {
        let mut socket = one("[::]:0", portable);
        let mut random = Random(0x5eed);
        let far: Vec<_> = (0..5).map(|_| sink("127.0.0.1")).collect();
        for _ in 0..20 {
            let mut queue = SendQueue::new();
            let mut expected = vec![Vec::new(); far.len()];
            for index in 0..60u8 {
                let which = random.below(far.len());
                let datagram = vec![index; [1, 40, 40, 1_100, 1_100, 1_100][random.below(6)]];
                queue.push(Path::udp(far[which].local_addr().unwrap()), which as u32, &datagram);
                expected[which].push(datagram);
            }
            socket.send(&mut queue, &mut |owner| panic!("{owner} failed"));
            for (far, expected) in far.iter().zip(expected) {
                let received: Vec<_> = expected.iter().map(|_| receive(far).0).collect();
                assert_eq!(received, expected);
            }
        }
    });
}

#[test]
fn a_send_queue_agrees_with_a_list_of_datagrams() {
    for seed in 1..=200 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut queue = SendQueue::new();
        let mut model: Vec<(Path, u32, Vec<u8>)> = Vec::new();
        for _ in 0..400 {
            if queue.is_full() || random.below(50) == 0 {
                check(&queue, &model);
                queue.clear();
                model.clear();
            }
            let owner = random.below(3) as u32;
            let to = Path::udp(([127, 0, 0, 1], 1_000 + random.below(2) as u16).into());
            let len = [1, 30, 31, 1_000, 1_499, 1_500][random.below(6)];
            for _ in 0..random.below(80) {
                if queue.is_full() {
                    break;
                }
                let datagram = vec![random.below(256) as u8; len];
                queue.push(to, owner, &datagram);
                model.push((to, owner, datagram));
            }
        }
    }
}

/// The runs, cut at their segment length, are the datagrams in their order, and no rule of a run is broken.
fn check(queue: &SendQueue, model: &[(Path, u32, Vec<u8>)]) {
    let mut cut = Vec::new();
    for run in queue.runs() {
        assert!((1..=Run::SEGMENTS_MAX).contains(&run.segments));
        assert!(run.len <= 65_507 - 48);
        let datagrams: Vec<_> = queue.bytes(run).chunks(usize::from(run.segment)).collect();
        assert_eq!(datagrams.len(), usize::from(run.segments));
        cut.extend(datagrams.iter().map(|datagram| (run.to, run.owner, datagram.to_vec())));
    }
    assert!(queue.runs().len() <= SendQueue::RUNS_MAX);
    assert_eq!(cut, model);
    // Runs are as long as they can be: where one ends, the next datagram could not have followed.
    for pair in queue.runs().windows(2) {
        let [before, after] = pair else {
            unreachable!("windows of two")
        };
        let same = before.to == after.to && before.owner == after.owner;
        let open = before.len == u32::from(before.segment) * u32::from(before.segments);
        let room = before.segments < Run::SEGMENTS_MAX && before.len + u32::from(after.segment) <= 65_000;
        assert!(!(same && open && room && after.segment <= before.segment));
    }
}

fn both_paths(test: impl Fn(bool)) {
    for portable in [false, true] {
        println!("portable: {portable}");
        test(portable);
    }
}

fn config(address: &str, shards: usize, portable: bool) -> MediaSocketConfig {
    MediaSocketConfig {
        address: address.parse().unwrap(),
        shards,
        portable,
        ..MediaSocketConfig::default()
    }
}

fn one(address: &str, portable: bool) -> MediaSocket {
    bind(&config(address, 1, portable)).unwrap().remove(0)
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

fn sink(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

fn receive_all(socket: &mut MediaSocket, count: usize) -> Vec<(Path, Vec<u8>)> {
    let start = Instant::now();
    let mut all = Vec::new();
    while all.len() < count && start.elapsed() < LONG {
        socket.wait(Some(LONG)).unwrap();
        socket
            .receive(&mut |from, datagram| all.push((from, datagram.to_vec())))
            .unwrap();
    }
    all
}

/// xorshift64: enough to shuffle tests, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Longer than any step of these tests takes on a busy machine.
const LONG: Duration = Duration::from_secs(10);
