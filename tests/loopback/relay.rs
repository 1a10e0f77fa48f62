//! A UDP relay that loses packets: one socket for all clients, and one towards the server for each of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// A running relay; it ends when dropped.
pub(crate) struct Relay {
    port: u16,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    /// A relay to `server` that loses `loss` percent of the RTP and RTCP each way. STUN and DTLS pass: they repeat themselves.
    pub(crate) async fn start(server: SocketAddr, loss: u32) -> Relay {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = front.local_addr().unwrap().port();
        let dice = Arc::new(Dice(AtomicU32::new(0x2545_f491), loss));
        let task = tokio::spawn(run(front, server, dice));
        Relay {
            port,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// A seeded source of losses.
struct Dice(AtomicU32, u32);

impl Dice {
    fn loses(&self, datagram: &[u8]) -> bool {
        let media = datagram.first().is_some_and(|first| (128..192).contains(first));
        let next = |seed: u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let seed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap();
        media && (seed >> 8) % 100 < self.1
    }
}

async fn run(front: Arc<UdpSocket>, server: SocketAddr, dice: Arc<Dice>) {
    let mut backs: HashMap<SocketAddr, (Arc<UdpSocket>, AbortOnDropHandle<()>)> = HashMap::new();
    let mut buffer = [0; 2_048];
    while let Ok((len, client)) = front.recv_from(&mut buffer).await {
        if let Entry::Vacant(place) = backs.entry(client) {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            back.connect(server).await.unwrap();
            let task = tokio::spawn(return_way(front.clone(), back.clone(), client, dice.clone()));
            place.insert((back, AbortOnDropHandle::new(task)));
        }
        if !dice.loses(&buffer[..len]) {
            let _ = backs[&client].0.send(&buffer[..len]).await;
        }
    }
}

async fn return_way(front: Arc<UdpSocket>, back: Arc<UdpSocket>, client: SocketAddr, dice: Arc<Dice>) {
    let mut buffer = [0; 2_048];
    while let Ok(len) = back.recv(&mut buffer).await {
        if !dice.loses(&buffer[..len]) {
            let _ = front.send_to(&buffer[..len], client).await;
        }
    }
}
