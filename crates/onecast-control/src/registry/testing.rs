//! A registry with publishers and viewers whose media is only counted, in a time that a test lets pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tests::UNBOUNDED;
use super::*;
use crate::Credential;
use onecast_engine::fanout::{Direction, Plan, ViewerLine};
use onecast_rtc::rtp::Pt;
use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};
use onecast_rtc::{DtlsRole, RemoteTransport};

/// A place that was given to a client.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) tracks: Arc<StreamTracks>,
    pub(super) number: u64,
    pub(super) displaced: Option<Ended>,
    pub(super) takes_over: bool,
}

/// How long a client may take to connect, and what permits it.
pub(crate) struct Terms {
    pub(super) timeout: Duration,
    pub(super) grant: Grant,
}

impl From<Duration> for Terms {
    fn from(timeout: Duration) -> Terms {
        let grant = Grant::default();
        Terms { timeout, grant }
    }
}

impl Registry {
    /// Finds a place and takes it, as the control plane does.
    pub(crate) fn join(
        &mut self,
        now: Instant,
        stream: &StreamName,
        caller: Caller,
        id: SessionId,
        terms: impl Into<Terms>,
    ) -> Result<Admitted, Refusal> {
        let Terms { timeout, grant } = terms.into();
        let applicant = Applicant {
            id,
            stream,
            purpose: caller.purpose,
            via: Via::Whip,
            client: (caller.address, 4_000).into(),
            grant: &grant,
            timeout,
        };
        let slot = self.find_slot(now, &applicant)?;
        let (displaced, why) = slot.displaces().unzip();
        let displaced = displaced.and_then(|id| self.remove(now, id));
        let tracks = self.enter(now, &applicant, &slot);
        Ok(Admitted {
            tracks,
            number: self.sessions.by_id[&id].number,
            displaced,
            takes_over: why == Some(EndReason::TakenOver),
        })
    }

    /// A publisher that has connected replaces a silent one.
    pub(super) fn succeed(&mut self, now: Instant, id: SessionId) -> Succeeded {
        match self.succession(now, id) {
            Succession::Free => Succeeded::Free,
            Succession::Refused => Succeeded::Refused,
            Succession::Replaces { holder, silent } => {
                let ended = self.remove(now, holder).expect("it holds the place");
                Succeeded::Replaces { ended, silent }
            }
        }
    }
}

/// What became of that.
#[derive(Debug)]
pub(super) enum Succeeded {
    Free,
    Replaces { ended: Ended, silent: Duration },
    Refused,
}

pub(super) struct Bench {
    pub(super) registry: Registry,
    pub(super) now: Instant,
    /// When the registry is looked after next, which is once a second.
    sweep_at: Instant,
    /// What the sweeps told.
    pub(super) silences: Vec<SilenceChange>,
    pub(super) missing: Vec<CodecMissing>,
}

pub(super) const NO_CREDENTIAL: Option<&str> = None;

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(UNBOUNDED)
    }

    pub(super) fn with(sessions: SessionLimits) -> Bench {
        let limits = Limits {
            streams: 10,
            viewers: 100,
            admission: AdmissionLimits::default(),
            sessions,
            rooms: crate::conference::RoomLimits::DEFAULT,
        };
        let now = onecast_udp::clock::now();
        Bench {
            registry: Registry::new(limits, Vec::new().into(), 7),
            now,
            sweep_at: now + Duration::from_secs(1),
            silences: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.sweep_at <= end {
            self.now = self.sweep_at;
            self.sweep_at += Duration::from_secs(1);
            assert_eq!(self.registry.verdicts(self.now), []);
            self.silences.extend(self.registry.silence_changes(self.now));
            self.missing.extend(self.registry.codecs_missing());
        }
        self.now = end;
    }

    pub(super) fn offer(&mut self, number: u128, credential: Option<&str>) -> Result<Admitted, Refusal> {
        let grant = Grant {
            credential: credential.map(|name| Credential(name.into())),
            token: None,
        };
        let terms = Terms {
            timeout: Duration::from_secs(30),
            grant,
        };
        self.admit(number, Purpose::Publish, terms)
    }

    /// A publisher that has connected and sends nothing yet.
    pub(super) fn publish(&mut self, number: u128, credential: Option<&str>) {
        self.offer(number, credential).unwrap();
        assert!(matches!(self.registry.succeed(self.now, id(number)), Succeeded::Free));
        self.connect(number);
    }

    pub(super) fn connect(&mut self, number: u128) -> Connected {
        let unix = Duration::from_secs(9);
        self.registry.connected(self.now, unix, id(number)).unwrap()
    }

    /// A connected viewer with these codecs.
    pub(super) fn watch(&mut self, number: u128, audio: &[Codec], video: &[Codec]) -> Connected {
        let terms = Terms::from(Duration::from_secs(30));
        self.admit(number, Purpose::Watch, terms).unwrap();
        self.answer(number, line(Kind::Audio, audio), line(Kind::Video, video));
        self.connect(number)
    }

    fn admit(&mut self, number: u128, purpose: Purpose, terms: Terms) -> Result<Admitted, Refusal> {
        let caller = Caller {
            purpose,
            address: [192, 0, 2, 1].into(),
        };
        let admitted = self.registry.join(self.now, &name(), caller, id(number), terms)?;
        if purpose == Purpose::Publish {
            self.answer(number, None, None);
        }
        Ok(admitted)
    }

    fn answer(&mut self, number: u128, audio: Option<ViewerLine>, video: Option<ViewerLine>) {
        let tracks = self.registry.streams.by_name[&name()].tracks.clone();
        let credentials = || IceCredentials {
            ufrag: "name".into(),
            pwd: "a-password-of-22-chars".into(),
        };
        let remote = RemoteTransport {
            ice: credentials(),
            fingerprints: vec![],
            role: DtlsRole::Server,
        };
        let plan = Plan::watch(tracks, audio, video);
        let direction = Direction::ReceiveOnly;
        let session = Session::new(id(number), credentials(), remote, direction, plan, self.now);
        self.registry.set_session(Arc::new(session));
    }

    /// A packet comes from a publisher, of video in this codec.
    pub(super) fn send(&mut self, number: u128, codec: Codec) {
        let session = self.registry.sessions.by_id[&id(number)].session.as_ref();
        session.unwrap().counters.rtp_bytes.add(1_000);
        self.registry.media(id(number), codec.kind(), codec);
    }

    pub(super) fn liveness(&self) -> Liveness {
        self.registry.liveness(self.now, &name())
    }

    /// What followers see: live, silent.
    pub(super) fn told(&self) -> (bool, bool) {
        let audience = self.registry.audience(self.now, &name());
        (audience.live, audience.silent)
    }

    pub(super) fn publisher(&self) -> Option<SessionId> {
        self.registry.streams.get(&name())?.publisher
    }
}

pub(super) fn name() -> StreamName {
    "live".parse().unwrap()
}

pub(super) fn id(number: u128) -> SessionId {
    SessionId::from_random(number.to_be_bytes())
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn line(kind: Kind, codecs: &[Codec]) -> Option<ViewerLine> {
    let format = |&codec| Format {
        codec,
        payload_type: Pt(96),
        rtx: None,
        fmtp: "".into(),
        nack: false,
        pli: false,
        transport_cc: false,
    };
    let line = MediaLine {
        kind,
        mid: "0".into(),
        formats: codecs.iter().map(format).collect(),
        extensions: ExtensionIds::default(),
        ssrc: None,
        rtx_ssrc: None,
        layers: None,
    };
    (!codecs.is_empty()).then(|| ViewerLine::new(&line))
}
