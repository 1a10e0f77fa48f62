//! Media sources of a publisher: the test card, a tone, or files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::test_card::TestCard;
use onecast_rtc::rtp::{Codec, Kind};

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
}

/// Opens the sources of `--source`: `test` is test card and tone. At most one of each kind.
///
/// # Errors
/// When a file cannot be used, or two are of one kind.
pub fn open(names: &[String], repeat: bool) -> Result<Vec<Box<dyn Source>>, SourceError> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for name in names {
        if name == "test" {
            sources.push(Box::new(TestPicture::default()));
            sources.push(Box::new(tone()));
        } else {
            sources.push(Box::new(open_file(Path::new(name), repeat)?));
        }
    }
    for kind in [Kind::Audio, Kind::Video] {
        if sources.iter().filter(|source| source.codec().kind() == kind).count() > 1 {
            return Err(SourceError::Twice(kind));
        }
    }
    Ok(sources)
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
}

impl Default for TestPicture {
    fn default() -> TestPicture {
        TestPicture {
            card: TestCard::new(),
            since_keyframe: TestPicture::KEYFRAME_EVERY,
        }
    }
}

impl Source for TestPicture {
    fn codec(&self) -> Codec {
        Codec::Vp8
    }

    fn describe(&self) -> String {
        format!(
            "test card, {}x{}, {} frames/s",
            TestCard::WIDTH,
            TestCard::HEIGHT,
            TestCard::FRAME_RATE
        )
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
