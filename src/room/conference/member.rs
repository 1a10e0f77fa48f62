//! One member of a room: what it sends, and what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::signalling::{Allowance, OwnOffers};
use super::streams::{Stream, Streams};
use super::{LAST_N_DEFAULT, MemberState, OfferedTrack, RESUME, TrackState, Words};
use crate::fanout::{Membership, Session, SubscriptionSpec, ViewerLine};
use crate::media::StreamTracks;
use crate::peer::SessionId;
use crate::peer::sdp::{Call, CallParams, MediaLine, TrackId, WantedTrack};
use crate::room::ended::EndReason;
use crate::rtp::Kind;

/// Somebody in a room: a member in the proper sense, or the publisher of its broadcast.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: SessionId,
    /// Its public number.
    pub(super) handle: u64,
    pub(super) name: Option<Box<str>>,
    pub(super) since_unix: Duration,
    /// Its handshake is finished: others are told of it.
    pub(super) connected: bool,
    /// Its other half at the shards, once they were told of it.
    pub(super) session: Option<Arc<Session>>,
    pub(super) streams: Streams,
    /// The place of one who is sent something; the publisher of a broadcast has none.
    pub(super) seat: Option<Box<Seat>>,
    /// What the shards were told last of a broadcast's publisher: the number, and whether it was on air.
    pub(super) lifted: Option<(u64, bool)>,
}

/// The side of a member that is sent something.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) call: Call,
    pub(super) params: CallParams,
    pub(super) offers: OwnOffers,
    pub(super) allowance: Allowance,
    pub(super) labels: BTreeMap<Box<str>, Box<str>>,
    pub(super) last_n: usize,
    /// What the shards know.
    pub(super) membership: Arc<Membership>,
    /// Which follower is the present one, counted from 1; 0 when there never was one.
    pub(super) follower: u64,
    /// Since when nobody follows, if somebody did.
    pub(super) gone_since: Option<Instant>,
}

/// A track of somebody, for everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) member: u64,
    pub(super) wanted: WantedTrack,
}

impl Member {
    /// The tracks that others can be sent.
    pub(super) fn shown(&self) -> impl Iterator<Item = Shown> {
        let streams = self.streams.iter().filter(|_| self.connected);
        streams.flat_map(|stream| {
            Kind::ALL.into_iter().filter_map(|kind| {
                let codecs = vec![stream.codec(kind)?];
                let tracks = &stream.tracks;
                let wanted = WantedTrack {
                    id: stream.track(kind),
                    ssrc: tracks.track(kind).ssrc(),
                    rtx_ssrc: tracks.track(kind).rtx_ssrc(),
                    stream: tracks.name.clone(),
                    codecs,
                };
                let member = self.handle;
                Some(Shown { member, wanted })
            })
        })
    }

    /// The stream of it that the room's viewers see when it speaks.
    pub(super) fn for_viewers(&self) -> Option<&Stream> {
        let sent = || self.streams.iter().filter(|stream| self.connected && stream.is_sent());
        let with_video = sent().find(|stream| stream.sends(Kind::Video));
        with_video.or_else(|| sent().next())
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.seat.is_none()
    }

    pub(super) fn speaks(&self) -> bool {
        self.streams.iter().any(|stream| stream.speaking)
    }

    /// Itself as everybody may know it.
    pub(super) fn state(&self) -> MemberState {
        let track = |stream: &Stream, kind: Kind| TrackState {
            stream: stream.tracks.name.clone(),
            kind,
            label: stream.label(kind).map(Box::from),
            muted: stream.muted[kind as usize],
            codec: stream.codec(kind),
        };
        let tracks = self.streams.iter().flat_map(|stream| {
            let sent = Kind::ALL.into_iter().filter(|&kind| stream.sends(kind));
            sent.map(move |kind| track(stream, kind))
        });
        MemberState {
            id: self.handle,
            name: self.name.clone(),
            broadcast: self.is_broadcast(),
            since_unix: self.since_unix,
            speaking: self.speaks(),
            tracks: tracks.collect(),
        }
    }
}

/// What a member has agreed to be sent.
pub(super) struct Agreed<'a> {
    lines: BTreeMap<TrackId, &'a MediaLine>,
    /// Streams of which it is sent something, or was.
    known: BTreeSet<u32>,
}

impl Agreed<'_> {
    /// What it should be sent of a stream: what was agreed, and only of the kinds that have their turn. `None` for a stream of which
    /// it never was to be sent anything.
    pub(super) fn subscription(&self, tracks: &Arc<StreamTracks>, turns: [bool; 2]) -> Option<SubscriptionSpec> {
        let stream = tracks.key.serial;
        let agreed = Kind::ALL.map(|kind| self.lines.get(&TrackId { stream, kind }));
        if agreed.iter().all(Option::is_none) && !self.known.contains(&stream) {
            return None;
        }
        let [audio, video] = Kind::ALL.map(|kind| {
            let line = agreed[kind as usize].filter(|_| turns[kind as usize]);
            line.map(|line| ViewerLine::new(line))
        });
        Some(SubscriptionSpec {
            tracks: tracks.clone(),
            audio,
            video,
        })
    }
}

impl Seat {
    pub(super) fn new(now: Instant, call: Call, params: CallParams, words: &Words) -> Seat {
        Seat {
            call,
            params,
            offers: OwnOffers::new(),
            allowance: Allowance::new(now),
            labels: words.labels.clone(),
            last_n: words.last_n.unwrap_or(LAST_N_DEFAULT),
            membership: Arc::default(),
            follower: 0,
            gone_since: None,
        }
    }

    /// Everything that it may be sent now, to be looked up.
    pub(super) fn agreed(&self) -> Agreed<'_> {
        let known = self.membership.subscriptions.iter();
        Agreed {
            lines: self.call.sent().map(|sent| (sent.track, &sent.line)).collect(),
            known: known.map(|spec| spec.tracks.key.serial).collect(),
        }
    }

    /// What is in the offer that waits.
    pub(super) fn offered(&self, shown: &[Shown], label: impl Fn(TrackId) -> Option<Box<str>>) -> Vec<OfferedTrack> {
        let track = |(mid, id): (&str, TrackId)| {
            let shown = shown.iter().find(|shown| shown.wanted.id == id)?;
            Some(OfferedTrack {
                mid: mid.into(),
                member: shown.member,
                stream: shown.wanted.stream.clone(),
                kind: id.kind,
                label: label(id),
            })
        };
        self.call.offered().filter_map(track).collect()
    }

    /// Why it is to be ended now, if so.
    pub(super) fn overdue(&self, now: Instant) -> Option<EndReason> {
        let silent = self.offers.deadline().is_some_and(|at| at <= now);
        let gone = self.gone_since.is_some_and(|since| since + RESUME <= now);
        match (silent, gone) {
            (true, _) => Some(EndReason::Unanswered),
            (false, true) => Some(EndReason::Unfollowed),
            (false, false) => None,
        }
    }

    /// When that is to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gone = self.gone_since.map(|since| since + RESUME);
        [self.offers.deadline(), gone].into_iter().flatten().min()
    }
}
