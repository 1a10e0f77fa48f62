//! The m-lines of a member as its browser has them: what it offers, and what it answers.

use onecast_rtc::IceCredentials;
use onecast_rtc::rtp::Kind;

/// What a client reads in a description, of one m-line.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    kind: Kind,
    mid: String,
    direction: &'static str,
    numbers: Vec<String>,
    /// Lines of formats, feedback and extensions, as they stand.
    details: Vec<String>,
    /// Media, and retransmissions.
    pub(crate) ssrcs: Vec<u32>,
}

impl Section {
    /// The server sends on it.
    pub(crate) fn sends(&self) -> bool {
        matches!(self.direction, "sendonly" | "sendrecv")
    }

    fn receives(&self) -> bool {
        matches!(self.direction, "recvonly" | "sendrecv")
    }

    pub(crate) fn is_video(&self) -> bool {
        self.kind == Kind::Video
    }
}

pub(crate) fn sections(sdp: &str) -> Vec<Section> {
    sdp.split("\r\nm=").skip(1).map(section).collect()
}

fn section(part: &str) -> Section {
    let mut lines = part.lines();
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let values = |name: &'static str| part.lines().filter_map(move |line| line.strip_prefix(name));
    let is_detail = |line: &&str| {
        let names = ["a=rtpmap", "a=fmtp", "a=rtcp-fb", "a=extmap:"];
        names.iter().any(|name| line.starts_with(name))
    };
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let says = |direction: &str| values("a=").any(|value| value == direction);
    let ssrcs = values("a=ssrc:").map(|value| value.split(' ').next().unwrap().parse().unwrap());
    let mut ssrcs: Vec<u32> = ssrcs.collect();
    ssrcs.dedup();
    assert_ne!(words[1], "0", "no client here rejects a line: {part}");
    Section {
        kind: if words[0] == "audio" { Kind::Audio } else { Kind::Video },
        mid: values("a=mid:").next().unwrap().to_owned(),
        direction: directions.into_iter().find(|direction| says(direction)).unwrap(),
        numbers: words[3..].iter().map(|number| (*number).to_owned()).collect(),
        details: part.lines().filter(is_detail).map(str::to_owned).collect(),
        ssrcs,
    }
}

/// A camera, a microphone or a screen.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) kind: Kind,
    stream: &'static str,
    /// What its user wants.
    pub(crate) on: bool,
    /// Its place among the lines, once it has one.
    line: Option<usize>,
    /// What is agreed.
    pub(crate) sends: bool,
}

#[derive(Debug, Clone)]
struct Line {
    mid: String,
    kind: Kind,
    /// Of a line of the server's, as that offered it last.
    listed: Option<(Vec<String>, Vec<String>)>,
}

/// See the module.
pub(crate) struct Calls {
    pub(crate) ice: IceCredentials,
    fingerprint: String,
    active: bool,
    lines: Vec<Line>,
    pub(crate) senders: Vec<Sender>,
    next_mid: u32,
    version: u32,
    /// How many lines there were before the offer that waits.
    before: Option<usize>,
}

impl Calls {
    pub(crate) fn new(ice: IceCredentials, fingerprint: String, active: bool) -> Calls {
        let sender = |kind, stream, on| Sender {
            kind,
            stream,
            on,
            line: None,
            sends: false,
        };
        Calls {
            ice,
            fingerprint,
            active,
            lines: Vec::new(),
            senders: vec![
                sender(Kind::Audio, "camera", true),
                sender(Kind::Video, "camera", true),
                sender(Kind::Video, "screen", false),
            ],
            next_mid: 0,
            version: 0,
            before: None,
        }
    }

    pub(crate) const MICROPHONE: usize = 0;
    pub(crate) const CAMERA: usize = 1;
    pub(crate) const SCREEN: usize = 2;

    /// The line of a sender.
    pub(crate) fn mid(&self, sender: usize) -> Option<&str> {
        self.senders[sender].line.map(|line| &*self.lines[line].mid)
    }

    /// What its user wants is not what is agreed.
    pub(crate) fn has_news(&self) -> bool {
        self.senders.iter().any(|sender| sender.on != sender.sends)
    }

    /// How many lines the server has appended.
    pub(crate) fn of_server(&self) -> usize {
        self.lines.iter().filter(|line| line.mid.starts_with('s')).count()
    }

    pub(crate) fn offer(&mut self) -> String {
        self.before = Some(self.lines.len());
        for sender in self
            .senders
            .iter_mut()
            .filter(|sender| sender.on && sender.line.is_none())
        {
            sender.line = Some(self.lines.len());
            self.lines.push(Line {
                mid: self.next_mid.to_string(),
                kind: sender.kind,
                listed: None,
            });
            self.next_mid += 1;
        }
        let direction = |place: usize| match self.sender_at(place) {
            Some(sender) if sender.on => "sendonly",
            Some(_) => "inactive",
            None => "recvonly",
        };
        let directions = (0..self.lines.len()).map(direction).collect::<Vec<_>>();
        self.describe(&directions, if self.active { "actpass" } else { "passive" })
    }

    /// The offer was not taken. Its lines are none; the next offer of the server may bring them back.
    pub(crate) fn roll_back(&mut self) {
        let before = self.before.take().unwrap();
        self.lines.truncate(before);
        for sender in &mut self.senders {
            sender.line = sender.line.filter(|line| *line < before);
        }
    }

    pub(crate) fn take_answer(&mut self, answer: &str) {
        let all = sections(answer);
        assert_eq!(all.len(), self.lines.len(), "{answer}");
        self.before = None;
        for (place, (line, section)) in self.lines.iter().zip(&all).enumerate() {
            assert_eq!(line.mid, section.mid, "{answer}");
            if let Some(sender) = self.senders.iter_mut().find(|sender| sender.line == Some(place)) {
                assert!(!section.sends(), "the client's line is its own: {answer}");
                sender.sends = section.receives();
            }
        }
    }

    /// Takes an offer of the server, with lines that it did not know, and answers.
    pub(crate) fn answer(&mut self, offer: &[Section]) -> String {
        assert!(self.before.is_none(), "not while its own offer waits");
        assert!(offer.len() >= self.lines.len(), "lines are gone");
        for (place, section) in offer.iter().enumerate() {
            self.take_line(place, section);
        }
        let direction = |(place, section): (usize, &Section)| match self.sender_at(place) {
            Some(sender) if sender.on && section.receives() => "sendonly",
            None if section.sends() => "recvonly",
            _ => "inactive",
        };
        let directions = offer.iter().enumerate().map(direction).collect::<Vec<_>>();
        for sender in &mut self.senders {
            sender.sends = sender.line.is_some_and(|line| directions[line] == "sendonly");
        }
        self.describe(&directions, if self.active { "active" } else { "passive" })
    }

    fn take_line(&mut self, place: usize, section: &Section) {
        if place == self.lines.len() {
            self.lines.push(Line {
                mid: section.mid.clone(),
                kind: section.kind,
                listed: None,
            });
            if !section.mid.starts_with('s') {
                // A line of an offer that was taken although its client was not told so (RFC 9429 section 5.10).
                let mut free = self.senders.iter_mut().filter(|sender| sender.line.is_none());
                let sender = free.find(|sender| sender.kind == section.kind).unwrap();
                sender.line = Some(place);
            }
        }
        let line = &mut self.lines[place];
        assert_eq!((&line.mid, line.kind), (&section.mid, section.kind), "mids are stable");
        if section.mid.starts_with('s') {
            line.listed = Some((section.numbers.clone(), section.details.clone()));
        } else {
            assert!(!section.sends(), "the client's line is its own");
        }
    }

    fn sender_at(&self, place: usize) -> Option<&Sender> {
        self.senders.iter().find(|sender| sender.line == Some(place))
    }

    fn describe(&mut self, directions: &[&str], setup: &str) -> String {
        self.version += 1;
        let mids: Vec<&str> = self.lines.iter().map(|line| &*line.mid).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            self.version,
            mids.join(" ")
        );
        let (ice, fingerprint) = (&self.ice, &self.fingerprint);
        for (place, (line, direction)) in self.lines.iter().zip(directions).enumerate() {
            let (numbers, details) = line.listed.clone().unwrap_or_else(|| listed(line.kind));
            let (kind, mid, numbers) = (line.kind, &line.mid, numbers.join(" "));
            sdp += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {numbers}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n");
            sdp += &format!(
                "a={direction}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
                ice.ufrag, ice.pwd
            );
            sdp += &format!("a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
            if let Some(sender) = self.sender_at(place).filter(|sender| sender.on) {
                sdp += &format!("a=msid:{} {}-{kind}\r\n", sender.stream, sender.stream);
            }
            for detail in details {
                sdp += &format!("{detail}\r\n");
            }
        }
        sdp
    }
}

fn listed(kind: Kind) -> (Vec<String>, Vec<String>) {
    let lines: &[&str] = match kind {
        Kind::Audio => &[
            "a=rtpmap:111 opus/48000/2",
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        ],
        Kind::Video => &[
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
        ],
    };
    let numbers: &[&str] = match kind {
        Kind::Audio => &["111"],
        Kind::Video => &["96", "97"],
    };
    let mid = ["a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"];
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    (text(numbers), [text(lines), text(&mid)].concat())
}
