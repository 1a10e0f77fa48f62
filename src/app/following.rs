//! What the shards tell, and what they cannot tell: the registry hears of it, and the log tells the story.

use super::*;
use onecast_control::StreamName;
use onecast_control::playable::Missing;
use onecast_control::registry::{CodecMissing, SilenceChange, Succession};
use onecast_rtc::rtp::Codec;

impl App {
    /// Follows what the shards tell, and what they cannot tell: clients that never came.
    pub(super) async fn follow(self, mut events: mpsc::Receiver<Event>) {
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        let mut told = AdmissionReading::default();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.inner.handle(event),
                    None => return,
                },
                _ = sweep.tick() => {
                    self.inner.sweep();
                    told = self.inner.tell_about_the_door(told);
                }
            }
        }
    }
}

impl Inner {
    fn handle(&self, event: Event) {
        match event {
            Event::Connected {
                session,
                address,
                cipher,
            } => self.connected(session, address, cipher),
            Event::Media {
                session,
                stream,
                kind,
                codec,
            } => {
                let published = lock(&self.registry).media(session, kind, codec);
                if let Some(name) = published {
                    info!(stream = %name, "broadcaster sends {kind} in {codec}");
                    self.tell_followers(&name);
                    self.take_broadcast_along(&name);
                } else {
                    self.member_media(session, stream, kind, codec);
                }
            }
            Event::Keyframes {
                session,
                unanswered,
                interval,
            } => self.keyframes(session, unanswered, interval),
            Event::Restarted { session, address } => self.restarted(session, address),
            Event::Speaking {
                session,
                stream,
                speaking,
            } => self.speaking(session, stream, speaking),
            Event::Picture { session, after } => {
                let registry = lock(&self.registry);
                let who = registry.viewer(session).zip(registry.purpose(session));
                drop(registry);
                // A member of a room has many pictures.
                if let Some(((stream, number), Purpose::Watch)) = who {
                    info!(%stream, "viewer {number} has its picture after {} ms", after.as_millis());
                }
            }
            Event::Closed { session, cause } => {
                let ended = lock(&self.registry).remove(clock::now(), session);
                if let Some(ended) = ended {
                    self.end(ended, EndReason::Peer(cause));
                } else if cause != CloseCause::Commanded {
                    debug!(%session, %cause, "peer ended after its session");
                }
            }
        }
    }

    fn connected(&self, id: SessionId, address: SocketAddr, cipher: Profile) {
        lock(&self.registry).secured(id, address, cipher);
        if !self.succeeds(id) {
            return;
        }
        let connected = lock(&self.registry).connected(clock::now(), clock::unix_time(), id);
        let Some(connected) = connected else { return };
        self.tell_followers(&connected.stream);
        let (stream, viewers) = (&connected.stream, connected.viewers);
        match connected.purpose {
            Purpose::Publish => {
                info!(%stream, "broadcaster connected from {address} ({cipher}), {viewers} watching");
                self.take_broadcast_along(stream);
            }
            Purpose::Watch => {
                info!(%stream, "viewer {} joined from {address} ({cipher}), {viewers} watching", connected.number);
                tell_of_missing(stream, connected.number, connected.missing);
            }
            Purpose::Confer => {
                let member = lock(&self.registry).handle(id).unwrap_or_default();
                info!(room = %stream, "member {member} connected from {address} ({cipher})");
                self.member_connected(id);
            }
        }
    }

    /// A publisher that came while another was silent replaces it now, unless that one sends again: then it is ended, and this is false.
    fn succeeds(&self, id: SessionId) -> bool {
        let succession = lock(&self.registry).succeed(clock::now(), id);
        match succession {
            Succession::Free => true,
            Succession::Replaces { ended, silent } => {
                self.end(*ended, EndReason::Replaced { silent });
                true
            }
            Succession::Refused => {
                let stream = lock(&self.registry).stream_of(id);
                self.end_session(id, EndReason::PlaceKept);
                // The shards, which know nothing of this, have given it the stream's tracks.
                if let Some(stream) = stream {
                    self.in_rooms(|rooms| rooms.renew_air(clock::now(), &stream));
                }
                false
            }
        }
    }

    /// No news for the log of every day: a client may restart once a second.
    fn restarted(&self, id: SessionId, address: SocketAddr) {
        let registry = lock(&self.registry);
        let who = registry.purpose(id).zip(registry.viewer(id));
        let member = registry.handle(id).unwrap_or_default();
        drop(registry);
        match who {
            Some((Purpose::Publish, (stream, _))) => {
                debug!(%stream, "broadcaster goes on from {address} (ICE restart)")
            }
            Some((Purpose::Watch, (stream, number))) => {
                debug!(%stream, "viewer {number} goes on from {address} (ICE restart)");
            }
            Some((Purpose::Confer, (room, _))) => {
                debug!(%room, "member {member} goes on from {address} (ICE restart)");
            }
            None => {}
        }
    }

    fn keyframes(&self, session: SessionId, unanswered: bool, interval: Option<Duration>) {
        let Some(stream) = lock(&self.registry).stream_of(session) else {
            return;
        };
        if !unanswered {
            return info!(%stream, "broadcaster answers keyframe requests");
        }
        let own = match interval {
            Some(interval) => format!("its own come every {:.1} s", interval.as_secs_f64()),
            None => "it has sent one so far".to_owned(),
        };
        warn!(
            %stream,
            "broadcaster does not answer keyframe requests; {own}. Viewers who lose something are helped from the cache; \
             a keyframe interval of 2 to 10 s in the encoder keeps that short"
        );
    }

    /// Frees what a session, already out of the registry, holds at the shards.
    pub(super) fn end(&self, ended: Ended, why: EndReason) {
        // First of all: whoever notices the end may ask why at once.
        lock(&self.registry).note(clock::unix_time(), &ended, why.clone());
        self.end_event_streams(ended.id);
        self.leave_room(&ended);
        self.tell_followers(&ended.stream);
        if let Some(session) = ended.session {
            session.withdraw();
            if !self.broadcast(&Command::Close(session)) {
                warn!("a media thread is overloaded: a peer will end by itself when its consent expires");
            }
        }
        let (stream, viewers) = (&ended.stream, ended.viewers);
        let who = match ended.purpose {
            Purpose::Publish => "broadcaster".to_owned(),
            Purpose::Watch => format!("viewer {}", ended.number),
            Purpose::Confer => format!("member {}", ended.handle),
        };
        match ended.connected {
            Some(time) => info!(%stream, "{who} left after {} s: {why}; {viewers} watching", time.as_secs()),
            None => info!(%stream, "{who} was expected but did not connect: {why}"),
        }
    }

    /// Says in sum how many were refused since `told`: a crowd shall not fill the log, too.
    fn tell_about_the_door(&self, told: AdmissionReading) -> AdmissionReading {
        let door = lock(&self.registry).admission();
        let rate = door.refused_rate - told.refused_rate;
        let half_open = door.refused_half_open - told.refused_half_open;
        let address = door.refused_address - told.refused_address;
        let address_rate = door.refused_address_rate - told.refused_address_rate;
        if rate + half_open + address + address_rate > 0 {
            warn!(
                "{} clients were refused in the last second: {rate} by --joins-per-second, {half_open} by --half-open-max, \
                 {address} by --half-open-per-address, {address_rate} by --joins-per-address; {} are connecting",
                rate + half_open + address + address_rate,
                door.half_open
            );
        }
        door
    }

    /// Publishers that fell silent or send again, and viewers that cannot play what is sent.
    fn sweep_silences(&self, now: Instant) {
        let silences = lock(&self.registry).silence_changes(now);
        for SilenceChange {
            stream,
            silent,
            is_over,
        } in silences
        {
            let seconds = silent.as_secs();
            if is_over {
                info!(%stream, "broadcaster sends media again, after {seconds} s");
            } else {
                info!(%stream, "broadcaster is connected and has sent no media for {seconds} s");
            }
            self.tell_followers(&stream);
        }
        let missing = lock(&self.registry).codecs_missing();
        for missing in missing {
            tell_of_many_missing(&missing);
        }
    }

    fn sweep(&self) {
        let now = clock::now();
        self.sweep_bounds(now);
        self.sweep_silences(now);
        self.sweep_rooms(now);
        let overdue = lock(&self.registry).overdue(now);
        for id in overdue {
            let ended = lock(&self.registry).remove(now, id);
            if let Some(ended) = ended {
                let why = match ended.session {
                    Some(_) => EndReason::NeverCame,
                    None => EndReason::NoAnswer,
                };
                self.end(ended, why);
            }
        }
    }
}

/// A viewer that has just come cannot play what the stream is sent in.
fn tell_of_missing(stream: &StreamName, viewer: u64, missing: Missing) {
    for codec in missing.codecs() {
        let kind = codec.kind();
        warn!(%stream, "viewer {viewer} cannot play the {kind}, which is sent in {codec}");
    }
}

/// Viewers that came before the publisher, or before it changed its codec.
fn tell_of_many_missing(missing: &CodecMissing) {
    let CodecMissing {
        stream, codec, viewers, ..
    } = missing;
    let kind = codec.kind();
    let first = list(missing.first.iter());
    let offered = list(missing.offered.iter().map(Codec::to_string));
    let more = viewers - missing.first.len();
    match (viewers, more) {
        (1, _) => {
            warn!(%stream, "viewer {first} cannot play the {kind}, which is sent in {codec}: it offered {offered}")
        }
        (_, 0) => warn!(%stream, "viewers {first} cannot play the {kind}, which is sent in {codec}"),
        _ => {
            warn!(%stream, "{viewers} viewers cannot play the {kind}, which is sent in {codec}: {first} and {more} more")
        }
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
