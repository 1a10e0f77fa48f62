//! A broadcast without sockets: a real shard with real sessions, in simulated time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::{Command, Direction, Plan, Session, Shard, ShardConfig, ViewerLine};
use onecast_engine::media::lane::{StreamKey, StreamSlot};
use onecast_engine::media::{Inbox, LayerIndex, LayerLimit, StreamTracks, Wake};
use onecast_metrics::ShardCounters;
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::rtcp::{ReceptionBlock, write_receiver_report};
use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};
use onecast_rtc::sdp::{AnswerParams, MediaLine, Offer, Role, SendLayers, TrackSsrcs};
use onecast_rtc::srtp::{Sealer, SrtpKeys};
use onecast_rtc::transmit::{Outlet, SendQueue};
use onecast_rtc::{Certificate, IceCredentials, Path, SessionId};

/// A network without loss: keeps what the shard sends while handshakes need it, and forgets media.
#[derive(Default)]
pub(crate) struct Network {
    keep: bool,
    kept: Vec<(SocketAddr, Vec<u8>)>,
    /// Sent so far.
    pub(crate) datagrams: u64,
    /// The sequence number that each viewer was sent last, if that is of interest.
    pub(crate) newest: Option<HashMap<SocketAddr, u16>>,
}

impl Outlet for Network {
    fn send(&mut self, queue: &mut SendQueue, _: &mut dyn FnMut(u32)) {
        for run in queue.runs() {
            self.datagrams += u64::from(run.segments);
            if let Some(newest) = &mut self.newest {
                let bytes = queue.bytes(run);
                let last = bytes.chunks(usize::from(run.segment)).next_back().unwrap_or_default();
                if let [_, _, high, low, ..] = *last {
                    newest.insert(run.to.remote, u16::from_be_bytes([high, low]));
                }
            }
            if self.keep {
                let segments = queue.bytes(run).chunks(usize::from(run.segment));
                self.kept.extend(segments.map(|bytes| (run.to.remote, bytes.to_vec())));
            }
        }
        queue.clear();
    }
}

struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

/// A shard with one publisher and its viewers, all connected.
pub(crate) struct Broadcast {
    pub(crate) shard: Shard,
    pub(crate) network: Network,
    certificate: Certificate,
    tracks: Arc<StreamTracks>,
    now: Instant,
    publisher: SocketAddr,
    members: bool,
    /// Of the publisher's video, each of which has its share of the viewers; `None` for one layer.
    layers: Option<SendLayers>,
    sealer: Option<Sealer>,
    viewers: Vec<Sealer>,
    packets: u64,
    frames: u32,
}

/// An offer of three layers with their SSRCs.
const LAYERS: &str = include_str!("../data/layers/firefox153-vp8-simulcast.offer.sdp");

impl Broadcast {
    /// Watched by viewers, or by as many members of a room.
    pub(crate) fn of(viewers: u16, members: bool) -> Broadcast {
        Broadcast::with(viewers, members, None, true)
    }

    /// Three layers, each watched by a third of the viewers.
    pub(crate) fn of_layers(viewers: u16) -> Broadcast {
        Broadcast::of_layers_if(viewers, true)
    }

    /// The same, whose viewers' reports may change nothing.
    pub(crate) fn of_layers_if(viewers: u16, adapts: bool) -> Broadcast {
        let offer = Offer::parse(LAYERS).unwrap();
        let agreement = offer.negotiate(Role::Publisher).unwrap().with_layers();
        Broadcast::with(viewers, false, agreement.layers(), adapts)
    }

    fn with(viewers: u16, members: bool, layers: Option<SendLayers>, adapts: bool) -> Broadcast {
        let now = onecast_udp::clock::now();
        let certificate = Certificate::generate().unwrap();
        let inbox = Inbox::new(Box::new(Asleep));
        let key = StreamKey {
            slot: StreamSlot(0),
            serial: 1,
        };
        let tracks = StreamTracks::new(key, "live", [Ssrc(1), Ssrc(2), Ssrc(3)], [inbox.clone()].into(), now);
        let config = ShardConfig {
            id: 0,
            certificate: certificate.clone(),
            pli_interval: None,
            keyframe_share: 10,
            start: onecast_engine::fanout::StartConfig::default(),
            adapts,
            probe_share: ShardConfig::PROBE_SHARE,
            peers_max: 10_000,
            slice: ShardConfig::SLICE,
            wall: (now, 0),
        };
        let mut broadcast = Broadcast {
            shard: Shard::new(config, inbox, Arc::new(ShardCounters::default())),
            network: Network::default(),
            certificate,
            tracks: Arc::new(tracks),
            now,
            publisher: address(0),
            members,
            layers,
            sealer: None,
            viewers: Vec::new(),
            packets: 0,
            frames: 0,
        };
        let client_certificate = Certificate::generate().unwrap();
        broadcast.sealer = Some(Sealer::new(&broadcast.connect(0, true, &client_certificate)));
        for number in 1..=viewers {
            let keys = broadcast.connect(number, false, &client_certificate);
            broadcast.viewers.push(Sealer::new(&keys));
        }
        broadcast
    }

    /// A reception report of each viewer, sealed, that acknowledges all of the last frame.
    pub(crate) fn reports(&mut self) -> Vec<(Path, Vec<u8>)> {
        self.network.newest = Some(HashMap::new());
        self.frame(false);
        let newest = self.network.newest.take().unwrap_or_default();
        let (about, viewers) = (self.tracks.video.ssrc(), self.viewers.iter_mut().zip(1..));
        let report = |(sealer, number): (&mut Sealer, u16)| {
            let block = ReceptionBlock {
                about,
                fraction_lost: 0,
                lost: 0,
                highest: newest[&address(number)].into(),
                jitter: 0,
                last_sr: 0,
                delay: 0,
            };
            let mut bytes = vec![0; 128];
            let len = write_receiver_report(&mut bytes, Ssrc(1), &[block]);
            let len = sealer.seal_rtcp(&mut bytes, len);
            bytes.truncate(len);
            (Path::udp(address(number)), bytes)
        };
        viewers.map(report).collect()
    }

    /// The shard takes them.
    pub(crate) fn take_reports(&mut self, reports: &mut [(Path, Vec<u8>)]) {
        for (from, datagram) in reports {
            self.shard.handle_datagram(self.now, *from, datagram);
        }
    }

    /// Returns the keys of client `number` when its handshake is done.
    pub(crate) fn connect(&mut self, number: u16, publishes: bool, certificate: &Certificate) -> SrtpKeys {
        let (own, local) = (
            credentials(&format!("c{number:05}")),
            credentials(&format!("s{number:05}")),
        );
        let params = OfferParams {
            ice: &own,
            fingerprint: certificate.fingerprint(),
            active: true,
            publishes,
            rtx: true,
        };
        let answer = self.answer(number, &write_offer(&params), &local, publishes);
        let answered = Answered::parse(&answer).unwrap();
        let mut client = ClientPeer::new(&own, &answered, true, certificate.clone(), self.now);
        self.network.keep = true;
        for _ in 0..100 {
            client.handle_timeout(self.now);
            while let Some(mut datagram) = client.poll_transmit() {
                self.shard
                    .handle_datagram(self.now, Path::udp(address(number)), &mut datagram);
            }
            self.shard.handle_timeout(self.now, &mut self.network);
            self.shard.handle_handshakes(self.now);
            self.shard.flush(&mut self.network);
            let mut keys = None;
            for (to, datagram) in std::mem::take(&mut self.network.kept) {
                if to == address(number)
                    && let Some(ClientEvent::Connected(made)) = client.handle_datagram(self.now, &datagram)
                {
                    keys = Some(made);
                }
            }
            if let Some(keys) = keys {
                self.network.keep = false;
                return keys;
            }
            self.now += Duration::from_millis(1);
        }
        panic!("client {number} does not connect");
    }

    /// What the server's signalling does with an offer.
    fn answer(&mut self, number: u16, offer: &str, local: &IceCredentials, publishes: bool) -> String {
        let offer = Offer::parse(offer).unwrap();
        let role = if publishes {
            Role::Publisher
        } else {
            Role::Viewer(TrackSsrcs {
                video: self.tracks.video.ssrc(),
                video_rtx: self.tracks.video.rtx_ssrc(),
                audio: self.tracks.audio.ssrc(),
            })
        };
        let params = AnswerParams {
            ice: local,
            fingerprint: self.certificate.fingerprint(),
            candidates: &[address(9_999)],
            session_id: 1,
            stream: "live",
        };
        let answer = offer.answer(role, &params).unwrap();
        let negotiated = answer.negotiated;
        let (tracks, line) = (self.tracks.clone(), |line: &Option<MediaLine>| {
            line.as_ref().map(ViewerLine::new)
        });
        let (direction, plan) = if publishes {
            let mut plan = Plan::publish(tracks, negotiated);
            let video = plan.sources[0].video.as_mut().unwrap();
            video.layers = self.layers.or(video.layers);
            (Direction::SendOnly, plan)
        } else {
            let mut plan = Plan::watch(tracks, line(&negotiated.audio), line(&negotiated.video));
            if let Some(layers) = self.layers {
                let place = usize::from(number) % layers.as_slice().len();
                plan = plan.with_limit(LayerLimit {
                    pin: LayerIndex::all().nth(place),
                    ..LayerLimit::default()
                });
            }
            let direction = if self.members {
                Direction::SendReceive
            } else {
                Direction::ReceiveOnly
            };
            (direction, plan)
        };
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let remote = offer.remote().clone();
        let session = Session::new(
            SessionId::from_random(id),
            local.clone(),
            remote,
            direction,
            plan,
            self.now,
        );
        self.shard.handle_command(Command::Expect(Arc::new(session)));
        answer.sdp
    }

    /// A frame of six packets of each layer arrives and goes out.
    pub(crate) fn frame(&mut self, keyframe: bool) {
        let packets = self.packets;
        match self.layers {
            Some(layers) => {
                for layer in layers.as_slice() {
                    self.packets = packets;
                    self.receive(keyframe, layer.ssrc.unwrap());
                }
            }
            None => self.receive(keyframe, Ssrc(77)),
        }
        self.frames += 1;
        self.shard.handle_lanes(self.now, &mut self.network);
        while self.shard.is_flushing() {
            self.shard.handle_lanes(self.now, &mut self.network);
        }
        self.shard.flush(&mut self.network);
    }

    fn receive(&mut self, keyframe: bool, ssrc: Ssrc) {
        let mut buffer = [0; 1_000];
        for position in 0..6 {
            let header = HeaderOut {
                marker: position == 5,
                padding: false,
                payload_type: Pt(96),
                sequence: self.packets as u16,
                timestamp: RtpTime(self.frames * 3_000),
                ssrc,
            };
            header.write(&mut buffer, &[]);
            buffer[12] = if position == 0 { 0x10 } else { 0 };
            buffer[13] = u8::from(!keyframe);
            let len = self
                .sealer
                .as_mut()
                .unwrap()
                .seal_rtp(&mut buffer, 12, 984, self.packets);
            self.packets += 1;
            self.shard
                .handle_datagram(self.now, Path::udp(self.publisher), &mut buffer[..len]);
        }
    }

    /// Lets viewers start, who wait a little and are sent a slice at a time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.shard.handle_timeout(self.now, &mut self.network);
        }
    }
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.into(),
        pwd: format!("{name}0123456789012345678901").into(),
    }
}

fn address(number: u16) -> SocketAddr {
    ([192, 0, 2, 1], 10_000 + number).into()
}
