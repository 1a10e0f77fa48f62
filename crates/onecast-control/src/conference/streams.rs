//! What a member sends: its lines, grouped into streams.

use std::sync::Arc;

use super::Broadcast;
use onecast_engine::fanout::SourceSpec;
use onecast_engine::media::StreamTracks;
use onecast_rtc::rtp::{Codec, Kind, Mid};
use onecast_rtc::sdp::{MediaLine, ReceivedLine, TrackId};

/// The streams of one member, the first of which is what it shows of itself.
#[derive(Debug, Default)]
pub(super) struct MemberStreams {
    now: Vec<MemberStream>,
    /// How many there have been.
    opened: usize,
}

/// Lines of a member with the same stream id in `a=msid`: what is to be played together.
#[derive(Debug)]
pub(super) struct MemberStream {
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
    mid: Mid,
    /// What was agreed when the client last sent on it.
    agreed: Option<MediaLine>,
    /// The client sends on it.
    sends: bool,
    label: Option<Box<str>>,
    playing: Option<Codec>,
}

/// Where the lines of a description go.
#[derive(Debug)]
struct Plan {
    /// For each line the place of its stream, or of one that is to be made.
    places: Vec<usize>,
    /// Names of those that are to be made.
    new: Vec<Box<str>>,
}

impl MemberStreams {
    /// Finds the stream of each line: the one that had the line before, else one of the same name without a line of the kind. The lines
    /// on which a client may send (`onecast_rtc::sdp::negotiation::MAX_SENDING_LINES`) bound the streams.
    fn plan(&self, received: &[ReceivedLine]) -> Plan {
        // What each stream's lines will be; the names of streams that are to be made follow those there are.
        let mut taken: Vec<(&str, [Option<&str>; 2])> = self.now.iter().map(MemberStream::mids).collect();
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
        let new = taken[self.now.len()..].iter().map(|(msid, _)| (*msid).into()).collect();
        Plan { places, new }
    }

    /// The client sends on these lines from now on, and on no others. Gives the streams that have ended.
    ///
    /// A line that is switched off stays with its stream while there is another: the others keep theirs, and see at once when it is on
    /// again. Chromium needs that, too: it shows nothing of a track that comes back to its line under its SSRC. So a stream that has ended
    /// never comes back, but as another one.
    pub(super) fn apply(
        &mut self,
        received: &[ReceivedLine],
        label: impl Fn(&str) -> Option<Box<str>>,
        mut open: impl FnMut(usize) -> Arc<StreamTracks>,
    ) -> Vec<MemberStream> {
        let plan = self.plan(received);
        for msid in plan.new {
            let tracks = open(self.opened);
            self.opened += 1;
            self.now.push(MemberStream::new(tracks, msid));
        }
        for line in self.now.iter_mut().flat_map(|stream| stream.lines.iter_mut().flatten()) {
            line.sends = false;
        }
        for (place, received) in plan.places.into_iter().zip(received) {
            let line = &received.line;
            let entry = self.now[place].lines[line.kind as usize].get_or_insert_with(|| Line::new(&line.mid));
            entry.agreed = Some(line.clone());
            entry.sends = true;
            entry.label = label(&line.mid).or_else(|| entry.label.take());
        }
        self.now.extract_if(.., |stream| !stream.is_sent()).collect()
    }

    /// Just this one.
    pub(super) fn of(stream: MemberStream) -> MemberStreams {
        MemberStreams {
            now: vec![stream],
            opened: 1,
        }
    }

    /// Every one, when their member is gone.
    pub(super) fn into_all(self) -> Vec<MemberStream> {
        self.now
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &MemberStream> {
        self.now.iter()
    }

    /// The stream that shards know under this serial number.
    pub(super) fn find(&mut self, serial: u32) -> Option<&mut MemberStream> {
        self.now.iter_mut().find(|stream| stream.serial() == serial)
    }

    pub(super) fn first(&mut self) -> Option<&mut MemberStream> {
        self.now.first_mut()
    }
}

impl MemberStream {
    fn new(tracks: Arc<StreamTracks>, msid: Box<str>) -> MemberStream {
        MemberStream {
            tracks,
            msid,
            lines: [None, None],
            muted: [false; 2],
            speaking: false,
        }
    }

    /// That of a broadcast: what was agreed with its publisher.
    pub(super) fn of_broadcast(tracks: Arc<StreamTracks>, broadcast: &Broadcast) -> MemberStream {
        let mut stream = MemberStream::new(tracks, "".into());
        if let Some(source) = broadcast.session.plan.sources.first() {
            for agreed in [&source.audio, &source.video].into_iter().flatten() {
                stream.lines[agreed.kind as usize] = Some(Line {
                    agreed: Some(agreed.clone()),
                    sends: true,
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

    /// What a track is sent in, as far as is known; `None` when it never was sent. It may be switched off at this moment.
    pub(super) fn codec(&self, kind: Kind) -> Option<Codec> {
        let line = self.line(kind)?;
        let likely = || Some(line.agreed.as_ref()?.formats.first()?.codec);
        line.playing.or_else(likely)
    }

    /// Whether a track is sent at this moment.
    pub(super) fn sends(&self, kind: Kind) -> bool {
        self.line(kind).is_some_and(|line| line.sends)
    }

    /// Whether anything of it is sent.
    pub(super) fn is_sent(&self) -> bool {
        Kind::ALL.into_iter().any(|kind| self.sends(kind))
    }

    pub(super) fn label(&self, kind: Kind) -> Option<&str> {
        self.line(kind)?.label.as_deref()
    }

    pub(super) fn set_playing(&mut self, kind: Kind, codec: Codec) {
        if let Some(line) = &mut self.lines[kind as usize] {
            line.playing = Some(codec);
        }
    }

    /// It is a screen, or something else that all members see regardless of the speaker.
    pub(super) fn is_presentation(&self) -> bool {
        self.label(Kind::Video) == Some(PRESENTATION)
    }

    pub(super) fn source(&self, program: Option<Arc<StreamTracks>>) -> SourceSpec {
        let agreed = |kind| self.line(kind).filter(|line| line.sends)?.agreed.clone();
        SourceSpec {
            tracks: self.tracks.clone(),
            audio: agreed(Kind::Audio),
            video: agreed(Kind::Video),
            program,
            detects_speech: true,
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
            sends: false,
            label: None,
            playing: None,
        }
    }
}

/// The label of a shared screen.
const PRESENTATION: &str = "screen";
