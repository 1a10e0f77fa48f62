//! Garbage and attacks on the media port, next to a broadcast that must not be affected.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use onecast_clients::publish::Publisher;
use onecast_clients::watch::Viewer;
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
use onecast_rtc::rtp::Kind;
use onecast_rtc::{Certificate, IceCredentials, Sealer};
use onecast_testing::{Tests, tests};

use crate::dtls_attack::nested_fragments;
use crate::rig::{Detours, Rig};
use crate::{has_frames, test_card};

pub(crate) fn tests() -> Tests {
    tests![garbage_on_the_media_port_disturbs_no_session,]
}

/// A seeded generator of bytes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Sends slowly enough for the server to keep up: the socket buffer is not under test.
fn send_all(socket: &UdpSocket, server: SocketAddr, datagrams: impl Iterator<Item = Vec<u8>>) {
    for (number, datagram) in datagrams.enumerate() {
        let _ = socket.send_to(&datagram, server);
        if number % 64 == 63 {
            // This thread may block: nothing is measured here.
            socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let _ = socket.recv(&mut [0; 2_048]);
        }
    }
}

/// Datagrams that start like each protocol, in every relevant length.
fn shapes(noise: &mut Noise) -> Vec<Vec<u8>> {
    let mut shapes = Vec::new();
    for first in [0u8, 1, 20, 21, 22, 23, 63, 100, 128, 144, 191, 255] {
        for len in (0..80).chain([500, 1_200, 1_472, 2_047, 2_048, 2_049, 9_000]) {
            let mut datagram = noise.bytes(len);
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            if let Some(byte) = datagram.get_mut(1).filter(|_| first == 128) {
                *byte = 200 + (len % 8) as u8;
            }
            shapes.push(datagram);
        }
    }
    shapes
}

/// A STUN binding request for a user name, with a forged integrity attribute.
fn forged_check(username: &str, noise: &mut Noise) -> Vec<u8> {
    let padded = username.len().next_multiple_of(4);
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend(noise.bytes(12));
    message.extend([0, 6, 0, username.len() as u8]);
    message.extend(username.as_bytes());
    message.resize(24 + padded, 0);
    message.extend([0, 8, 0, 20]);
    message.extend(noise.bytes(20));
    let len = (message.len() - 20) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    message
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.into(),
        pwd: "0123456789012345678901".into(),
    }
}

async fn answered(rig: &Rig, name: &str, certificate: &Certificate) -> Answered {
    let ice = credentials(name);
    let fingerprint = certificate.fingerprint();
    let params = OfferParams {
        ice: &ice,
        fingerprint,
        active: true,
        publishes: false,
        rtx: true,
    };
    let granted = onecast_clients::signal::post_offer(&rig.whep("live"), write_offer(&params), None)
        .await
        .unwrap();
    Answered::parse(&granted.answer).unwrap()
}

/// Everything that can be sent without keys, and with a client's own keys.
fn attack(server: SocketAddr, victim: &Answered, own: &Answered, certificate: Certificate) {
    let mut noise = Noise(42);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let shapes = shapes(&mut noise);
    send_all(&socket, server, shapes.iter().cloned());
    let flood: Vec<_> = (0..10_000)
        .map(|number| forged_check(&format!("ufrag{number}:x"), &mut noise))
        .collect();
    send_all(&socket, server, flood.into_iter());
    let name = format!("{}:victim", victim.ice.ufrag);
    let wrong: Vec<_> = (0..500).map(|_| forged_check(&name, &mut noise)).collect();
    send_all(&socket, server, wrong.iter().cloned());
    let truncated = (0..wrong[0].len()).map(|len| wrong[0][..len].to_vec());
    send_all(&socket, server, truncated);

    // After a valid check but before any key: media, every shape again from an address that is now known, and DTLS that is hard to
    // reassemble. None of it may use up what the handshake needs afterwards.
    let insider = UdpSocket::bind("127.0.0.1:0").unwrap();
    insider.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut peer = ClientPeer::new(
        &credentials("insider"),
        own,
        true,
        certificate,
        onecast_udp::clock::now(),
    );
    peer.handle_timeout(onecast_udp::clock::now());
    while let Some(check) = peer.poll_transmit() {
        insider.send_to(&check, server).unwrap();
    }
    send_all(&insider, server, shapes.iter().cloned());
    send_all(&insider, server, nested_fragments().into_iter());
    let Some(mut sealer) = handshake(&insider, server, &mut peer) else {
        panic!("the insider could not connect")
    };
    send_all(&insider, server, shapes.iter().cloned());
    // A viewer that sends media, replays its reports, and sends nonsense reports.
    let mut report = vec![0; 200];
    report[..8].copy_from_slice(&[0x81, 205, 0xff, 0xff, 0, 0, 0, 1]);
    let len = sealer.seal_rtcp(&mut report, 60);
    send_all(&insider, server, std::iter::repeat_n(report[..len].to_vec(), 200));
}

fn handshake(socket: &UdpSocket, server: SocketAddr, peer: &mut ClientPeer) -> Option<Sealer> {
    let mut buffer = [0; 2_048];
    for _ in 0..500 {
        peer.handle_timeout(onecast_udp::clock::now());
        while let Some(datagram) = peer.poll_transmit() {
            socket.send_to(&datagram, server).unwrap();
        }
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        if let Some(ClientEvent::Connected(keys)) = peer.handle_datagram(onecast_udp::clock::now(), &buffer[..len]) {
            while let Some(datagram) = peer.poll_transmit() {
                socket.send_to(&datagram, server).unwrap();
            }
            return Some(Sealer::new(&keys));
        }
    }
    None
}

async fn garbage_on_the_media_port_disturbs_no_session() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 10).await;

    let certificate = Certificate::generate().unwrap();
    let victim = answered(&rig, "victim", &certificate).await;
    let own = answered(&rig, "insider", &certificate).await;
    let server = rig.app.media_address();
    tokio::task::spawn_blocking(move || attack(server, &victim, &own, certificate))
        .await
        .unwrap();

    let before = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", before + 30).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0), "{video:?}");
    for counter in [
        "stun_dropped",
        "dtls_dropped",
        "rtp_in_dropped",
        "rtcp_dropped",
        "unknown_dropped",
    ] {
        assert!(rig.counter(counter) > 0, "{counter}: dropped and counted");
    }
    assert!(rig.counter("stun_dropped") >= 5_000, "the flood arrived");
    publisher.close().await;
    rig.stop().await;
}
