//! The codecs that a viewer can play, and what of a stream it cannot.
//!
//! The codecs of a viewer that joins before the publisher cannot be checked against the stream yet. Nothing is stored: what a viewer
//! misses follows from its lines and from the stream's present codecs.

use onecast_engine::fanout::{Direction, Session, ViewerLine};
use onecast_rtc::rtp::{Codec, Kind};

/// The codecs of a viewer's lines: a bit for each, by the order of [`Codec::ALL`]. Nothing is missed of a kind that has no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Playable([Option<u8>; 2]);

/// What a stream is sent in and a viewer cannot play: audio, video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing([Option<Codec>; 2]);

impl Playable {
    /// What the client of a session has negotiated, if it is a viewer. Publishers and members of rooms miss nothing.
    pub fn of(session: &Session) -> Playable {
        let viewer = session.plan.subscriptions.first();
        let viewer = viewer.filter(|_| session.direction == Direction::ReceiveOnly);
        viewer.map_or_else(Playable::default, |viewer| {
            Playable::of_lines(viewer.audio.as_ref(), viewer.video.as_ref())
        })
    }

    /// What a viewer with these lines can play.
    pub fn of_lines(audio: Option<&ViewerLine>, video: Option<&ViewerLine>) -> Playable {
        Playable([audio, video].map(|line| line.map(bits)))
    }

    /// A line of each kind with these codecs.
    #[cfg(test)]
    pub(crate) fn of_codecs(audio: &[Codec], video: &[Codec]) -> Playable {
        Playable([audio, video].map(|line| Some(line.iter().fold(0, |bits, codec| bits | bit(*codec)))))
    }

    /// What is missing while the stream is sent in these codecs (audio, video).
    pub fn missing(self, codecs: [Option<Codec>; 2]) -> Missing {
        Missing(Kind::ALL.map(|kind| {
            let line = self.0[kind as usize]?;
            codecs[kind as usize].filter(|codec| line & bit(*codec) == 0)
        }))
    }

    /// The codecs of one line.
    pub fn codecs(self, kind: Kind) -> impl Iterator<Item = Codec> {
        let line = self.0[kind as usize].unwrap_or_default();
        Codec::ALL.into_iter().filter(move |codec| line & bit(*codec) != 0)
    }
}

impl Missing {
    /// Whether everything can be played.
    pub fn is_empty(self) -> bool {
        self == Missing::default()
    }

    /// The codecs that cannot be played, each of another kind.
    pub fn codecs(self) -> impl Iterator<Item = Codec> {
        self.0.into_iter().flatten()
    }
}

fn bits(line: &ViewerLine) -> u8 {
    line.formats().fold(0, |bits, format| bits | bit(format.codec))
}

fn bit(codec: Codec) -> u8 {
    let position = Codec::ALL.into_iter().position(|known| known == codec);
    1 << position.expect("the list has every codec")
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Pt;
    use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};

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
        Some(ViewerLine::new(&MediaLine {
            kind,
            mid: "0".into(),
            formats: codecs.iter().map(format).collect(),
            extensions: ExtensionIds::default(),
            ssrc: None,
            rtx_ssrc: None,
            layers: None,
        }))
    }

    #[test]
    fn a_viewer_misses_what_it_asked_for_and_has_no_codec_for() {
        let audio = line(Kind::Audio, &[Codec::Opus]);
        let video = line(Kind::Video, &[Codec::Vp9, Codec::Vp8, Codec::Vp8]);
        let playable = Playable::of_lines(audio.as_ref(), video.as_ref());
        let opus = Some(Codec::Opus);
        for codec in [None, Some(Codec::Vp8), Some(Codec::Vp9)] {
            assert!(playable.missing([opus, codec]).is_empty(), "{codec:?}");
        }
        for codec in [Codec::H264, Codec::H265, Codec::Av1] {
            let missing: Vec<_> = playable.missing([opus, Some(codec)]).codecs().collect();
            assert_eq!(missing, [codec]);
        }
        assert_eq!(
            playable.codecs(Kind::Video).collect::<Vec<_>>(),
            [Codec::Vp8, Codec::Vp9]
        );
    }

    #[test]
    fn a_kind_that_was_not_asked_for_is_not_missed() {
        let playable = Playable::of_lines(line(Kind::Audio, &[Codec::Opus]).as_ref(), None);
        assert!(playable.missing([Some(Codec::Opus), Some(Codec::H264)]).is_empty());
        assert!(
            Playable::default()
                .missing([Some(Codec::Opus), Some(Codec::H264)])
                .is_empty()
        );
    }
}
