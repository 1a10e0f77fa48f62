//! Media sources of a publisher: the test card, a tone, or files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::test_card::TestCard;
use onecast_rtc::rtp::{Codec, Kind, Rid};

/// One encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its bytes, as the codec's RTP payload format takes them.
    pub data: Bytes,
    /// How long it is shown or heard.
    pub duration: Duration,
}

/// Frames of one track, in order.
pub trait Source: Send {
    /// Its codec.
    fn codec(&self) -> Codec;
    /// Description for the user.
    fn describe(&self) -> String;
    /// The next frame; `None` at the end.
    fn next_sample(&mut self) -> Option<Sample>;
    /// Makes the next frame a keyframe. Returns false if it cannot, like a file.
    fn request_keyframe(&mut self) -> bool {
        false
    }
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Its extension is unknown.
    #[error("{} has no known extension; .ivf (VP8, VP9, AV1), .h264 (Annex B), .ogg and .opus (Opus) can be sent", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Its contents do not match the extension.
    #[error("{} cannot be used: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two sources of one kind.
    #[error("two {0} sources were given; only one of each kind can be sent")]
    Twice(Kind),
    /// Layers that cannot be one video.
    #[error("{0}")]
    Layers(&'static str),
}

/// What one track carries: a source, or several layers of one picture.
pub struct LayeredSource {
    /// In the order of the offer. Names only if there are several.
    pub(super) layers: Vec<(Option<Rid>, Box<dyn Source>)>,
}

/// A layer by its name and file: `h=mid.ivf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFile {
    rid: Rid,
    path: PathBuf,
}

impl LayeredSource {
    /// Its codec.
    pub fn codec(&self) -> Codec {
        self.layers[0].1.codec()
    }

    /// Description for the user.
    pub fn describe(&self) -> String {
        let about = self.layers.iter().map(|(rid, source)| match rid {
            Some(rid) => format!("{rid}: {}", source.describe()),
            None => source.describe(),
        });
        about.collect::<Vec<_>>().join(", ")
    }

    /// The names of the layers; none for a single one.
    pub fn rids(&self) -> impl Iterator<Item = String> {
        self.layers.iter().filter_map(|(rid, _)| rid.map(|rid| rid.to_string()))
    }

    /// So many layers of the test card, 1..=4, the smallest first.
    pub fn test_card(count: usize) -> LayeredSource {
        let count = count.clamp(1, TEST_RIDS.len());
        let layer = |(rid, size): (&&str, u16)| {
            let source: Box<dyn Source> = Box::new(TestPicture::sized(size));
            (Rid::parse(rid).filter(|_| count > 1), source)
        };
        LayeredSource {
            layers: TEST_RIDS.iter().zip(1..).take(count).map(layer).collect(),
        }
    }
}

impl From<Box<dyn Source>> for LayeredSource {
    fn from(source: Box<dyn Source>) -> LayeredSource {
        LayeredSource {
            layers: vec![(None, source)],
        }
    }
}

impl std::str::FromStr for LayerFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LayerFile, &'static str> {
        let parts = text.split_once('=').filter(|(_, path)| !path.is_empty());
        let layer = parts.and_then(|(rid, path)| Some((Rid::parse(rid)?, path.into())));
        let (rid, path) =
            layer.ok_or("expected a name and a file such as h=mid.ivf; names have letters, digits, - and _")?;
        Ok(LayerFile { rid, path })
    }
}

/// Opens the sources of `--source` with so many layers of the test card. Only the test card has layers.
///
/// # Errors
/// When a file cannot be used, or has to have layers.
pub fn open_layered(names: &[String], repeat: bool, layers: usize) -> Result<Vec<LayeredSource>, SourceError> {
    let mut sources = Vec::new();
    for name in names {
        if name == "test" {
            sources.push(LayeredSource::test_card(layers));
            let tone: Box<dyn Source> = Box::new(tone());
            sources.push(tone.into());
        } else {
            let file: Box<dyn Source> = Box::new(open_file(Path::new(name), repeat)?);
            sources.push(file.into());
        }
    }
    if layers > 1 && !names.iter().any(|name| name == "test") {
        return Err(SourceError::Layers(
            "--layers is for the test card; use --layer RID=FILE for files",
        ));
    }
    Ok(sources)
}

/// Opens the files of `--layer`, all of the same video codec.
///
/// # Errors
/// When a file cannot be used, or they cannot be layers of one video.
pub fn open_layers(files: &[LayerFile], repeat: bool) -> Result<LayeredSource, SourceError> {
    if !(2..=TEST_RIDS.len()).contains(&files.len()) {
        return Err(SourceError::Layers(
            "two to four layers can be sent; use --source for one video",
        ));
    }
    let is_repeated = |index: usize| files[..index].iter().any(|file| file.rid == files[index].rid);
    if (0..files.len()).any(is_repeated) {
        return Err(SourceError::Layers("two layers have the same name"));
    }
    let mut layers: Vec<(Option<Rid>, Box<dyn Source>)> = Vec::new();
    for file in files {
        layers.push((Some(file.rid), Box::new(open_file(&file.path, repeat)?)));
    }
    let codec = layers[0].1.codec();
    let fits = |(_, source): &(_, Box<dyn Source>)| source.codec() == codec && codec.kind() == Kind::Video;
    match layers.iter().all(fits) {
        true => Ok(LayeredSource { layers }),
        false => Err(SourceError::Layers("the layers have to be videos of the same codec")),
    }
}

/// Checks that there is at most one source of each kind.
///
/// # Errors
/// [`SourceError::Twice`] otherwise.
pub fn check_kinds(sources: &[LayeredSource]) -> Result<(), SourceError> {
    let is_twice = |kind: &Kind| sources.iter().filter(|source| source.codec().kind() == *kind).count() > 1;
    match [Kind::Audio, Kind::Video].into_iter().find(is_twice) {
        Some(kind) => Err(SourceError::Twice(kind)),
        None => Ok(()),
    }
}

/// Opens the sources of `--source`: `test` is test card and tone. At most one of each kind.
///
/// # Errors
/// When a file cannot be used, or two are of one kind.
pub fn open(names: &[String], repeat: bool) -> Result<Vec<Box<dyn Source>>, SourceError> {
    let sources = open_layered(names, repeat, 1)?;
    check_kinds(&sources)?;
    let all = sources.into_iter().flat_map(|source| source.layers);
    Ok(all.map(|(_, source)| source).collect())
}

/// The test card, endless.
#[derive(Debug)]
pub struct TestPicture {
    card: TestCard,
    since_keyframe: u32,
}

impl TestPicture {
    /// Frames from one keyframe to the next without a request: 2 s.
    const KEYFRAME_EVERY: u32 = 2 * TestCard::FRAME_RATE;

    /// A test card of `size` times the usual width and height.
    fn sized(size: u16) -> TestPicture {
        TestPicture {
            card: TestCard::sized(size),
            since_keyframe: TestPicture::KEYFRAME_EVERY,
        }
    }
}

impl Default for TestPicture {
    fn default() -> TestPicture {
        TestPicture::sized(1)
    }
}

impl Source for TestPicture {
    fn codec(&self) -> Codec {
        Codec::Vp8
    }

    fn describe(&self) -> String {
        let (width, height) = self.card.size();
        format!("test card, {width}x{height}, {} frames/s", TestCard::FRAME_RATE)
    }

    fn next_sample(&mut self) -> Option<Sample> {
        let keyframe = self.since_keyframe >= TestPicture::KEYFRAME_EVERY;
        self.since_keyframe = if keyframe { 1 } else { self.since_keyframe + 1 };
        let data = self.card.next_frame(keyframe).into();
        Some(Sample {
            data,
            duration: Duration::from_secs(1) / TestCard::FRAME_RATE,
        })
    }

    fn request_keyframe(&mut self) -> bool {
        self.since_keyframe = TestPicture::KEYFRAME_EVERY;
        true
    }
}

/// Frames of a file, all in memory.
#[derive(Debug)]
pub struct FileSource {
    codec: Codec,
    about: String,
    samples: Vec<Sample>,
    at: usize,
    repeat: bool,
}

impl Source for FileSource {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn describe(&self) -> String {
        self.about.clone()
    }

    fn next_sample(&mut self) -> Option<Sample> {
        if self.at == self.samples.len() && self.repeat {
            self.at = 0;
        }
        let sample = self.samples.get(self.at).cloned();
        self.at += 1;
        sample
    }
}

/// An endless tone of 440 Hz: one second of Opus whose end fits its beginning.
fn tone() -> FileSource {
    let samples = ogg_samples(include_bytes!("assets/tone.ogg")).expect("the asset is an Ogg file of Opus");
    FileSource {
        codec: Codec::Opus,
        about: "tone of 440 Hz".to_owned(),
        samples,
        at: 0,
        repeat: true,
    }
}

fn open_file(path: &Path, repeat: bool) -> Result<FileSource, SourceError> {
    let bytes = std::fs::read(path).map_err(|error| SourceError::Read {
        path: path.to_owned(),
        error,
    })?;
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let parsed = match extension.as_str() {
        "ivf" => ivf_samples(&bytes),
        "h264" | "264" => h264_samples(&bytes).map(|samples| (Codec::H264, samples)),
        "ogg" | "opus" => ogg_samples(&bytes).map(|samples| (Codec::Opus, samples)),
        _ => return Err(SourceError::Kind { path: path.to_owned() }),
    };
    let format = |why: String| SourceError::Format {
        path: path.to_owned(),
        why,
    };
    let (codec, samples) = parsed.map_err(format)?;
    if samples.is_empty() {
        return Err(format("it holds no frames".to_owned()));
    }
    let about = format!(
        "{} ({codec}, {} frames{})",
        path.display(),
        samples.len(),
        if repeat { ", repeated" } else { "" }
    );
    Ok(FileSource {
        codec,
        about,
        samples,
        at: 0,
        repeat,
    })
}

/// IVF: a header of 32 bytes, then 12 bytes of size and timestamp before each frame.
fn ivf_samples(bytes: &[u8]) -> Result<(Codec, Vec<Sample>), String> {
    let header: &[u8; 32] = bytes
        .first_chunk()
        .filter(|header| header.starts_with(b"DKIF"))
        .ok_or("it is not an IVF file")?;
    let codec = match &header[8..12] {
        b"VP80" => Codec::Vp8,
        b"VP90" => Codec::Vp9,
        b"AV01" => Codec::Av1,
        other => {
            return Err(format!(
                "it holds {}; VP80, VP90 and AV01 can be sent",
                String::from_utf8_lossy(other)
            ));
        }
    };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (rate, scale) = (word(16), word(20));
    if rate == 0 || scale == 0 {
        return Err("its frame rate is 0".to_owned());
    }
    let tick = f64::from(scale) / f64::from(rate);
    let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let mut rest = bytes.get(start..).ok_or("its header is longer than the file")?;
    let mut frames: Vec<(u64, Bytes)> = Vec::new();
    while let Some(head) = rest.first_chunk::<12>() {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut time = [0; 8];
        time.copy_from_slice(&head[4..]);
        let Some(frame) = rest[12..].get(..len) else {
            return Err(format!("frame {} is cut off", frames.len() + 1));
        };
        frames.push((u64::from_le_bytes(time), Bytes::copy_from_slice(frame)));
        rest = &rest[12 + len..];
    }
    let next_times = frames.iter().skip(1).map(|(time, _)| *time).collect::<Vec<_>>();
    let samples = frames.into_iter().enumerate().map(|(number, (time, data))| {
        let ticks = next_times
            .get(number)
            .map_or(1, |next| next.saturating_sub(time))
            .clamp(1, 1_000_000);
        Sample {
            data,
            duration: Duration::from_secs_f64((ticks as f64 * tick).clamp(0.001, 10.0)),
        }
    });
    Ok((codec, samples.collect()))
}

/// H264 Annex B: NAL units between start codes, grouped into pictures. The format has no timing; 30 pictures per second are assumed.
fn h264_samples(bytes: &[u8]) -> Result<Vec<Sample>, String> {
    let units = annex_b_units(bytes);
    if units.is_empty() {
        return Err("it has no H264 start code".to_owned());
    }
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    let mut has_slice = true;
    for unit in units {
        let kind = unit.first().map_or(0, |head| head & 0x1f);
        let slice = matches!(kind, 1 | 5);
        // The first slice of a picture has first_mb_in_slice 0, which is a single 1 bit.
        let first_slice = slice && unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if (has_slice && (!slice || first_slice)) || pictures.is_empty() {
            pictures.push(Vec::new());
            has_slice = false;
        }
        if let Some(picture) = pictures.last_mut() {
            picture.extend([0, 0, 0, 1]);
            picture.extend(unit);
        }
        has_slice |= slice;
    }
    let duration = Duration::from_secs(1) / 30;
    Ok(pictures
        .into_iter()
        .map(|picture| Sample {
            data: picture.into(),
            duration,
        })
        .collect())
}

fn annex_b_units(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = bytes
        .windows(3)
        .enumerate()
        .filter(|(_, code)| *code == [0, 0, 1])
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| {
        let unit = &bytes[start + 3..end];
        let trailing = unit.iter().rev().take_while(|&&byte| byte == 0).count();
        &unit[..unit.len() - trailing]
    });
    units.filter(|unit| !unit.is_empty()).collect()
}

/// Packets of an Ogg file of Opus, without its two header packets.
fn ogg_samples(bytes: &[u8]) -> Result<Vec<Sample>, String> {
    let mut reader = ogg::PacketReader::new(std::io::Cursor::new(bytes));
    let mut packets = VecDeque::new();
    loop {
        match reader.read_packet() {
            Ok(Some(packet)) => packets.push_back(packet.data),
            Ok(None) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if !packets.pop_front().is_some_and(|head| head.starts_with(b"OpusHead")) {
        return Err("it is not an Ogg file of Opus".to_owned());
    }
    packets.pop_front();
    let samples = packets.into_iter().map(|data| Sample {
        duration: opus_duration(&data),
        data: data.into(),
    });
    Ok(samples.collect())
}

/// Names of the test card's layers, the smallest first, as clients name them that have quarter, half and full size.
const TEST_RIDS: [&str; 4] = ["q", "h", "f", "u"];

/// Duration of an Opus packet by its configuration and number of frames, at most 120 ms (RFC 6716 section 3.1).
fn opus_duration(packet: &[u8]) -> Duration {
    let Some(&toc) = packet.first() else {
        return Duration::from_millis(20);
    };
    let frame_us = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config % 2)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| u64::from(count & 0x3f).max(1)),
    };
    Duration::from_micros((frame_us * frames).min(120_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tone_is_one_second_of_opus() {
        let tone = tone();
        let total: Duration = tone.samples.iter().map(|sample| sample.duration).sum();
        assert!(
            (Duration::from_millis(980)..=Duration::from_millis(1_060)).contains(&total),
            "{total:?}"
        );
    }

    #[test]
    fn a_keyframe_comes_when_requested() {
        let mut picture = TestPicture::default();
        let keyframe = |sample: Option<Sample>| sample.unwrap().data[0] & 1 == 0;
        assert!(keyframe(picture.next_sample()));
        assert!(!keyframe(picture.next_sample()));
        assert!(picture.request_keyframe());
        assert!(keyframe(picture.next_sample()));
    }

    #[test]
    fn layers_of_the_test_card_have_the_same_keyframes_and_other_sizes() {
        let mut layered = LayeredSource::test_card(3);
        assert_eq!(layered.rids().collect::<Vec<_>>(), ["q", "h", "f"]);
        for number in 0..125 {
            for ((_, source), width) in layered.layers.iter_mut().zip([640_u16, 1_280, 1_920]) {
                let data = source.next_sample().unwrap().data;
                assert_eq!(data[0] & 1 == 0, number % 60 == 0, "{number}");
                if number == 0 {
                    assert_eq!(data[6..8], width.to_le_bytes());
                }
            }
        }
        assert_eq!(LayeredSource::test_card(1).rids().count(), 0);
        assert!(
            LayeredSource::test_card(2)
                .describe()
                .contains("h: test card, 1280x720")
        );
    }

    #[test]
    fn layers_from_files_have_names_and_one_codec() {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/media/clip.ivf");
        let file = |rid: &str, path: &str| format!("{rid}={path}").parse::<LayerFile>().unwrap();
        let open = |files: &[LayerFile]| open_layers(files, false).map(|source| source.rids().collect::<Vec<_>>());
        assert_eq!(open(&[file("f", clip), file("h", clip)]).unwrap(), ["f", "h"]);
        let tone = concat!(env!("CARGO_MANIFEST_DIR"), "/src/assets/tone.ogg");
        for (files, why) in [
            (vec![file("f", clip)], "two to four"),
            (vec![file("f", clip), file("f", clip)], "same name"),
            (vec![file("f", clip), file("h", tone)], "same codec"),
        ] {
            let error = open(&files).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        for text in ["", "clip.ivf", "=clip.ivf", "f=", "a b=clip.ivf"] {
            assert!(text.parse::<LayerFile>().unwrap_err().contains("h=mid.ivf"), "{text}");
        }
        let files = ["clip.ivf".to_owned()];
        assert!(open_layered(&files, false, 2).is_err());
    }

    #[test]
    fn h264_units_are_grouped_into_pictures() {
        let bytes = [
            &[0, 0, 0, 1, 0x67, 1][..],
            &[0, 0, 1, 0x68, 2],
            &[0, 0, 1, 0x65, 0x80, 3],
            &[0, 0, 1, 0x65, 0x40, 4],
            &[0, 0, 1, 0x41, 0x80, 5, 0],
        ]
        .concat();
        let pictures = h264_samples(&bytes).unwrap();
        assert_eq!(pictures.len(), 2);
        assert_eq!(pictures[1].data[..], [0, 0, 0, 1, 0x41, 0x80, 5]);
    }

    #[test]
    fn broken_files_are_rejected_with_a_reason() {
        assert!(ivf_samples(b"DKIF").is_err());
        assert!(ivf_samples(&[0; 100]).is_err());
        let mut ivf = b"DKIF\0\0\x20\0VP80\x80\x02\x68\x01\x1e\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        assert_eq!(ivf_samples(&ivf), Ok((Codec::Vp8, vec![])));
        ivf.extend([0xff; 12]);
        assert_eq!(ivf_samples(&ivf), Err("frame 1 is cut off".to_owned()));
        assert!(h264_samples(b"nothing").is_err());
        assert!(ogg_samples(b"nothing").is_err() && ogg_samples(b"OggS").is_err());
        assert!(matches!(open(&["x.mp4".into()], false), Err(SourceError::Read { .. })));
        assert!(matches!(
            open(&["test".into(), "test".into()], false),
            Err(SourceError::Twice(_))
        ));
    }

    #[test]
    fn opus_packets_have_a_duration() {
        for (packet, ms) in [
            (&[0xfc_u8][..], 20),
            (&[0xe0], 2),
            (&[0x08], 20),
            (&[0xfd], 40),
            (&[0xff, 3], 60),
            (&[], 20),
        ] {
            assert_eq!(opus_duration(packet).as_millis(), ms, "{packet:x?}");
        }
    }
}
