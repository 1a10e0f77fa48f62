//! Viewers that cannot play what their stream is sent in.

use std::collections::BTreeMap;

use onecast_rtc::SessionId;
use onecast_rtc::rtp::Codec;

use super::Purpose;
use super::sessions::Sessions;
use super::streams::Streams;
use crate::StreamName;

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

/// Viewers that cannot play what came since the last call. Those that connect later are announced when they connect.
pub(super) fn codecs_missing(streams: &mut Streams, sessions: &mut Sessions) -> Vec<CodecMissing> {
    let changed = changed(streams);
    if changed.is_empty() {
        return Vec::new();
    }
    let mut found = BTreeMap::<(StreamName, usize), CodecMissing>::new();
    let ids: Vec<SessionId> = sessions.ids().collect();
    for id in ids {
        let Some(entry) = sessions.get_mut(id) else { continue };
        let Some(codecs) = changed.get(&entry.stream) else {
            continue;
        };
        if entry.caller.purpose != Purpose::Watch || entry.connected.is_none() {
            continue;
        }
        for codec in entry.newly_missing(*codecs).codecs() {
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

/// Streams in other codecs than at the last call.
fn changed(streams: &mut Streams) -> BTreeMap<StreamName, [Option<Codec>; 2]> {
    let changed = streams.by_name.iter_mut().filter_map(|(name, stream)| {
        let checked = std::mem::replace(&mut stream.codecs_checked, stream.codecs);
        (checked != stream.codecs).then(|| (name.clone(), stream.codecs))
    });
    changed.collect()
}

#[cfg(test)]
mod tests;
