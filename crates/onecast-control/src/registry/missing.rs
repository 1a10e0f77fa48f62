//! Viewers that cannot play what their stream is sent in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Purpose, Registry};
use crate::playable::{Missing, Playable};
use crate::{SessionId, StreamName};
use onecast_rtc::rtp::Codec;

/// Viewers of a stream that cannot play one of its codecs, because its publisher came or changed its codec after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecMissing {
    /// The stream.
    pub stream: StreamName,
    /// What it is sent in.
    pub codec: Codec,
    /// How many viewers there are.
    pub viewers: usize,
    /// The numbers of the first.
    pub first: Vec<u64>,
    /// What the very first can play instead.
    pub offered: Vec<Codec>,
}

impl CodecMissing {
    /// So many numbers fit a line of the log.
    pub const FIRST_MAX: usize = 5;
}

impl Registry {
    /// What a viewer can play. Everything, as long as its answer is not known.
    pub fn playable(&self, id: SessionId) -> Playable {
        self.sessions.get(&id).map(Entry::playable).unwrap_or_default()
    }

    /// Viewers that cannot play what came since the last call. Those that connect later are told of by
    /// [`connected`](Self::connected).
    pub fn codecs_missing(&mut self) -> Vec<CodecMissing> {
        let mut changed = BTreeSet::<StreamName>::new();
        for (name, stream) in &mut self.streams {
            let checked = std::mem::replace(&mut stream.codecs_checked, stream.codecs);
            if checked != stream.codecs {
                changed.insert(name.clone());
            }
        }
        if changed.is_empty() {
            return Vec::new();
        }
        let mut found = BTreeMap::<(StreamName, usize), CodecMissing>::new();
        for id in self.handles.values() {
            let Some(entry) = self.sessions.get_mut(id) else {
                continue;
            };
            let Some(stream) = self.streams.get(&entry.stream) else {
                continue;
            };
            let is_viewer = entry.caller.purpose == Purpose::Watch && entry.connected.is_some();
            if !is_viewer || !changed.contains(&entry.stream) {
                continue;
            }
            for codec in entry.newly_missing(stream.codecs).codecs() {
                let place = found.entry((entry.stream.clone(), codec.kind() as usize));
                let missing = place.or_insert_with(|| CodecMissing {
                    stream: entry.stream.clone(),
                    codec,
                    viewers: 0,
                    first: Vec::new(),
                    offered: entry.playable().codecs(codec.kind()).collect(),
                });
                missing.viewers += 1;
                if missing.first.len() < CodecMissing::FIRST_MAX {
                    missing.first.push(entry.number);
                }
            }
        }
        found.into_values().collect()
    }
}

impl Entry {
    pub(super) fn playable(&self) -> Playable {
        self.session.as_deref().map(Playable::of).unwrap_or_default()
    }

    /// What it cannot play of a stream in these codecs (audio, video), unless the log has it already.
    pub(super) fn newly_missing(&mut self, codecs: [Option<Codec>; 2]) -> Missing {
        let missing = self.playable().missing(codecs);
        let told = std::mem::replace(&mut self.missing, missing);
        if told == missing { Missing::default() } else { missing }
    }
}

#[cfg(test)]
mod tests;
