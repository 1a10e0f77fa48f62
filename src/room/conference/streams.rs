//! What a member sends: its lines, gathered to streams.

use std::sync::Arc;

use super::{Broadcast, RoomError};
use crate::fanout::{SessionRole, SourceSpec};
use crate::media::StreamTracks;
use crate::peer::sdp::{MediaLine, ReceivedLine, TrackId};
use crate::rtp::{Codec, Kind};

/// The streams of one member, the first of which is what it shows of itself.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

/// Lines of a member with the same stream id in `a=msid`: what is to be played together.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tracks: Arc<StreamTracks>,
    /// The client's own name for it.
    msid: Box<str>,
    /// The m-line of each kind, which stays that kind's for ever, and what was agreed about it while the client sends on it.
    lines: [Option<Line>; 2],
    pub(super) muted: [bool; 2],
    /// By what was heard of the shards.
    pub(super) speaking: bool,
}

#[derive(Debug)]
struct Line {
    mid: Box<str>,
    agreed: Option<MediaLine>,
    label: Option<Box<str>>,
    playing: Option<Codec>,
}

/// Where the lines of a description go.
#[derive(Debug)]
pub(super) struct Plan {
    /// For each line the place of its stream, or of one that is to be made.
    places: Vec<usize>,
    /// Names of those that are to be made.
    new: Vec<Box<str>>,
}

impl Streams {
    /// Streams of a member, ended ones included: camera, screen, and some to spare.
    pub(super) const MAX: usize = 8;

    /// Finds the stream of each line: the one that had the line before, else one of the same name without a line of the kind.
    pub(super) fn plan(&self, received: &[ReceivedLine]) -> Result<Plan, RoomError> {
        // What each stream's lines will be; the names of streams that are to be made follow those there are.
        let mut taken: Vec<(&str, [Option<&str>; 2])> = self.0.iter().map(Stream::mids).collect();
        let places = received.iter().map(|line| {
            let (mid, kind) = (&*line.line.mid, line.line.kind as usize);
            let had = taken.iter().position(|(_, mids)| mids[kind] == Some(mid));
            let free = |taken: &[(&str, [Option<&str>; 2])]| {
                let fits = |(msid, mids): &(&str, [Option<&str>; 2])| *msid == &*line.stream && mids[kind].is_none();
                taken.iter().position(fits)
            };
            let place = had.or_else(|| free(&taken)).unwrap_or_else(|| {
                taken.push((&line.stream, [None; 2]));
                taken.len() - 1
            });
            taken[place].1[kind] = Some(mid);
            place
        });
        let places = places.collect();
        if taken.len() > Streams::MAX {
            return Err(RoomError::TooManyStreams { max: Streams::MAX });
        }
        let new = taken[self.0.len()..].iter().map(|(msid, _)| (*msid).into()).collect();
        Ok(Plan { places, new })
    }

    /// The client sends on these lines from now on, and on no others.
    pub(super) fn apply(
        &mut self,
        plan: Plan,
        received: &[ReceivedLine],
        label: impl Fn(&str) -> Option<Box<str>>,
        mut open: impl FnMut(usize) -> Arc<StreamTracks>,
    ) {
        for msid in plan.new {
            let tracks = open(self.0.len());
            self.0.push(Stream::new(tracks, msid));
        }
        for line in self.0.iter_mut().flat_map(|stream| stream.lines.iter_mut().flatten()) {
            line.agreed = None;
        }
        for (place, received) in plan.places.into_iter().zip(received) {
            let line = &received.line;
            let entry = self.0[place].lines[line.kind as usize].get_or_insert_with(|| Line::new(&line.mid));
            entry.agreed = Some(line.clone());
            entry.label = label(&line.mid).or_else(|| entry.label.take());
        }
        for line in self.0.iter_mut().flat_map(|stream| stream.lines.iter_mut().flatten()) {
            // Its next picture may be in another codec.
            line.playing = line.playing.filter(|_| line.agreed.is_some());
        }
    }

    /// Just this one.
    pub(super) fn of(stream: Stream) -> Streams {
        Streams(vec![stream])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.0.iter()
    }

    /// The stream that shards know under this serial number.
    pub(super) fn find(&mut self, serial: u32) -> Option<&mut Stream> {
        self.0.iter_mut().find(|stream| stream.serial() == serial)
    }

    pub(super) fn first(&mut self) -> Option<&mut Stream> {
        self.0.first_mut()
    }
}

impl Stream {
    fn new(tracks: Arc<StreamTracks>, msid: Box<str>) -> Stream {
        Stream {
            tracks,
            msid,
            lines: [None, None],
            muted: [false; 2],
            speaking: false,
        }
    }

    /// That of a broadcast: what was agreed with its publisher.
    pub(super) fn of_broadcast(tracks: Arc<StreamTracks>, broadcast: &Broadcast) -> Stream {
        let mut stream = Stream::new(tracks, "".into());
        if let SessionRole::Publisher(negotiated) = &broadcast.session.role {
            for agreed in [&negotiated.audio, &negotiated.video].into_iter().flatten() {
                stream.lines[agreed.kind as usize] = Some(Line {
                    agreed: Some(agreed.clone()),
                    playing: broadcast.codecs[agreed.kind as usize],
                    ..Line::new(&agreed.mid)
                });
            }
        }
        stream
    }

    fn mids(&self) -> (&str, [Option<&str>; 2]) {
        let mids = self.lines.each_ref().map(|line| line.as_ref().map(|line| &*line.mid));
        (&self.msid, mids)
    }

    pub(super) fn serial(&self) -> u32 {
        self.tracks.key.serial
    }

    pub(super) fn track(&self, kind: Kind) -> TrackId {
        TrackId {
            stream: self.serial(),
            kind,
        }
    }

    /// What is sent of a kind may be sent in these; empty when nothing is.
    pub(super) fn codecs(&self, kind: Kind) -> Vec<Codec> {
        let Some(line) = self.line(kind) else { return Vec::new() };
        let Some(agreed) = &line.agreed else { return Vec::new() };
        let likely = line.playing.or(agreed.formats.first().map(|format| format.codec));
        likely.into_iter().collect()
    }

    /// Whether anything of it is sent.
    pub(super) fn is_sent(&self) -> bool {
        self.lines.iter().flatten().any(|line| line.agreed.is_some())
    }

    pub(super) fn label(&self, kind: Kind) -> Option<&str> {
        self.line(kind)?.label.as_deref()
    }

    /// What a track is sent in, as far as that is known.
    pub(super) fn playing(&self, kind: Kind) -> Option<Codec> {
        self.line(kind)?.playing
    }

    pub(super) fn set_playing(&mut self, kind: Kind, codec: Codec) {
        if let Some(line) = &mut self.lines[kind as usize] {
            line.playing = Some(codec);
        }
    }

    /// It is a screen, or something else that everybody is to see whoever speaks.
    pub(super) fn is_presentation(&self) -> bool {
        self.label(Kind::Video) == Some(PRESENTATION)
    }

    pub(super) fn source(&self, air: Option<Arc<StreamTracks>>) -> SourceSpec {
        let agreed = |kind| self.line(kind)?.agreed.clone();
        SourceSpec {
            tracks: self.tracks.clone(),
            audio: agreed(Kind::Audio),
            video: agreed(Kind::Video),
            air,
        }
    }

    fn line(&self, kind: Kind) -> Option<&Line> {
        self.lines[kind as usize].as_ref()
    }
}

impl Line {
    fn new(mid: &str) -> Line {
        Line {
            mid: mid.into(),
            agreed: None,
            label: None,
            playing: None,
        }
    }
}

/// The label of a shared screen.
const PRESENTATION: &str = "screen";
