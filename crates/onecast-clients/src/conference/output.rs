//! Output of `onecast peer`: text, or JSON lines.

use serde_json::{Value, json};

use super::member::{MemberEvent, MemberReport};
use super::received::{ReceivedTrack, is_video};

/// Format of the output.
#[derive(Debug, Clone)]
pub(super) struct Output {
    json: bool,
    /// Number of the member among several, from 1; `None` when there is one.
    who: Option<u32>,
    room: String,
}

impl Output {
    pub(super) fn new(json: bool, who: Option<u32>, room: &str) -> Output {
        Output {
            json,
            who,
            room: room.to_owned(),
        }
    }

    /// Prints an event.
    pub(super) fn event(&self, event: &MemberEvent) {
        let (words, value) = (in_words(event, &self.room), as_json(event, &self.room));
        self.tell(&words, value);
    }

    /// Prints progress since the last time.
    pub(super) fn progress(&self, now: &MemberReport, before: Option<&MemberReport>) {
        let sent = now.sent_packets - before.map_or(0, |before| before.sent_packets);
        let tracks: Vec<Progress> = now
            .tracks
            .iter()
            .filter(|track| !track.gone)
            .map(|track| progress(track, before))
            .collect();
        let values: Vec<Value> = tracks.iter().map(Progress::as_json).collect();
        let words = tracks.iter().map(Progress::in_words).collect::<Vec<_>>().join("; ");
        let words = if words.is_empty() {
            "no other member sends".to_owned()
        } else {
            words
        };
        self.tell(
            &format!("sent {sent} packets; {words}"),
            json!({"event": "progress", "sent_packets": sent, "tracks": values}),
        );
    }

    /// Prints the summary.
    pub(super) fn end(&self, report: &MemberReport) {
        let mut value = json!(report);
        value["event"] = "end".into();
        self.tell(
            &format!(
                "left as member {}: answered {} offers, sent {} packets",
                report.id, report.offers_answered, report.sent_packets
            ),
            value,
        );
        if !self.json {
            for track in &report.tracks {
                self.tell(&summary(track), Value::Null);
            }
        }
    }

    /// Prints an error.
    pub(super) fn trouble(&self, why: &dyn std::fmt::Display) {
        if self.json {
            self.tell("", json!({"event": "error", "why": why.to_string()}));
        }
        eprintln!("error: {}{why}", self.prefix());
    }

    /// Prints a note.
    pub(super) fn note(&self, event: &str, words: &str) {
        self.tell(words, json!({"event": event}));
    }

    fn tell(&self, words: &str, mut value: Value) {
        if self.json {
            if let Some(who) = self.who {
                value["peer"] = who.into();
            }
            println!("{value}");
        } else {
            println!("{}{words}", self.prefix());
        }
    }

    fn prefix(&self) -> String {
        self.who.map_or_else(String::new, |who| format!("[peer {who}] "))
    }
}

fn in_words(event: &MemberEvent, room: &str) -> String {
    match event {
        MemberEvent::Busy { why, wait } => format!("{why} Trying again in {:.0} s", wait.as_secs_f64().ceil()),
        MemberEvent::Connected { peer, id } => format!("connected as {peer} (member {id}) in room {room}"),
        MemberEvent::Offered { number, tracks: 1 } => format!("received renegotiation offer {number} (1 track)"),
        MemberEvent::Offered { number, tracks } => format!("received renegotiation offer {number} ({tracks} tracks)"),
        MemberEvent::Answered { number } => format!("sent answer {number}"),
        MemberEvent::Accepted => "own offer was answered".to_owned(),
        MemberEvent::Track { member, kind, mid } => {
            format!("received track kind {kind} from member {member} (mid {mid})")
        }
        MemberEvent::Joined { member, name: None } => format!("member {member} joined"),
        MemberEvent::Joined {
            member,
            name: Some(name),
        } => format!("member {member} joined: {name}"),
        MemberEvent::Left { member } => format!("member {member} left"),
        MemberEvent::SocketBroken => "the WebSocket broke; reconnecting".to_owned(),
        MemberEvent::Resumed => "the WebSocket is back".to_owned(),
    }
}

fn as_json(event: &MemberEvent, room: &str) -> Value {
    match event {
        MemberEvent::Busy { why, wait } => json!({"event": "busy", "why": why, "wait_ms": wait.as_millis() as u64}),
        MemberEvent::Connected { peer, id } => {
            json!({"event": "connected", "peer_id": peer, "id": id, "room": room})
        }
        MemberEvent::Offered { number, tracks } => json!({"event": "offer", "offer": number, "tracks": tracks}),
        MemberEvent::Answered { number } => json!({"event": "answer", "offer": number}),
        MemberEvent::Accepted => json!({"event": "accepted"}),
        MemberEvent::Track { member, kind, mid } => {
            json!({"event": "track", "member": member, "kind": kind, "mid": mid})
        }
        MemberEvent::Joined { member, name } => json!({"event": "joined", "member": member, "name": name}),
        MemberEvent::Left { member } => json!({"event": "left", "member": member}),
        MemberEvent::SocketBroken => json!({"event": "socket-broken"}),
        MemberEvent::Resumed => json!({"event": "resumed"}),
    }
}

/// Progress of a track since the last time.
struct Progress {
    member: u64,
    mid: String,
    kind: String,
    packets: u64,
    bytes: u64,
    frames: u64,
    lost: u64,
}

fn progress(track: &ReceivedTrack, before: Option<&MemberReport>) -> Progress {
    let same = |other: &&ReceivedTrack| other.stream == track.stream && other.kind == track.kind;
    let then = before.and_then(|before| before.tracks.iter().find(same));
    let then = then.map(|track| track.report.clone()).unwrap_or_default();
    let now = &track.report;
    Progress {
        member: track.member,
        mid: track.mid.clone(),
        kind: track.kind.clone(),
        packets: now.packets - then.packets,
        bytes: now.bytes - then.bytes,
        frames: now.frames - then.frames,
        lost: now.lost - then.lost,
    }
}

impl Progress {
    fn in_words(&self) -> String {
        let Progress {
            member,
            kind,
            packets,
            bytes,
            frames,
            lost,
            ..
        } = self;
        let frames = if is_video(kind) {
            format!(", {frames} frames")
        } else {
            String::new()
        };
        let lost = if *lost > 0 {
            format!(", {lost} lost")
        } else {
            String::new()
        };
        format!("member {member} {kind}: {packets} packets, {bytes} bytes{frames}{lost}")
    }

    fn as_json(&self) -> Value {
        json!({"member": self.member, "mid": self.mid, "kind": self.kind, "packets": self.packets, "bytes": self.bytes,
            "frames": self.frames, "lost": self.lost})
    }
}

fn summary(track: &ReceivedTrack) -> String {
    let (report, number) = (&track.report, |ms: Option<u64>| {
        ms.map_or_else(|| "?".to_owned(), |ms| ms.to_string())
    });
    if report.packets == 0 {
        return format!("{} from member {}: nothing arrived", track.kind, track.member);
    }
    let frames = if is_video(&track.kind) {
        format!(
            ", {} frames, {} of them complete, {} keyframes, {} a keyframe",
            report.frames,
            report.complete_frames,
            report.keyframes,
            if report.began_with_keyframe == Some(true) {
                "the first one"
            } else {
                "the first one not"
            }
        )
    } else {
        String::new()
    };
    format!(
        "{} from member {}: {} packets, {} bytes, {} lost{frames}, first packet after {} ms, first frame after {} ms",
        track.kind,
        track.member,
        report.packets,
        report.bytes,
        report.lost,
        number(report.first_packet_ms),
        number(report.first_frame_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_printed_as_documented() {
        for (event, words) in [
            (
                MemberEvent::Connected {
                    peer: "peer-1a2b..".to_owned(),
                    id: 12,
                },
                "connected as peer-1a2b.. (member 12) in room main",
            ),
            (
                MemberEvent::Offered { number: 3, tracks: 2 },
                "received renegotiation offer 3 (2 tracks)",
            ),
            (MemberEvent::Answered { number: 3 }, "sent answer 3"),
            (
                MemberEvent::Track {
                    member: 12,
                    kind: "video".to_owned(),
                    mid: "s0".to_owned(),
                },
                "received track kind video from member 12 (mid s0)",
            ),
            (MemberEvent::Left { member: 13 }, "member 13 left"),
        ] {
            assert_eq!(in_words(&event, "main"), words);
        }
    }

    #[test]
    fn several_members_have_a_prefix() {
        assert_eq!(Output::new(false, Some(2), "main").prefix(), "[peer 2] ");
        assert_eq!(Output::new(false, None, "main").prefix(), "");
    }
}
