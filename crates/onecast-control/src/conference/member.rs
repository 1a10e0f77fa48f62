//! One member of a room: what it sends, and what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::signalling::{Allowance, OwnOffers};
use super::streams::{MemberStream, MemberStreams};
use super::{LAST_N_DEFAULT, MemberInfo, MemberState, OfferedTrack, RESUME_TIMEOUT, TrackState};
use crate::ended::EndReason;
use crate::registry::SessionNumber;
use onecast_engine::fanout::{Plan, Session, SubscriptionSpec, ViewerLine};
use onecast_engine::media::{LayerLimit, StreamTracks};
use onecast_rtc::SessionId;
use onecast_rtc::rtp::Kind;
use onecast_rtc::sdp::{MediaLine, Negotiation, NegotiationParams, TrackId, WantedTrack};

/// A member of a room, or the publisher of its broadcast.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: SessionId,
    /// Its public number.
    pub(super) number: SessionNumber,
    pub(super) name: Option<Box<str>>,
    pub(super) since_unix: Duration,
    /// Its handshake is complete: others see it.
    pub(super) connected: bool,
    /// What the shards know of it, once they do.
    pub(super) session: Option<Arc<Session>>,
    pub(super) streams: MemberStreams,
    /// The signalling of a member; the publisher of a broadcast has none here.
    pub(super) signalling: Option<Box<MemberSignalling>>,
    /// The last lift of a broadcast's publisher that the shards know: its number, and whether it was on air.
    pub(super) lifted: Option<(u64, bool)>,
}

/// Offers and answers of a member, and what it is sent.
#[derive(Debug)]
pub(super) struct MemberSignalling {
    pub(super) call: Negotiation,
    pub(super) params: NegotiationParams,
    pub(super) offers: OwnOffers,
    pub(super) allowance: Allowance,
    /// Bounds its changes about itself, each of which is sent to all members.
    pub(super) changes: Allowance,
    /// The shards are to be sent their state again.
    pub(super) renewed: bool,
    pub(super) labels: BTreeMap<Box<str>, Box<str>>,
    pub(super) last_n: usize,
    /// What the shards know.
    pub(super) membership: Arc<Plan>,
    /// From which revision of the call, and which turns, its subscriptions were decided.
    decided: Option<(u64, Turns)>,
    /// Whether it needs an offer: by which revision of the call, and which version of what is shown.
    considered: Option<(u64, u64, bool)>,
    /// Which follower is the present one, counted from 1; 0 when there never was one.
    pub(super) follower: u64,
    /// When its last follower went; `None` while it has one, or never had.
    pub(super) gone_since: Option<Instant>,
}

/// Streams by their serial numbers, and the kinds of each that have their turn.
type Turns = Vec<(u32, [bool; 2])>;

/// A track of a member, as others can be sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) member: SessionNumber,
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
                let member = self.number;
                Some(Shown { member, wanted })
            })
        })
    }

    /// The stream of it that the room's viewers see when it speaks.
    pub(super) fn for_viewers(&self) -> Option<&MemberStream> {
        let sent = || self.streams.iter().filter(|stream| self.connected && stream.is_sent());
        let with_video = sent().find(|stream| stream.sends(Kind::Video));
        with_video.or_else(|| sent().next())
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.signalling.is_none()
    }

    pub(super) fn speaks(&self) -> bool {
        self.streams.iter().any(|stream| stream.speaking)
    }

    /// The member as the roster shows it.
    pub(super) fn state(&self) -> MemberState {
        let track = |stream: &MemberStream, kind: Kind| TrackState {
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
            id: self.number,
            name: self.name.clone(),
            broadcast: self.is_broadcast(),
            since_unix: self.since_unix,
            speaking: self.speaks(),
            tracks: tracks.collect(),
        }
    }
}

impl MemberSignalling {
    pub(super) fn new(
        now: Instant,
        call: Negotiation,
        params: NegotiationParams,
        words: &MemberInfo,
    ) -> MemberSignalling {
        MemberSignalling {
            call,
            params,
            offers: OwnOffers::new(),
            allowance: Allowance::new(now),
            changes: Allowance::new(now),
            renewed: false,
            labels: words.labels.clone(),
            last_n: words.last_n.unwrap_or(LAST_N_DEFAULT),
            membership: Arc::default(),
            decided: None,
            considered: None,
            follower: 0,
            gone_since: None,
        }
    }

    /// What it should be sent of all streams, each with the kinds that have their turn; `None` if that is decided already: rooms change
    /// often, and most changes concern few.
    pub(super) fn decide(&mut self, streams: &[(&Arc<StreamTracks>, [bool; 2])]) -> Option<Vec<SubscriptionSpec>> {
        let turns = streams.iter().map(|(tracks, turns)| (tracks.key.serial, *turns));
        let basis = (self.call.revision(), turns.collect());
        if self.decided.as_ref() == Some(&basis) {
            return None;
        }
        self.decided = Some(basis);
        Some(self.subscriptions(streams))
    }

    /// What was agreed, as far as it has its turn. Streams of which it was never to be sent anything are left out.
    fn subscriptions(&self, streams: &[(&Arc<StreamTracks>, [bool; 2])]) -> Vec<SubscriptionSpec> {
        let agreed: BTreeMap<TrackId, &MediaLine> = self.call.sent().map(|sent| (sent.track, &sent.line)).collect();
        let known = self.membership.subscriptions.iter();
        let known: BTreeSet<u32> = known.map(|spec| spec.tracks.key.serial).collect();
        let specs = streams.iter().filter_map(|(tracks, turns)| {
            let stream = tracks.key.serial;
            let agreed = Kind::ALL.map(|kind| agreed.get(&TrackId { stream, kind }).copied());
            if agreed.iter().all(Option::is_none) && !known.contains(&stream) {
                return None;
            }
            let of = |kind: Kind| agreed[kind as usize].filter(|_| turns[kind as usize]);
            Some(SubscriptionSpec {
                tracks: (*tracks).clone(),
                audio: of(Kind::Audio).map(ViewerLine::new),
                video: of(Kind::Video).map(ViewerLine::new),
                limit: LayerLimit::default(),
            })
        });
        specs.collect()
    }

    /// Whether it has to be sent an offer, so that it is sent what others send. `version` tells what is shown now from what was before.
    pub(super) fn needs_offer(&mut self, member: SessionNumber, shown: &[Shown], version: u64) -> bool {
        let revision = self.call.revision();
        if let Some((of_call, of_shown, needs)) = self.considered
            && (of_call, of_shown) == (revision, version)
        {
            return needs;
        }
        let needs = self.call.needs_offer(&wanted(shown, member));
        self.considered = Some((revision, version, needs));
        needs
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

    /// Why it has to be ended now, if so.
    pub(super) fn overdue(&self, now: Instant) -> Option<EndReason> {
        let silent = self.offers.deadline().is_some_and(|at| at <= now);
        let gone = self.gone_since.is_some_and(|since| since + RESUME_TIMEOUT <= now);
        match (silent, gone) {
            (true, _) => Some(EndReason::Unanswered),
            (false, true) => Some(EndReason::Unfollowed),
            (false, false) => None,
        }
    }

    /// When [`overdue`](Self::overdue) may change.
    #[cfg(test)]
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gone = self.gone_since.map(|since| since + RESUME_TIMEOUT);
        [self.offers.deadline(), gone].into_iter().flatten().min()
    }
}

/// The tracks of all others.
pub(super) fn wanted(shown: &[Shown], member: SessionNumber) -> Vec<WantedTrack> {
    let of_others = shown.iter().filter(|shown| shown.member != member);
    of_others.map(|shown| shown.wanted.clone()).collect()
}
