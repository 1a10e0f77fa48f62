//! Source files for `onecast publish`, encoded with ffmpeg and checked: a keyframe every 10 s and none in between.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onecast_clients::source;

use super::picture::Picture;

/// Frames from one keyframe to the next: 10 s.
pub(crate) const GROUP: usize = 300;

/// A codec by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Vp8,
    Vp9,
    H264,
    Av1,
}

impl Codec {
    /// Reads a name of `--codecs`.
    pub(crate) fn named(name: &str) -> Result<Codec> {
        let all = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
        let found = all.into_iter().find(|codec| codec.name() == name);
        found.with_context(|| format!("--codecs: {name} is none of vp8, vp9, h264, av1"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Vp8 => "vp8",
            Codec::Vp9 => "vp9",
            Codec::H264 => "h264",
            Codec::Av1 => "av1",
        }
    }

    /// Fast settings without delayed or reordered frames, like live encoders.
    fn options(self) -> &'static str {
        match self {
            Codec::Vp8 => "-c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 -f ivf",
            Codec::Vp9 => {
                "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -lag-in-frames 0 -auto-alt-ref 0 -f ivf"
            }
            Codec::H264 => {
                "-c:v libx264 -preset veryfast -tune zerolatency -profile:v baseline -bf 0 -sc_threshold 0 \
                 -x264-params repeat-headers=1:scenecut=0:open-gop=0 -f h264"
            }
            Codec::Av1 => "-c:v libaom-av1 -usage realtime -cpu-used 8 -row-mt 1 -lag-in-frames 0 -f ivf",
        }
    }
}

/// Height of a picture of 16:9, with its bit rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) height: usize,
    kbit: usize,
}

impl Size {
    /// Reads a height of `--sizes`.
    pub(crate) fn named(name: &str) -> Result<Size> {
        match name {
            "360" => Ok(Size {
                height: 360,
                kbit: 1_200,
            }),
            "720" => Ok(Size {
                height: 720,
                kbit: 2_500,
            }),
            _ => bail!("--sizes: {name} is neither 360 nor 720"),
        }
    }
}

/// Encodes the video of a codec and size; blocks until it is complete.
pub(crate) fn video(folder: &Path, codec: Codec, size: Size) -> Result<PathBuf> {
    let extension = if codec == Codec::H264 { "h264" } else { "ivf" };
    let path = folder.join(format!("{}-{}.{extension}", codec.name(), size.height));
    let (width, height) = (size.height * 16 / 9, size.height);
    let input = format!(
        "-f rawvideo -pix_fmt yuv420p -s {width}x{height} -r {}",
        Picture::FRAME_RATE
    );
    let rate = format!("-b:v {0}k -maxrate {0}k -bufsize {0}k", size.kbit);
    let group = format!("-g {GROUP} -keyint_min {GROUP} -force_key_frames expr:eq(mod(n,{GROUP}),0)");
    let mut picture = Picture::new(width, height);
    let frames = (0..Picture::FRAMES).map(|number| picture.frame(number));
    ffmpeg(&input, &format!("{rate} {group} {}", codec.options()), &path, frames)?;
    check_keyframes(&path)?;
    check_length(&path)?;
    Ok(path)
}

/// Encodes the audio: a short beep every second.
pub(crate) fn sound(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("beeps.ogg");
    let seconds = Picture::FRAMES / Picture::FRAME_RATE;
    // Compensates for the encoder's look-ahead before the first sample.
    let samples = (LOOK_AHEAD..seconds * SOUND_RATE).flat_map(|at| {
        let since = at % SOUND_RATE;
        let angle = since as f32 * BEEP_HZ * std::f32::consts::TAU / SOUND_RATE as f32;
        let loud = if since < SOUND_RATE * 6 / 100 { 16_000.0 } else { 0.0 };
        ((angle.sin() * loud) as i16).to_le_bytes()
    });
    let output = "-c:a libopus -b:a 48k -frame_duration 20 -f ogg";
    let input = format!("-f s16le -ar {SOUND_RATE} -ac 1");
    ffmpeg(&input, output, &path, [samples.collect()].into_iter())?;
    check_length(&path)?;
    Ok(path)
}

fn ffmpeg(input: &str, output: &str, path: &Path, parts: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let mut child = Command::new("ffmpeg")
        .args("-hide_banner -loglevel error -nostdin -y".split_ascii_whitespace())
        .args(input.split_ascii_whitespace())
        .args(["-i", "pipe:0"])
        .args(output.split_ascii_whitespace())
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("ffmpeg does not start")?;
    let mut pipe = child.stdin.take().context("ffmpeg has no stdin")?;
    // If ffmpeg exits early, its status says why; the write error would only be "broken pipe".
    for part in parts {
        if pipe.write_all(&part).is_err() {
            break;
        }
    }
    drop(pipe);
    let status = child.wait()?;
    ensure!(status.success(), "ffmpeg could not make {}: {status}", path.display());
    Ok(())
}

fn check_keyframes(path: &Path) -> Result<()> {
    let output = Command::new("ffprobe")
        .args("-v error -select_streams v -show_entries packet=flags -of csv=p=0".split_ascii_whitespace())
        .arg(path)
        .output()
        .context("ffprobe does not start")?;
    let flags = String::from_utf8_lossy(&output.stdout);
    let flags: Vec<&str> = flags.lines().filter(|line| !line.is_empty()).collect();
    let keyframes: Vec<usize> = (0..flags.len()).filter(|&at| flags[at].starts_with('K')).collect();
    let wanted: Vec<usize> = (0..Picture::FRAMES).step_by(GROUP).collect();
    ensure!(
        keyframes == wanted && flags.len() == Picture::FRAMES,
        "{}: {} frames, keyframes at {keyframes:?}",
        path.display(),
        flags.len()
    );
    Ok(())
}

/// Video and audio must be equally long, or they drift apart with each repetition.
fn check_length(path: &Path) -> Result<()> {
    let name = path.to_str().context("the folder has a plain name")?.to_owned();
    let mut length = Duration::ZERO;
    for source in &mut source::open(&[name], false)? {
        while let Some(sample) = source.next_sample() {
            length += sample.duration;
        }
    }
    let wanted = Duration::from_secs((Picture::FRAMES / Picture::FRAME_RATE) as u64);
    ensure!(
        length.abs_diff(wanted) < Duration::from_millis(1),
        "{} is {length:?} long, not {wanted:?}",
        path.display()
    );
    Ok(())
}

const SOUND_RATE: usize = 48_000;
/// Pre-skip of libopus (6.5 ms). RTP has no field for it, so players play it.
const LOOK_AHEAD: usize = 312;
const BEEP_HZ: f32 = 1_000.0;
