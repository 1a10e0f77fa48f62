//! The test card: as a real decoder sees it, and on a machine without a route.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};

use onecast_clients::test_card::{Colour, TestCard};
use onecast_testing::requirements::{FFMPEG, NETWORK_NAMESPACES};
use onecast_testing::{Suite, tests};

fn main() -> ExitCode {
    Suite::new([
        tests![decoder_reproduces_the_picture_exactly].needs(&FFMPEG),
        tests![frame_number_can_be_read_from_the_picture],
        tests![test_card_goes_live_without_a_multicast_route].needs(&NETWORK_NAMESPACES),
    ])
    .run()
}

/// Wraps frames in IVF, decodes them with ffmpeg, and returns planar YUV 4:2:0, one buffer a frame.
fn decode(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut ivf = b"DKIF\0\0\x20\0VP80".to_vec();
    ivf.extend(TestCard::WIDTH.to_le_bytes());
    ivf.extend(TestCard::HEIGHT.to_le_bytes());
    for number in [30u32, 1, frames.len() as u32, 0] {
        ivf.extend(number.to_le_bytes());
    }
    for (number, frame) in frames.iter().enumerate() {
        ivf.extend((frame.len() as u32).to_le_bytes());
        ivf.extend((number as u64).to_le_bytes());
        ivf.extend(frame);
    }
    let mut ffmpeg = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-f",
            "ivf",
            "-i",
            "-",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-fps_mode",
            "passthrough",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ffmpeg.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&ivf));
    let output = ffmpeg.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let size = usize::from(TestCard::WIDTH) * usize::from(TestCard::HEIGHT) * 3 / 2;
    output.stdout.chunks(size).map(<[u8]>::to_vec).collect()
}

/// The picture that a mosaic stands for.
fn expected(picture: &[Colour]) -> Vec<u8> {
    let (width, height) = (usize::from(TestCard::WIDTH), usize::from(TestCard::HEIGHT));
    let columns = width / 16;
    let plane = |plane: usize, scale: usize| {
        (0..height / scale).flat_map(move |y| {
            (0..width / scale)
                .map(move |x| (y * scale / 16) * columns + x * scale / 16)
                .map(move |at| (at, plane))
        })
    };
    let planes = plane(0, 1).chain(plane(1, 2)).chain(plane(2, 2));
    planes.map(|(at, plane)| picture[at][plane]).collect()
}

fn decoder_reproduces_the_picture_exactly() {
    let mut card = TestCard::new();
    let mut pictures = Vec::new();
    let mut frames = Vec::new();
    for number in 0..90 {
        pictures.push(card.picture());
        frames.push(card.next_frame(number % 40 == 0));
    }
    assert!(
        frames[1].len() < 400,
        "an inter frame costs only what changed: {} bytes",
        frames[1].len()
    );
    let decoded = decode(&frames);
    assert_eq!(decoded.len(), frames.len(), "every frame decodes");
    for (number, (decoded, picture)) in decoded.iter().zip(&pictures).enumerate() {
        assert!(*decoded == expected(picture), "frame {number} differs");
    }
}

fn frame_number_can_be_read_from_the_picture() {
    let mut card = TestCard::new();
    for _ in 0..1_000 {
        card.next_frame(false);
    }
    let picture = card.picture();
    let row = TestCard::NUMBER_ROW * usize::from(TestCard::WIDTH) / 16 + TestCard::NUMBER_COLUMN;
    let number = picture[row..row + 32]
        .iter()
        .fold(0u32, |number, colour| (number << 1) | u32::from(colour[0] > 128));
    assert_eq!(number, 1_000);
}

fn test_card_goes_live_without_a_multicast_route() {
    let server = format!(
        "ip link set lo up && exec {} --http 127.0.0.1:0 --udp 127.0.0.1:0 --demo --shards 1",
        env!("CARGO_BIN_EXE_onecast")
    );
    let mut server = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &server])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Server)
        .unwrap();
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("broadcaster connected") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
        assert!(!line.contains("the demo cannot publish"), "{line}");
    }
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
