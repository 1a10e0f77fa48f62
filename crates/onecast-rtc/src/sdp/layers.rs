//! The encodings of one video line: `a=rid` (RFC 8851) and `a=simulcast` (RFC 8853), and what binds their packets to them.
//!
//! Chromium names rids and no SSRC, Firefox both, OBS rids and the first SSRC. A line without simulcast has one encoding, which may have
//! layers inside (SVC). Simulcast that cannot be read counts as not offered, as every optional feature does; a rid that cannot be used is
//! left out, and the others stay.

use std::fmt::{self, Write};

use super::extension::Extmap;
use super::media::Direction;
use crate::rtp::{Rid, Ssrc};

/// The encodings that a client offers to send on one video line, 1..=[`SendLayers::MAX`], in the order of its `a=simulcast`.
///
/// The order says nothing about quality: browsers list the smallest first, OBS the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendLayers {
    layers: [SendLayer; SendLayers::MAX],
    len: u8,
    ignored: u8,
    extmaps: [Option<Extmap>; LayerExtension::ALL.len()],
}

/// One encoding of a video line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendLayer {
    /// Its name; `None` for the only encoding of a line without simulcast.
    pub rid: Option<Rid>,
    /// Its place in the offer's `a=simulcast`, which is how a [layers allocation](crate::rtp::video_layers_allocation) names it; 0
    /// without simulcast. It differs from the index among the [`SendLayers`] after an encoding that is left out.
    pub stream: u8,
    /// The client will not send it at first (`~`, RFC 8853 section 5.1).
    pub is_paused: bool,
    /// SSRC of the media, if the offer announces one for each encoding. Otherwise the rid of its packets tells.
    pub ssrc: Option<Ssrc>,
    /// SSRC of its RTX, likewise.
    pub rtx_ssrc: Option<Ssrc>,
}

/// What an m-line says about its encodings, before all of it is read.
#[derive(Debug, Default)]
pub(super) struct OfferedLayers {
    /// `a=rid:<rid> send`
    declared: Vec<Rid>,
    /// `a=simulcast`, the part of `send`: one entry for each alternative of an encoding.
    listed: Vec<ListedRid>,
    has_simulcast: bool,
    /// Encodings listed.
    encodings: usize,
    /// `a=ssrc-group:FID`
    flows: Vec<(Ssrc, Ssrc)>,
    /// Different SSRCs of `a=ssrc`.
    ssrcs: Vec<Ssrc>,
    extmaps: [Option<Extmap>; LayerExtension::ALL.len()],
}

/// A rid in `a=simulcast`.
#[derive(Debug, Clone, Copy)]
struct ListedRid {
    /// Place of its encoding in the list.
    encoding: usize,
    rid: Rid,
    is_paused: bool,
}

/// A header extension that only lines with layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerExtension {
    /// RFC 8852 section 3.
    Rid,
    /// RFC 8852 section 3, on RTX packets.
    RepairedRid,
    /// [`crate::rtp::video_layers_allocation`]
    Allocation,
}

impl SendLayers {
    /// The most encodings of a line. Browsers offer three at most, OBS four, and a layers allocation names four.
    pub const MAX: usize = 4;

    /// The encodings, at least one.
    pub fn as_slice(&self) -> &[SendLayer] {
        &self.layers[..usize::from(self.len)]
    }

    /// Whether the encodings are named by rids, so that the answer has to list them.
    pub fn is_simulcast(&self) -> bool {
        self.layers[0].rid.is_some()
    }

    /// Index of the encoding of this name.
    pub fn index(&self, rid: &str) -> Option<usize> {
        let has_name = |layer: &SendLayer| layer.rid.is_some_and(|this| &*this == rid);
        self.as_slice().iter().position(has_name)
    }

    /// Index of the encoding that a layers allocation counts as this stream; `None` for one that is left out.
    pub fn index_of_stream(&self, stream: usize) -> Option<usize> {
        let is_stream = |layer: &SendLayer| usize::from(layer.stream) == stream;
        self.as_slice().iter().position(is_stream)
    }

    /// Encodings of the offer that are left out: without a usable rid, repeated, or more than [`SendLayers::MAX`].
    pub fn ignored(&self) -> usize {
        self.ignored.into()
    }

    /// Id of the header extension with the rid of media packets.
    pub fn rid_extension(&self) -> Option<u8> {
        self.extension(LayerExtension::Rid)
    }

    /// Id of the header extension with the rid on RTX packets.
    pub fn repaired_rid_extension(&self) -> Option<u8> {
        self.extension(LayerExtension::RepairedRid)
    }

    /// Id of the [layers allocation](crate::rtp::video_layers_allocation).
    pub fn allocation_extension(&self) -> Option<u8> {
        self.extension(LayerExtension::Allocation)
    }

    fn extension(&self, extension: LayerExtension) -> Option<u8> {
        self.extmaps[extension as usize].map(|extmap| extmap.id)
    }

    fn single(ssrcs: (Option<Ssrc>, Option<Ssrc>)) -> SendLayers {
        let layer = SendLayer {
            ssrc: ssrcs.0,
            rtx_ssrc: ssrcs.1,
            ..SendLayer::default()
        };
        SendLayers {
            layers: [layer, SendLayer::default(), SendLayer::default(), SendLayer::default()],
            len: 1,
            ignored: 0,
            extmaps: [None; LayerExtension::ALL.len()],
        }
    }

    /// The header extensions of an answer that accepts the layers. Chromium refuses an answer with simulcast and without the rid
    /// extension.
    pub(super) fn write_extmaps(&self, out: &mut String) -> fmt::Result {
        for (extension, extmap) in LayerExtension::ALL.into_iter().zip(self.extmaps) {
            if let Some(extmap) = extmap {
                extmap.write_mirrored(out, extension.uri())?;
            }
        }
        Ok(())
    }

    /// The lines of an answer that takes all encodings (RFC 8853 section 5.3.2). Chromium sends only the first of its list without them,
    /// and starts an encoding that the page has switched off if the answer does not repeat its `~`.
    pub(super) fn write_rids(&self, out: &mut String) -> fmt::Result {
        let named = || {
            self.as_slice()
                .iter()
                .filter_map(|layer| Some((layer.rid?, layer.is_paused)))
        };
        for (rid, _) in named() {
            write!(out, "a=rid:{rid} recv\r\n")?;
        }
        for (index, (rid, is_paused)) in named().enumerate() {
            let before = if index == 0 { "a=simulcast:recv " } else { ";" };
            let paused = if is_paused { "~" } else { "" };
            write!(out, "{before}{paused}{rid}")?;
        }
        out.write_str(if self.is_simulcast() { "\r\n" } else { "" })
    }
}

impl OfferedLayers {
    /// Takes an attribute of the m-line that says something about its encodings.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        match name {
            "rid" => self.take_rid(value),
            "simulcast" => self.take_simulcast(value),
            "ssrc" => self.take_ssrc(value),
            "ssrc-group" => self.take_ssrc_group(value),
            "extmap" => self.take_extmap(value),
            _ => {}
        }
    }

    /// What is offered as a whole. `ssrcs` are those of a line with one encoding; `is_taken` tells the ids of other header extensions.
    pub(super) fn resolve(&self, ssrcs: (Option<Ssrc>, Option<Ssrc>), is_taken: impl Fn(u8) -> bool) -> SendLayers {
        let usable = |extmap: &Extmap| extmap.direction.is_none_or(Direction::sends) && !is_taken(extmap.id);
        let extmaps = self.extmaps.map(|extmap| extmap.filter(usable));
        let mut resolved = SendLayers::single(ssrcs);
        resolved.extmaps[LayerExtension::Allocation as usize] = extmaps[LayerExtension::Allocation as usize];
        let mut layers = [SendLayer::default(); SendLayers::MAX];
        let mut len = 0;
        for encoding in 0..self.encodings {
            if let Some(listed) = self.first_usable(encoding, &layers[..len])
                && let Some(layer) = layers.get_mut(len)
            {
                *layer = self.layer(listed);
                len += 1;
            }
        }
        // Without the extension the rid of a packet is not known.
        if len == 0 || extmaps[LayerExtension::Rid as usize].is_none() {
            return resolved;
        }
        SendLayers {
            layers,
            len: len as u8,
            ignored: (self.encodings - len) as u8,
            extmaps,
        }
    }

    /// The client prefers the first of several alternatives.
    fn first_usable(&self, encoding: usize, used: &[SendLayer]) -> Option<ListedRid> {
        let mut alternatives = self.listed.iter().filter(|listed| listed.encoding == encoding);
        let is_used = |rid: Rid| used.iter().any(|layer| layer.rid == Some(rid));
        alternatives
            .find(|listed| self.declared.contains(&listed.rid) && !is_used(listed.rid))
            .copied()
    }

    /// The SSRCs are in the order of the encodings if there are as many of them.
    fn layer(&self, listed: ListedRid) -> SendLayer {
        let (ssrc, rtx_ssrc) = if self.flows.len() == self.encodings {
            let (main, rtx) = self.flows[listed.encoding];
            (Some(main), Some(rtx))
        } else if self.flows.is_empty() && self.ssrcs.len() == self.encodings {
            (Some(self.ssrcs[listed.encoding]), None)
        } else {
            (None, None)
        };
        SendLayer {
            rid: Some(listed.rid),
            // Below `LISTED_MAX`.
            stream: listed.encoding as u8,
            is_paused: listed.is_paused,
            ssrc,
            rtx_ssrc,
        }
    }

    /// `<rid> send[ <restrictions>]`. The answer does not repeat the restrictions: they describe what the client sends, and we set none.
    fn take_rid(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        if let (Some(rid), Some("send")) = (words.next().and_then(Rid::parse), words.next())
            && self.declared.len() < LISTED_MAX
        {
            self.declared.push(rid);
        }
    }

    /// `send <list>[ recv <list>]`, or the other way round; the first `a=simulcast` of a line counts. The list has encodings separated by
    /// `;`, each with alternatives separated by `,`, each of which may be paused (`~`).
    fn take_simulcast(&mut self, value: &str) {
        if std::mem::replace(&mut self.has_simulcast, true) {
            return;
        }
        let Some(list) = sent_list(value) else { return };
        for alternatives in list.split(';').take(LISTED_MAX) {
            let room = LISTED_MAX - self.listed.len();
            let encoding = self.encodings;
            let rids = alternatives.split(',').filter_map(|rid| {
                let unpaused = rid.strip_prefix('~');
                Some(ListedRid {
                    encoding,
                    rid: Rid::parse(unpaused.unwrap_or(rid))?,
                    is_paused: unpaused.is_some(),
                })
            });
            self.listed.extend(rids.take(room));
            self.encodings += 1;
        }
    }

    fn take_ssrc(&mut self, value: &str) {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok()).map(Ssrc);
        if let Some(ssrc) = ssrc
            && self.ssrcs.len() < LISTED_MAX
            && !self.ssrcs.contains(&ssrc)
        {
            self.ssrcs.push(ssrc);
        }
    }

    /// `FID main rtx` (RFC 5576 section 4.2, RFC 4588 section 8.8). A group with an SSRC of another one is left out.
    fn take_ssrc_group(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        if self.flows.len() == LISTED_MAX || words.next() != Some("FID") {
            return;
        }
        let mut ssrc = || words.next()?.parse().ok().map(Ssrc);
        let Some((main, rtx)) = ssrc().zip(ssrc()) else { return };
        let is_new = |ssrc| self.flows.iter().all(|flow| flow.0 != ssrc && flow.1 != ssrc);
        if main != rtx && is_new(main) && is_new(rtx) {
            self.flows.push((main, rtx));
        }
    }

    /// The first id of each extension counts; one that another has already is left out.
    fn take_extmap(&mut self, value: &str) {
        let Some((extmap, uri)) = Extmap::read(value) else {
            return;
        };
        let Some(extension) = LayerExtension::ALL.into_iter().find(|e| e.uri() == uri) else {
            return;
        };
        let is_known = self.extmaps.iter().flatten().any(|known| known.id == extmap.id);
        if self.extmaps[extension as usize].is_none() && !is_known {
            self.extmaps[extension as usize] = Some(extmap);
        }
    }
}

impl LayerExtension {
    /// In the order of the variants: `ALL[e as usize] == e`.
    const ALL: [LayerExtension; 3] = [
        LayerExtension::Rid,
        LayerExtension::RepairedRid,
        LayerExtension::Allocation,
    ];

    const fn uri(self) -> &'static str {
        match self {
            LayerExtension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            LayerExtension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            LayerExtension::Allocation => "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
        }
    }
}

/// The list behind `send`. Directions and lists take turns, and a list may be a single rid with the name of a direction.
fn sent_list(simulcast: &str) -> Option<&str> {
    let mut words = simulcast.split_ascii_whitespace();
    loop {
        let (direction, list) = (words.next()?, words.next()?);
        if direction == "send" {
            return Some(list);
        }
    }
}

/// The most rids, SSRCs and groups of one line that are read: far more than any client has.
const LISTED_MAX: usize = 64;

#[cfg(test)]
mod tests;
