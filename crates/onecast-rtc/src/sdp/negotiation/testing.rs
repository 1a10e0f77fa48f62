//! A client with any number of lines that offers and answers as a browser does, for the tests of this crate and of those above it.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::net::SocketAddr;

use crate::rtp::{Codec, Kind};
use crate::sdp::NegotiationParams;
use crate::{Fingerprint, IceCredentials};

/// What the tests read in a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub kind: String,
    pub port: u16,
    pub mid: String,
    pub direction: String,
    pub stream: String,
    /// Number and encoding.
    pub formats: Vec<(u8, String)>,
    /// Lines of formats, feedback and extensions, as they stand.
    pub details: Vec<String>,
    /// Id and URI.
    pub extensions: Vec<(u8, String)>,
}

pub fn sections(sdp: &str) -> Vec<Section> {
    let mut parts = sdp.split("\r\nm=");
    parts.next();
    parts.map(read).collect()
}

fn read(part: &str) -> Section {
    let value = |name: &str| {
        let mut values = part.lines().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap_or_default().to_owned()
    };
    let words: Vec<&str> = part.lines().next().unwrap().split(' ').collect();
    let names = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let is_detail = |line: &&str| {
        ["a=rtpmap", "a=fmtp", "a=rtcp-fb", "a=extmap:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    Section {
        kind: words[0].to_owned(),
        port: words[1].parse().unwrap(),
        mid: value("a=mid:"),
        direction: names
            .iter()
            .find(|name| part.contains(&format!("\r\na={name}")))
            .unwrap()
            .to_string(),
        stream: value("a=msid:").split(' ').next().unwrap().to_owned(),
        formats: numbered(part, "a=rtpmap:"),
        details: part.lines().filter(is_detail).map(str::to_owned).collect(),
        extensions: numbered(part, "a=extmap:"),
    }
}

fn numbered(part: &str, name: &str) -> Vec<(u8, String)> {
    let lines = part.lines().filter_map(|line| line.strip_prefix(name)?.split_once(' '));
    lines
        .map(|(number, text)| (number.parse().unwrap(), text.to_owned()))
        .collect()
}

/// The client.
#[derive(Debug, Clone)]
pub struct Client {
    pub lines: Vec<Line>,
    pub setup: &'static str,
    /// Streams whose video it rejects with port 0.
    pub rejects: Vec<u32>,
    /// Payload types of VP8, H264 and Opus.
    pub numbers: [u8; 3],
    pub next_mid: u32,
}

/// One m-line as the client sees it.
#[derive(Debug, Clone)]
pub struct Line {
    pub mid: String,
    pub kind: Kind,
    pub stream: String,
    pub sends: bool,
    pub takes: bool,
    pub is_stopped: bool,
    /// What it lists; `None` for all that it can.
    pub details: Option<(Vec<u8>, Vec<String>)>,
}

impl Default for Client {
    fn default() -> Client {
        Client {
            lines: Vec::new(),
            setup: "actpass",
            rejects: Vec::new(),
            numbers: [96, 102, 111],
            next_mid: 0,
        }
    }
}

impl Line {
    pub fn sending(mid: &str, kind: Kind, stream: &str) -> Line {
        Line {
            mid: mid.to_owned(),
            kind,
            stream: stream.to_owned(),
            sends: true,
            takes: false,
            is_stopped: false,
            details: None,
        }
    }
}

impl Client {
    pub fn add(&mut self, kind: Kind, stream: &str) {
        let mid = self.next_mid.to_string();
        self.next_mid += 1;
        self.lines.push(Line::sending(&mid, kind, stream));
    }

    pub fn add_place(&mut self, kind: Kind) {
        self.add(kind, "");
        let line = self.lines.last_mut().unwrap();
        (line.sends, line.takes) = (false, true);
    }

    pub fn offer(&self) -> String {
        let lines = self.lines.iter();
        self.describe(lines.map(|line| (line, (line.sends, line.takes))).collect(), self.setup)
    }

    pub fn take_answer(&mut self, answer: &str) {
        let all = sections(answer);
        assert_eq!(all.len(), self.lines.len(), "{answer}");
        for (line, section) in self.lines.iter_mut().zip(all) {
            assert_eq!(
                (&line.mid, line.is_stopped),
                (&section.mid, section.port == 0),
                "{answer}"
            );
            let direction = &*section.direction;
            assert!(line.takes || !matches!(direction, "sendonly" | "sendrecv"), "{answer}");
            assert_eq!(
                line.sends && !line.is_stopped,
                matches!(direction, "recvonly" | "sendrecv"),
                "{answer}"
            );
        }
    }

    /// Takes our offer, with lines it did not know, and answers.
    pub fn answer(&mut self, offer: &str) -> String {
        let all = sections(offer);
        for (index, section) in all.iter().enumerate() {
            self.take_line(index, section);
        }
        let mut flows = Vec::new();
        for (line, section) in self.lines.iter().zip(&all) {
            let direction = &*section.direction;
            flows.push((
                line.sends && matches!(direction, "recvonly" | "sendrecv"),
                line.takes && matches!(direction, "sendonly" | "sendrecv"),
            ));
        }
        self.describe(self.lines.iter().zip(flows).collect(), "active")
    }

    fn take_line(&mut self, index: usize, section: &Section) {
        if index == self.lines.len() {
            let kind = if section.kind == "audio" {
                Kind::Audio
            } else {
                Kind::Video
            };
            let mut line = Line::sending(&section.mid, kind, "late");
            (line.sends, line.takes) = (false, true);
            self.lines.push(line);
        }
        let rejects = self
            .rejects
            .iter()
            .any(|stream| section.stream == format!("m{stream}.0"));
        let line = &mut self.lines[index];
        assert_eq!(line.mid, section.mid);
        line.is_stopped |= rejects || section.port == 0;
        if section.mid.starts_with('s') {
            let numbers = section.formats.iter().map(|(number, _)| *number).collect();
            line.details = Some((numbers, section.details.clone()));
        }
    }

    fn describe(&self, lines: Vec<(&Line, (bool, bool))>, setup: &str) -> String {
        let alive = lines.iter().filter(|(line, _)| !line.is_stopped);
        let mids: Vec<&str> = alive.map(|(line, _)| &*line.mid).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        for (line, (sends, takes)) in lines {
            let (numbers, details) = self.details(line);
            let numbers: Vec<String> = numbers.iter().map(u8::to_string).collect();
            let (kind, mid) = (line.kind, &line.mid);
            if line.is_stopped {
                sdp += &format!("m={kind} 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\na=inactive\r\n");
                continue;
            }
            let direction = match (sends, takes) {
                (true, true) => "sendrecv",
                (true, false) => "sendonly",
                (false, true) => "recvonly",
                (false, false) => "inactive",
            };
            sdp += &format!(
                "m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{mid}\r\na={direction}\r\n",
                numbers.join(" ")
            );
            sdp +=
                &format!("a=ice-ufrag:them\r\na=ice-pwd:0123456789012345678901\r\na=setup:{setup}\r\na=rtcp-mux\r\n");
            sdp += &format!("a=fingerprint:sha-256 {}\r\n", ["BB"; 32].join(":"));
            if sends {
                sdp += &format!(
                    "a=msid:{} track\r\n",
                    if line.stream.is_empty() { "-" } else { &line.stream }
                );
            }
            for detail in details {
                sdp += &format!("{detail}\r\n");
            }
        }
        sdp
    }

    fn details(&self, line: &Line) -> (Vec<u8>, Vec<String>) {
        if let Some(details) = &line.details {
            return details.clone();
        }
        let [vp8, h264, opus] = self.numbers;
        let mut details = vec![
            "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time".to_owned(),
            "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01".to_owned(),
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid".to_owned(),
        ];
        match line.kind {
            Kind::Audio => {
                details.push("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level".to_owned());
                details.push(format!("a=rtpmap:{opus} {}/48000/2", Codec::Opus.encoding_name()));
                (vec![opus], details)
            }
            Kind::Video => {
                for (number, name) in [(vp8, "VP8"), (h264, "H264")] {
                    details.push(format!("a=rtpmap:{number} {name}/90000"));
                    details.push(format!("a=rtpmap:{} rtx/90000", number + 1));
                    details.push(format!("a=fmtp:{} apt={number}", number + 1));
                    details.extend(["nack", "nack pli", "transport-cc"].map(|fb| format!("a=rtcp-fb:{number} {fb}")));
                }
                (vec![vp8, vp8 + 1, h264, h264 + 1], details)
            }
        }
    }
}

/// The server's side of the connection in the tests.
pub fn params() -> NegotiationParams {
    let candidates: [SocketAddr; 1] = ["[::ffff:192.0.2.7]:8080".parse().unwrap()];
    NegotiationParams {
        ice: IceCredentials {
            ufrag: "ours".into(),
            pwd: "ourpasswordisalittlelong".into(),
        },
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: candidates.to_vec(),
        session_id: 42,
    }
}
