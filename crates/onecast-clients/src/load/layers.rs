//! Simulcast of a load's publisher: which layers it offers, in the manner of which program, and what an answer says about them.

use onecast_rtc::rtp::Ssrc;

use super::offer::VIDEO_SSRC;

/// The program whose simulcast a publisher imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SenderKind {
    /// Chromium: rids from the lowest layer up; mid and rid in packets until the first report about their SSRC; each layer has its own
    /// random clock; a keyframe request for one layer is answered in all of them.
    #[default]
    Browser,
    /// OBS 32: rids from the highest layer down; mid and rid in every packet; one clock and one buffer of retransmissions for all
    /// layers; keyframe requests are ignored.
    Obs,
}

/// The layers of a published video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSet {
    sender: SenderKind,
    count: usize,
    scale: f64,
}

/// One layer of a published video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Its name; `None` for a video without layers.
    pub rid: Option<&'static str>,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Its bit rate as a share of that of the workload.
    pub share: f64,
    /// Its SSRC.
    pub ssrc: Ssrc,
}

impl LayerSet {
    /// The most layers: more than browsers send, and as many as OBS.
    pub const MAX: usize = 4;
    /// A video without layers.
    pub const SINGLE: LayerSet = LayerSet {
        sender: SenderKind::Browser,
        count: 1,
        scale: 1.0,
    };

    /// So many layers, 1..=[`LayerSet::MAX`], as this program sends them.
    pub fn new(sender: SenderKind, count: usize) -> LayerSet {
        LayerSet {
            sender,
            count: count.clamp(1, LayerSet::MAX),
            scale: 1.0,
        }
    }

    /// The same with `scale` times the bit rate.
    #[must_use]
    pub fn scaled(self, scale: f64) -> LayerSet {
        LayerSet {
            scale: self.scale * scale,
            ..self
        }
    }

    /// The program that it imitates.
    pub fn sender(&self) -> SenderKind {
        self.sender
    }

    /// It has rids.
    pub fn is_simulcast(&self) -> bool {
        self.count > 1
    }

    /// The layers, in the order of the offer.
    pub fn specs(&self) -> Vec<LayerSpec> {
        (0..self.count).map(|index| self.spec(index)).collect()
    }

    fn spec(&self, index: usize) -> LayerSpec {
        let (rid, (width, height), share) = match self.sender {
            _ if self.count == 1 => (None, SINGLE_SIZE, 1.0),
            SenderKind::Browser => {
                let (rid, size, kbit) = BROWSER[index];
                (Some(rid), size, kbit / BROWSER[self.count - 1].2)
            }
            SenderKind::Obs => {
                let share = (self.count - index) as f64 / self.count as f64;
                let pixels = |top: u16| (f64::from(top) * share) as u16 & !1;
                (Some(OBS_RIDS[index]), (pixels(OBS_SIZE.0), pixels(OBS_SIZE.1)), share)
            }
        };
        LayerSpec {
            rid,
            width,
            height,
            share: share * self.scale,
            // OBS counts them up from the SSRC of its audio.
            ssrc: Ssrc(VIDEO_SSRC.0 + index as u32),
        }
    }

    /// The lines of the offer's video section that announce the layers; empty without simulcast.
    pub(super) fn offer_lines(&self) -> String {
        if !self.is_simulcast() {
            return String::new();
        }
        let extensions = match self.sender {
            SenderKind::Browser => &[(9, MID_URI), (10, RID_URI), (11, REPAIRED_RID_URI)][..],
            SenderKind::Obs => &[(OBS_MID_ID, MID_URI), (OBS_RID_ID, RID_URI)],
        };
        let mut lines = String::new();
        for (id, uri) in extensions {
            lines.push_str(&format!("a=extmap:{id} {uri}\r\n"));
        }
        let rids: Vec<&str> = self.specs().iter().filter_map(|spec| spec.rid).collect();
        for rid in &rids {
            lines.push_str(&format!("a=rid:{rid} send\r\n"));
        }
        lines.push_str(&format!("a=simulcast:send {}\r\n", rids.join(";")));
        lines
    }
}

impl Default for LayerSet {
    fn default() -> LayerSet {
        LayerSet::SINGLE
    }
}

/// What an answer says about the layers of the publisher's video.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnsweredLayers {
    /// Accepted rids that are not paused.
    pub(crate) rids: Vec<String>,
    /// The mid of the video line.
    pub(crate) mid: String,
    /// Id of the header extension with the mid.
    pub(super) mid_id: Option<u8>,
    /// Id of the header extension with the rid.
    pub(super) rid_id: Option<u8>,
    /// Layers as OBS counts them.
    obs_count: usize,
}

impl AnsweredLayers {
    /// Reads the video section of an answer.
    pub fn parse(sdp: &str) -> AnsweredLayers {
        let obs_count = count_as_obs(sdp);
        let lines = sdp.lines().map(str::trim_end);
        let section = lines.skip_while(|line| !line.starts_with("m=video")).skip(1);
        let mut answered = AnsweredLayers {
            obs_count,
            ..AnsweredLayers::default()
        };
        for line in section.take_while(|line| !line.starts_with("m=")) {
            if let Some(mid) = line.strip_prefix("a=mid:") {
                answered.mid = mid.to_owned();
            } else if let Some(extmap) = line.strip_prefix("a=extmap:") {
                answered.take_extmap(extmap);
            } else if let Some(list) = line.strip_prefix("a=simulcast:") {
                answered.rids = accepted_rids(list);
            }
        }
        answered
    }

    /// Whether OBS goes on with this answer. It wants all of its layers.
    pub fn satisfies_obs(&self, layers: &LayerSet) -> bool {
        !layers.is_simulcast() || self.obs_count == layers.count
    }

    /// Layers as OBS counts them: by the semicolons of the first `a=simulcast` line.
    pub fn counted_as_obs(&self) -> usize {
        self.obs_count
    }

    /// Whether the layer is sent. A browser whose simulcast is not accepted sends its first layer only.
    pub(super) fn accepts(&self, layers: &LayerSet, index: usize) -> bool {
        let rid = layers.spec(index).rid;
        match (layers.sender, rid) {
            (SenderKind::Obs, _) | (_, None) => true,
            _ if self.rids.is_empty() => index == 0,
            (SenderKind::Browser, Some(rid)) => self.rids.iter().any(|accepted| accepted == rid),
        }
    }

    /// `<id>[/<direction>] <URI>`
    fn take_extmap(&mut self, value: &str) {
        let Some((id, uri)) = value.split_once(' ') else { return };
        let id = id.split('/').next().and_then(|id| id.parse().ok());
        match uri {
            MID_URI => self.mid_id = id,
            RID_URI => self.rid_id = id,
            _ => {}
        }
    }
}

/// The rids behind `recv`, without paused ones. Of alternatives the first counts.
fn accepted_rids(simulcast: &str) -> Vec<String> {
    let mut words = simulcast.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction == "recv" {
            let first = list.split(';').filter_map(|layer| layer.split(',').next());
            return first.filter(|rid| !rid.starts_with('~')).map(str::to_owned).collect();
        }
    }
    Vec::new()
}

/// OBS searches the text for `a=simulcast`, and counts semicolons up to the next CRLF.
fn count_as_obs(sdp: &str) -> usize {
    let Some((_, line)) = sdp.split_once("a=simulcast") else {
        return 0;
    };
    let line = line.split("\r\n").next().unwrap_or_default();
    line.matches(';').count() + 1
}

/// Of a video without layers.
const SINGLE_SIZE: (u16, u16) = (640, 360);
/// Name, size and usual bit rate in kbit/s of the layers of a browser, from the lowest.
const BROWSER: [(&str, (u16, u16), f64); LayerSet::MAX] = [
    ("q", (320, 180), 150.0),
    ("h", (640, 360), 500.0),
    ("f", (1280, 720), 2_000.0),
    ("u", (1920, 1080), 5_000.0),
];
const OBS_RIDS: [&str; LayerSet::MAX] = ["0", "1", "2", "3"];
/// Of the highest layer.
const OBS_SIZE: (u16, u16) = (1920, 1080);
/// OBS uses these ids whatever the answer says.
pub(super) const OBS_MID_ID: u8 = 1;
pub(super) const OBS_RID_ID: u8 = 2;
pub(crate) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(crate) const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rid:q recv\r\na=simulcast:recv q;h;~f\r\n";

    fn names(layers: LayerSet) -> Vec<(&'static str, u16, f64)> {
        let specs = layers.specs().into_iter();
        specs
            .map(|spec| (spec.rid.unwrap_or_default(), spec.height, spec.share))
            .collect()
    }

    #[test]
    fn browsers_list_the_lowest_layer_first_and_obs_the_highest() {
        assert_eq!(names(LayerSet::SINGLE), [("", 360, 1.0)]);
        assert_eq!(
            names(LayerSet::new(SenderKind::Browser, 3)),
            [("q", 180, 0.075), ("h", 360, 0.25), ("f", 720, 1.0)]
        );
        assert_eq!(
            names(LayerSet::new(SenderKind::Obs, 4)),
            [("0", 1080, 1.0), ("1", 810, 0.75), ("2", 540, 0.5), ("3", 270, 0.25)]
        );
        let doubled = LayerSet::new(SenderKind::Browser, 2).scaled(2.0);
        assert_eq!(names(doubled), [("q", 180, 0.6), ("h", 360, 2.0)]);
    }

    #[test]
    fn the_ssrcs_of_obs_count_up_from_that_of_audio() {
        let specs = LayerSet::new(SenderKind::Obs, 3).specs();
        let audio = super::super::offer::AUDIO_SSRC.0;
        assert_eq!(
            specs.iter().map(|spec| spec.ssrc.0 - audio).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }

    #[test]
    fn an_answer_names_ids_and_layers_of_the_video_line() {
        let answered = AnsweredLayers::parse(ANSWER);
        assert_eq!(answered.rids, ["q", "h"]);
        assert_eq!(
            (answered.mid.as_str(), answered.mid_id, answered.rid_id),
            ("1", Some(9), Some(10))
        );
        let layers = LayerSet::new(SenderKind::Browser, 3);
        assert_eq!(
            [0, 1, 2].map(|index| answered.accepts(&layers, index)),
            [true, true, false]
        );
    }

    #[test]
    fn without_simulcast_in_the_answer_a_browser_sends_its_first_layer() {
        let answered = AnsweredLayers::parse(&ANSWER.replace("a=simulcast", "a=x"));
        let layers = LayerSet::new(SenderKind::Browser, 3);
        assert_eq!(
            [0, 1, 2].map(|index| answered.accepts(&layers, index)),
            [true, false, false]
        );
        assert!(AnsweredLayers::default().accepts(&LayerSet::SINGLE, 0));
    }

    #[test]
    fn obs_counts_semicolons_up_to_the_end_of_the_line() {
        let three = LayerSet::new(SenderKind::Obs, 3);
        let counted = |sdp: &str| AnsweredLayers::parse(sdp).counted_as_obs();
        assert_eq!((counted(ANSWER), counted("v=0\r\n")), (3, 0));
        assert_eq!(counted("a=simulcast:recv 0\r\na=x:;;\r\n"), 1);
        // A bare line feed does not end the line for OBS.
        assert_eq!(counted("a=simulcast:recv 0;1\na=x:;\r\n"), 3);
        assert!(AnsweredLayers::parse(ANSWER).satisfies_obs(&three));
        assert!(!AnsweredLayers::parse("a=simulcast:recv 0;1\r\n").satisfies_obs(&three));
        assert!(!AnsweredLayers::parse("v=0\r\n").satisfies_obs(&three));
        assert!(AnsweredLayers::parse("v=0\r\n").satisfies_obs(&LayerSet::new(SenderKind::Obs, 1)));
    }
}
