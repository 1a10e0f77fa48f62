//! Which layers of its stream a viewer wants, and which it is sent.
//!
//! A viewer names a layer by its rid. The shards know places in the publisher's offer instead, which are others after another publisher has
//! come, so viewers with such a choice are checked once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::{Plan, Session};
use onecast_engine::media::{LayerIndex, LayerLimit, LayerReason};
use onecast_rtc::SessionId;
use onecast_rtc::rtp::Rid;
use onecast_rtc::sdp::SendLayers;

use super::sessions::Sessions;
use super::streams::StreamEntry;
use super::{Purpose, Registry};
use crate::layers::{LayerChoice, StreamLayers, ViewerLayer, WatchedLayer};
use crate::refusal::Refusal;

/// The layers of one viewer.
#[derive(Debug, Default)]
pub(super) struct ViewerLayers {
    /// Index of the m-line of its video.
    line: Option<u8>,
    choice: Choice,
    /// What the shards know.
    limit: LayerLimit,
    /// Number of the newest plan.
    plan: u64,
    /// What it is sent, and why.
    sent: Option<(LayerIndex, LayerReason)>,
    switches: u32,
    changes: ChoiceAllowance,
}

/// A [`LayerChoice`] whose rid has been found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Choice {
    rid: Option<Rid>,
    max_width: Option<u16>,
    max_height: Option<u16>,
}

/// How often a viewer may choose: a bucket, because people try several sizes in a row. Each change is a command to every shard.
#[derive(Debug, Default)]
struct ChoiceAllowance {
    used: u32,
    since: Option<Instant>,
}

/// A plan for the shards.
pub(crate) type NewPlan = (Arc<Session>, Arc<Plan>);

/// Viewers whose limits may be renewed at once: what is left comes a second later.
const RENEWALS_MAX: usize = 256;

impl Registry {
    /// On which m-line a viewer receives video.
    pub(crate) fn set_video_line(&mut self, id: SessionId, line: Option<u8>) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.layers.line = line;
        }
    }

    /// On which m-line a viewer receives video.
    pub(crate) fn video_line(&self, id: SessionId) -> Option<u8> {
        self.sessions.get(id)?.layers.line
    }

    /// What a viewer may be sent from now on, for its first plan.
    pub(crate) fn layer_limit(&mut self, id: SessionId) -> LayerLimit {
        self.renew_limit(id).unwrap_or_default()
    }

    /// A viewer chooses. Gives the plan that follows, if it is another than before.
    ///
    /// # Errors
    /// When the stream has no such layer, or the viewer chooses too often; then nothing has changed.
    pub(crate) fn choose_layer(
        &mut self,
        now: Instant,
        id: SessionId,
        choice: &LayerChoice,
    ) -> Result<Option<NewPlan>, Refusal> {
        let entry = self.sessions.get(id).ok_or(Refusal::UnknownSession)?;
        let stream = self.streams.get(&entry.stream).ok_or(Refusal::UnknownSession)?;
        let chosen = Choice {
            rid: choice
                .rid
                .as_deref()
                .map(|rid| self.find_rid(stream, rid))
                .transpose()?,
            max_width: choice.max_width,
            max_height: choice.max_height,
        };
        let entry = self.sessions.get_mut(id).ok_or(Refusal::UnknownSession)?;
        if entry.layers.choice == chosen {
            return Ok(None);
        }
        entry.layers.changes.take(now)?;
        entry.layers.choice = chosen;
        match chosen.rid {
            Some(_) => self.pinned.insert(id),
            None => self.pinned.remove(&id),
        };
        Ok(self.renew_plan(id))
    }

    fn find_rid(&self, stream: &StreamEntry, rid: &str) -> Result<Rid, Refusal> {
        let layers = layers(&self.sessions, stream);
        let rids = || layers.iter().filter_map(|layer| layer.rid);
        rids()
            .find(|known| **known == *rid)
            .ok_or_else(|| Refusal::UnknownLayer {
                known: rids().map(|known| known.to_string()).collect(),
            })
    }

    /// Plans of viewers whose chosen layer has another place than before, because the stream has another publisher.
    pub(crate) fn renew_limits(&mut self) -> Vec<NewPlan> {
        let pinned: Vec<SessionId> = self.pinned.iter().copied().collect();
        let plans = pinned.into_iter().filter_map(|id| self.renew_plan(id));
        plans.take(RENEWALS_MAX).collect()
    }

    /// A viewer's plan with its present limit, if the shards know another one.
    fn renew_plan(&mut self, id: SessionId) -> Option<NewPlan> {
        let known = self.sessions.get(id)?.layers.limit;
        let limit = self.renew_limit(id).filter(|limit| *limit != known)?;
        let entry = self.sessions.get_mut(id)?;
        let session = entry.session.clone()?;
        entry.layers.plan += 1;
        let mut plan = Plan {
            number: entry.layers.plan,
            ..session.plan.clone()
        };
        plan.subscriptions.first_mut()?.limit = limit;
        Some((session, Arc::new(plan)))
    }

    fn renew_limit(&mut self, id: SessionId) -> Option<LayerLimit> {
        let entry = self.sessions.get(id)?;
        let layers = layers(&self.sessions, self.streams.get(&entry.stream)?);
        let limit = entry
            .layers
            .choice
            .limit(&layers, self.limits.sessions.layers_max_height);
        self.sessions.get_mut(id)?.layers.limit = limit;
        Some(limit)
    }

    /// A viewer is sent this layer from now on.
    pub(crate) fn set_layer(&mut self, id: SessionId, layer: LayerIndex, reason: LayerReason) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.layers.switches += u32::from(reason != LayerReason::Start);
            entry.layers.sent = Some((layer, reason));
        }
    }

    /// What a viewer wants and is sent; `None` for others.
    pub(crate) fn viewer_layer(&self, id: SessionId) -> Option<ViewerLayer> {
        let entry = self.sessions.get(id)?;
        if entry.caller.purpose != Purpose::Watch {
            return None;
        }
        let ViewerLayers {
            choice,
            limit,
            sent,
            switches,
            ..
        } = &entry.layers;
        let stream = self.streams.get(&entry.stream)?;
        let known = layers(&self.sessions, stream);
        let sent = sent.and_then(|(layer, reason)| {
            let known = known.iter().find(|known| known.index == layer);
            Some((*known?, reason))
        });
        Some(ViewerLayer {
            sent,
            switches: *switches,
            rid: choice.rid,
            limit: *limit,
        })
    }
}

/// The layers of a stream.
pub(super) fn layers(sessions: &Sessions, stream: &StreamEntry) -> StreamLayers {
    let facts = stream.tracks.video.layers();
    match send_layers(sessions, stream) {
        Some(layers) => StreamLayers::of(layers, facts),
        None => StreamLayers::single(facts),
    }
}

/// The layers of a stream, and how many watch each.
pub(super) fn watched_layers(now: Instant, sessions: &Sessions, stream: &StreamEntry) -> Vec<WatchedLayer> {
    let layers = layers(sessions, stream);
    let watched = layers.iter().map(|layer| WatchedLayer {
        layer: *layer,
        viewers: stream.tracks.video.viewers(layer.index),
        keyframe_age: stream
            .tracks
            .video
            .layers()
            .keyframe_at(layer.index)
            .map(|at| now.saturating_duration_since(at)),
    });
    watched.collect()
}

/// The layers that the publisher of a stream has offered by name; `None` without any, and while viewers see a member of a room.
fn send_layers<'a>(sessions: &'a Sessions, stream: &StreamEntry) -> Option<&'a SendLayers> {
    let publisher = stream.publisher.filter(|_| !stream.member_on_air)?;
    let session = sessions.get(publisher)?.session.as_ref()?;
    let source = session.plan.sources.first()?;
    let layers = source.video.as_ref()?.layers.as_ref();
    layers.filter(|layers| layers.is_simulcast())
}

impl Choice {
    /// What a viewer may be sent of these layers. A viewer without a choice is subject to the server's limit.
    fn limit(&self, layers: &StreamLayers, max_height: Option<u16>) -> LayerLimit {
        if *self == Choice::default() {
            return LayerLimit {
                max_height,
                ..LayerLimit::default()
            };
        }
        let pinned = self
            .rid
            .and_then(|rid| layers.iter().find(|layer| layer.rid == Some(rid)));
        LayerLimit {
            pin: pinned.map(|layer| layer.index),
            max_width: self.max_width,
            max_height: self.max_height,
        }
    }
}

impl ChoiceAllowance {
    const CHANGES_MAX: u32 = 10;
    /// Between two changes in the long run.
    const INTERVAL: Duration = Duration::from_millis(500);

    fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        let regained = (elapsed.as_millis() / ChoiceAllowance::INTERVAL.as_millis()) as u32;
        let used = self.used.saturating_sub(regained);
        if used >= ChoiceAllowance::CHANGES_MAX {
            return Err(Refusal::TooManyChoices);
        }
        self.since = Some(if used == 0 {
            now
        } else {
            since + ChoiceAllowance::INTERVAL * regained
        });
        self.used = used + 1;
        Ok(())
    }
}
