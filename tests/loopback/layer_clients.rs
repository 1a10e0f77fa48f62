//! Clients of streams with layers: publishers that stop and resume layers, files of H264 in several sizes, and a viewer on a raw socket that
//! keeps the header of every video packet.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use onecast_clients::load::layers::LayerSet;
use onecast_clients::load::publisher::LoadPublisher;
use onecast_clients::load::solo::{SoloConfig, SoloPublisher};
use onecast_clients::source::{self, LayeredSource};
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::picture_size;
use onecast_rtc::rtp::{Codec, Pt, RtpTime};
use onecast_rtc::srtp::Opener;
use onecast_udp::clock;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::raw_viewer::RawViewer;
use crate::rig::Rig;

/// A publisher of the load, which sends on a thread of its own.
pub(crate) struct LayeredPublisher {
    orders: Arc<Mutex<VecDeque<Order>>>,
    /// Keyframe requests of the server.
    requests: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    SetActive(&'static str, bool),
    Leave,
}

impl LayeredPublisher {
    /// Publishes the stream `live`. The layers `silent` are offered, and not sent until they are resumed.
    pub(crate) fn start(rig: &Rig, layers: LayerSet, silent: &'static [&'static str]) -> LayeredPublisher {
        let mut publisher = LayeredPublisher {
            orders: Arc::default(),
            requests: Arc::default(),
            thread: None,
        };
        let (orders, requests) = (publisher.orders.clone(), publisher.requests.clone());
        let config = SoloConfig {
            layers,
            ..SoloConfig::new(&rig.whip("live"))
        };
        publisher.thread = Some(std::thread::spawn(move || {
            let mut solo = SoloPublisher::connect(&config).unwrap();
            for rid in silent {
                assert!(solo.publisher_mut().set_active(rid, false), "{rid}");
            }
            loop {
                let has_orders = |solo: &LoadPublisher| {
                    requests.store(solo.counts().keyframe_requests, Ordering::Relaxed);
                    !orders.lock().unwrap().is_empty()
                };
                solo.send_until(Duration::from_secs(1), has_orders).unwrap();
                match orders.lock().unwrap().pop_front() {
                    Some(Order::SetActive(rid, is_active)) => {
                        assert!(solo.publisher_mut().set_active(rid, is_active), "{rid}");
                    }
                    Some(Order::Leave) => break,
                    None => {}
                }
            }
            solo.close();
        }));
        publisher
    }

    /// Stops or resumes a layer.
    pub(crate) fn set_active(&self, rid: &'static str, is_active: bool) {
        let order = Order::SetActive(rid, is_active);
        self.orders.lock().unwrap().push_back(order);
    }

    /// Ends the session. Fails if the publisher has failed.
    pub(crate) async fn leave(mut self) {
        self.orders.lock().unwrap().push_back(Order::Leave);
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
    }

    /// Keyframe requests of the server so far.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// For tests that fail.
impl Drop for LayeredPublisher {
    fn drop(&mut self) {
        self.orders.lock().unwrap().push_back(Order::Leave);
    }
}

/// A layer of H264, as a file.
#[derive(Clone, Copy)]
pub(crate) struct H264Layer {
    pub(crate) rid: &'static str,
    /// Pixels, both multiples of 16.
    pub(crate) size: (u16, u16),
    /// Of a frame; a keyframe has four times as many.
    pub(crate) bytes: usize,
}

/// Writes a file for each layer, one second long with a keyframe at its start, and opens them as one video that repeats.
pub(crate) fn h264_source(folder: &Path, layers: &[H264Layer]) -> LayeredSource {
    let mut files = Vec::new();
    for layer in layers {
        let path = folder.join(format!("{}.h264", layer.rid));
        std::fs::write(&path, h264_second(layer)).unwrap();
        files.push(format!("{}={}", layer.rid, path.display()).parse().unwrap());
    }
    source::open_layers(&files, true).unwrap()
}

/// What a decoder would refuse, and the server forwards: parameter sets, and slices with a head but no macroblocks.
fn h264_second(layer: &H264Layer) -> Vec<u8> {
    const IDR: u8 = 0x65;
    const DELTA: u8 = 0x41;
    let mut units = vec![sequence_parameters(layer.size), vec![0x68, 0xce, 0x38, 0x80]];
    for frame in 0..30 {
        let (head, len) = if frame == 0 {
            (IDR, layer.bytes * 4)
        } else {
            (DELTA, layer.bytes)
        };
        let mut slice = vec![0xa5; len];
        // It begins at the first macroblock.
        (slice[0], slice[1]) = (head, 0x88);
        units.push(slice);
    }
    units
        .iter()
        .flat_map(|unit| [&[0, 0, 0, 1], &unit[..]].concat())
        .collect()
}

/// H.264 section 7.3.2.1.1: baseline, whole macroblocks.
fn sequence_parameters((width, height): (u16, u16)) -> Vec<u8> {
    let exp_golomb = |value: u32| {
        let digits = format!("{:b}", value + 1);
        "0".repeat(digits.len() - 1) + &digits
    };
    let [columns, rows] = [width, height].map(|pixels| exp_golomb(u32::from(pixels / 16 - 1)));
    // Its id, frame numbers of 4 bits, pictures in the order of decoding, one reference frame, no gaps.
    let start = exp_golomb(0) + &exp_golomb(0) + &exp_golomb(2) + &exp_golomb(1) + "0";
    // Frames, 8x8 inference, no cropping, nothing about display, and the stop bit.
    let mut bits = start + &columns + &rows + "1" + "1" + "0" + "0" + "1";
    bits.push_str(&"0".repeat(bits.len().next_multiple_of(8) - bits.len()));
    let bytes = bits.as_bytes().chunks(8);
    let byte = |digits: &[u8]| digits.iter().fold(0, |byte, digit| byte << 1 | (digit - b'0'));
    [0x67, 0x42, 0xc0, 0x1f].into_iter().chain(bytes.map(byte)).collect()
}

/// Header of a video packet, in the order of arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Got {
    pub(crate) sequence: u16,
    pub(crate) timestamp: RtpTime,
    pub(crate) marker: bool,
    pub(crate) at: Instant,
    /// The height of the picture that the packet begins, if it is a keyframe.
    pub(crate) height: Option<u16>,
}

/// A viewer of the stream `live`. It sends no reports, so nothing but its choice changes what it is sent.
pub(crate) struct LayerViewer {
    session: String,
    got: Arc<Mutex<Vec<Got>>>,
    is_over: Arc<AtomicBool>,
}

impl LayerViewer {
    pub(crate) async fn join(rig: &Rig) -> LayerViewer {
        let raw = RawViewer::join(&rig.whep("live")).await;
        let viewer = LayerViewer {
            session: format!("http://{}{}", rig.http, raw.session),
            got: Arc::default(),
            is_over: Arc::default(),
        };
        let (got, is_over) = (viewer.got.clone(), viewer.is_over.clone());
        std::thread::spawn(move || receive(raw.server, raw.peer, &got, &is_over));
        viewer
    }

    /// `POST` to its layer resource. Returns the status.
    pub(crate) async fn choose(&self, choice: &Value) -> u16 {
        let request = reqwest::Client::new().post(format!("{}/layer", self.session));
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(choice.to_string());
        request.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn pin(&self, rid: &str) {
        assert_eq!(self.choose(&json!({ "rid": rid })).await, 200, "{rid}");
    }

    /// `GET` of its layer resource.
    pub(crate) async fn layer(&self) -> Value {
        let response = reqwest::get(format!("{}/layer", self.session)).await.unwrap();
        response.json().await.unwrap()
    }

    /// The height of the newest keyframe.
    pub(crate) fn height(&self) -> Option<u16> {
        self.heights().last().copied()
    }

    /// Heights of its keyframes; the same ones in a row count once.
    pub(crate) fn heights(&self) -> Vec<u16> {
        let mut heights: Vec<u16> = self.got().iter().filter_map(|packet| packet.height).collect();
        heights.dedup();
        heights
    }

    /// Frames that it received to the end.
    pub(crate) fn frames(&self) -> usize {
        self.got().iter().filter(|packet| packet.marker).count()
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Checks everything it has received: whole frames with contiguous numbers, in the order of their timestamps, which pass as fast as time.
    pub(crate) fn check(&self) {
        let got = self.got();
        for pair in got.windows(2) {
            let [before, after] = [pair[0], pair[1]];
            assert_eq!(after.sequence, before.sequence.wrapping_add(1), "{before:?} {after:?}");
            let elapsed = after.timestamp.0.wrapping_sub(before.timestamp.0).cast_signed();
            match before.marker {
                true => assert!(elapsed > 0, "{before:?} {after:?}"),
                false => assert_eq!(elapsed, 0, "{before:?} {after:?}"),
            }
        }
        let (first, last) = (got[0], got[got.len() - 1]);
        let shown = f64::from(last.timestamp.0.wrapping_sub(first.timestamp.0)) / VIDEO_CLOCK;
        let taken = (last.at - first.at).as_secs_f64();
        assert!((shown - taken).abs() < 1.0, "{shown} s of video in {taken} s");
    }

    /// The longest time between two packets.
    pub(crate) fn longest_gap(&self) -> Duration {
        let got = self.got();
        let gaps = got.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or_default()
    }
}

impl Drop for LayerViewer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn receive(server: SocketAddr, mut peer: ClientPeer, got: &Mutex<Vec<Got>>, is_over: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut opener = None;
    let mut buffer = [0; 2_048];
    while !is_over.load(Ordering::Relaxed) {
        if peer.poll_timeout() <= clock::now() {
            peer.handle_timeout(clock::now());
        }
        if let Ok(len) = socket.recv(&mut buffer) {
            match (peer.handle_datagram(clock::now(), &buffer[..len]), &mut opener) {
                (Some(ClientEvent::Connected(keys)), _) => opener = Some(Opener::new(&keys)),
                (Some(ClientEvent::Media), Some(opener)) => {
                    got.lock().unwrap().extend(video_packet(opener, &mut buffer[..len]));
                }
                _ => {}
            }
        }
        while let Some(datagram) = peer.poll_transmit() {
            socket.send_to(&datagram, server).unwrap();
        }
    }
}

/// Opens a packet; `None` for audio and retransmissions.
fn video_packet(opener: &mut Opener, datagram: &mut [u8]) -> Option<Got> {
    let header = RtpHeader::parse(datagram).unwrap();
    let codec = match header.payload_type {
        VP8 => Codec::Vp8,
        H264 => Codec::H264,
        _ => return None,
    };
    let opened = opener.open_rtp(datagram, header.len, header.ssrc, header.sequence);
    let payload = header.payload(&datagram[..opened.unwrap()]).unwrap();
    Some(Got {
        sequence: header.sequence,
        timestamp: header.timestamp,
        marker: header.marker,
        at: clock::now(),
        height: picture_size(codec, payload).map(|(_, height)| height),
    })
}

/// Payload types of [`write_offer`].
const VP8: Pt = Pt(96);
const H264: Pt = Pt(102);
/// Hz.
const VIDEO_CLOCK: f64 = 90_000.0;
