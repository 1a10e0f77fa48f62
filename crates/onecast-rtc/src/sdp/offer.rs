//! Reads an offer, or an answer: every check that does not depend on the client's role happens here, once.

use std::collections::HashMap;

use super::answer::{Agreement, Answer, Flow};
use super::media::{Direction, MediaSection};
use super::text::{self, TextLine};
use super::transport::{self, TransportSection};
use super::{
    AnswerParams, Description, Fault, MAX_CALL_LINES, MAX_CALL_PAYLOAD_TYPES, MAX_CALL_SDP_BYTES, MAX_MEDIA_LINES,
    MAX_PAYLOAD_TYPES, MAX_SDP_BYTES, Role, SdpError,
};
use crate::RemoteTransport;
use crate::rtp::Kind;

/// An offer that can be answered: one transport, at most one audio and one video line in use, at least one of them.
#[derive(Debug)]
pub struct Offer {
    remote: RemoteTransport,
    /// All m-lines in order; those in use have a kind.
    pub(super) lines: Vec<MediaSection>,
    /// Lines in use that are bundled, as indices in `lines` in the group's order: the first is the tagged one.
    pub(super) bundle: Vec<usize>,
    /// `a=extmap-allow-mixed` for the session.
    pub(super) allow_mixed: bool,
}

impl Offer {
    /// Reads the text, with CRLF or LF. `o=`, `s=` and `t=` may be missing. Unknown lines and attributes are skipped, and so are known ones
    /// that cannot be read, as long as the connection does not depend on them. Time is linear in the length of the text.
    ///
    /// # Errors
    /// What is wrong with the text, or with the offer in any role.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        Offer::read_broadcast(text).map_err(|fault| fault.of(Description::Offer))
    }

    /// As [`Offer::parse`], of an offer or an answer.
    pub(super) fn read_broadcast(text: &str) -> Result<Offer, Fault> {
        Offer::read(text, Use::Broadcast.limits())?.finish(Use::Broadcast)
    }

    /// Reads an offer or an answer of a member of a room: any number of audio and video lines in use, all in one bundle.
    pub(super) fn read_room(text: &str) -> Result<RoomText<'_>, Fault> {
        Offer::read(text, Use::Room { known: None }.limits()).map(RoomText)
    }

    fn read(text: &str, limits: Limits) -> Result<Reading<'_>, Fault> {
        text::check_size(text, limits.bytes)?;
        let mut lines = text::lines(text);
        match lines.next() {
            Some(Ok(TextLine {
                letter: b'v',
                value: "0",
                ..
            })) => {}
            _ => return Err(Fault::NotSdp),
        }
        let mut reading = Reading::default();
        for line in lines {
            reading.take(line?, limits)?;
        }
        Ok(reading)
    }

    /// Whether an audio or video line can send, so that the client could publish.
    pub fn can_send(&self) -> bool {
        self.in_use().any(|line| line.direction().sends())
    }

    /// Whether an audio or video line can receive, so that the client could watch.
    pub fn can_receive(&self) -> bool {
        self.in_use().any(|line| line.direction().receives())
    }

    /// What ICE and DTLS need to know about the client.
    pub fn remote(&self) -> &RemoteTransport {
        &self.remote
    }

    /// Answers with everything both sides can carry. Lines that cannot flow in the role's direction are inactive; lines that
    /// are neither audio nor video, or that the client has switched off, are rejected with port 0.
    ///
    /// # Errors
    /// No line that flows in the role's direction, or one without a codec in common: never half of what was offered.
    pub fn answer(&self, role: Role, params: &AnswerParams<'_>) -> Result<Answer, SdpError> {
        let agreement = self.negotiate(role)?;
        Ok(Answer {
            sdp: agreement.write(role, params),
            negotiated: agreement.negotiated(),
        })
    }

    /// The first half of [`answer`](Self::answer), which ignores the SSRCs of the role.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn negotiate(&self, role: Role) -> Result<Agreement<'_>, SdpError> {
        Agreement::new(self, Flow::of(role)).map_err(|fault| fault.of(Description::Offer))
    }

    fn in_use(&self) -> impl Iterator<Item = &MediaSection> {
        self.lines.iter().filter(|line| line.kind.is_some())
    }
}

/// A description of a member of a room that has been read. Whether it is complete depends on what is known about the connection.
#[derive(Debug)]
pub(super) struct RoomText<'a>(Reading<'a>);

impl RoomText<'_> {
    /// `known` is the transport of the member's last description, which stays where no line is in use any more.
    pub(super) fn resolve(self, known: Option<&RemoteTransport>) -> Result<Offer, Fault> {
        self.0.finish(Use::Room { known })
    }
}

/// What a description is read for.
#[derive(Debug, Clone, Copy)]
enum Use<'a> {
    /// At most one audio and one video line in use, at least one of them.
    Broadcast,
    /// Any number of them.
    Room {
        /// See [`RoomText::resolve`].
        known: Option<&'a RemoteTransport>,
    },
}

/// How much is read.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes: usize,
    lines: usize,
    payload_types: usize,
}

impl Use<'_> {
    const fn limits(self) -> Limits {
        match self {
            Use::Broadcast => Limits {
                bytes: MAX_SDP_BYTES,
                lines: MAX_MEDIA_LINES,
                payload_types: MAX_PAYLOAD_TYPES,
            },
            Use::Room { .. } => Limits {
                bytes: MAX_CALL_SDP_BYTES,
                lines: MAX_CALL_LINES,
                payload_types: MAX_CALL_PAYLOAD_TYPES,
            },
        }
    }
}

/// The offer while its lines are read.
#[derive(Debug, Default)]
struct Reading<'a> {
    session: TransportSection<'a>,
    direction: Option<Direction>,
    rtcp_mux: bool,
    allow_mixed: bool,
    ice_lite: bool,
    /// Mids of each `a=group:BUNDLE`.
    bundles: Vec<&'a str>,
    lines: Vec<MediaSection>,
    /// One for each of `lines`.
    transports: Vec<TransportSection<'a>>,
    payload_types: usize,
}

impl<'a> Reading<'a> {
    fn take(&mut self, line: TextLine<'a>, limits: Limits) -> Result<(), Fault> {
        match line.letter {
            b'm' => self.begin_media(line, limits),
            b'a' => {
                self.take_attribute(line);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_media(&mut self, line: TextLine<'a>, limits: Limits) -> Result<(), Fault> {
        if self.lines.len() == limits.lines {
            return Err(Fault::TooManyMediaLines { limit: limits.lines });
        }
        let section = MediaSection::new(line)?;
        self.payload_types += section.payloads.len();
        if self.payload_types > limits.payload_types {
            let limit = limits.payload_types;
            return Err(Fault::TooManyPayloadTypes { limit });
        }
        self.lines.push(section);
        self.transports.push(TransportSection::default());
        Ok(())
    }

    fn take_attribute(&mut self, line: TextLine<'a>) {
        let (name, value) = text::attribute(line.value);
        let transport = self.transports.last_mut().unwrap_or(&mut self.session);
        if transport.take(line.number, name, value) {
            return;
        }
        match self.lines.last_mut() {
            Some(section) => section.take(line.number, name, value),
            None => self.take_session_attribute(name, value),
        }
    }

    fn take_session_attribute(&mut self, name: &str, value: &'a str) {
        match name {
            "group" => {
                let bundle = value.trim_ascii().split_once([' ', '\t']);
                self.bundles
                    .extend(bundle.filter(|(what, _)| *what == "BUNDLE").map(|(_, mids)| mids));
            }
            "ice-lite" => self.ice_lite = true,
            "rtcp-mux" | "rtcp-mux-only" => self.rtcp_mux = true,
            "extmap-allow-mixed" => self.allow_mixed = true,
            _ => self.direction = Direction::from_name(name).or(self.direction),
        }
    }

    fn finish(mut self, for_what: Use<'_>) -> Result<Offer, Fault> {
        for line in &mut self.lines {
            line.direction = line.direction.or(self.direction);
            line.rtcp_mux |= self.rtcp_mux;
            if line.is_disabled() {
                line.kind = None;
            }
        }
        let in_use = self.lines_in_use(for_what)?;
        self.check_rtcp_mux()?;
        self.check_mids(for_what)?;
        let bundle = self.bundle(&in_use, for_what)?;
        if self.ice_lite {
            return Err(Fault::BothIceLite);
        }
        let tagged = bundle.first().or(in_use.first()).copied();
        Ok(Offer {
            remote: self.remote(tagged, for_what)?,
            lines: self.lines,
            bundle,
            allow_mixed: self.allow_mixed,
        })
    }

    /// Where no line is in use, the transport that is known.
    fn remote(&self, tagged: Option<usize>, for_what: Use<'_>) -> Result<RemoteTransport, Fault> {
        match (tagged, for_what) {
            (None, Use::Room { known: Some(known) }) => Ok(known.clone()),
            (tagged, _) => {
                let tagged = tagged.map(|index| &self.transports[index]);
                let sections = tagged.into_iter().chain([&self.session]).chain(&self.transports);
                transport::resolve(&sections.collect::<Vec<_>>())
            }
        }
    }

    /// Indices of audio and video lines: as many as the use allows.
    fn lines_in_use(&self, for_what: Use<'_>) -> Result<Vec<usize>, Fault> {
        let in_use = || {
            let in_use = self.lines.iter().enumerate().filter(|(_, line)| line.kind.is_some());
            in_use.map(|(index, _)| index).collect()
        };
        let count = |kind| self.lines.iter().filter(|line| line.kind == Some(kind)).count();
        match (count(Kind::Audio), count(Kind::Video)) {
            (0, 0) if matches!(for_what, Use::Room { known: Some(_) }) => Ok(Vec::new()),
            (0, 0) if self.lines.iter().any(|line| &*line.media == "application") => Err(Fault::OnlyDataChannel),
            (0, 0) => Err(Fault::NoMedia),
            (0..=1, 0..=1) => Ok(in_use()),
            _ if matches!(for_what, Use::Room { .. }) => Ok(in_use()),
            (audio, video) => Err(Fault::TooManyTracks { audio, video }),
        }
    }

    /// RFC 8834 section 4.5. This server has one port for RTP and RTCP.
    fn check_rtcp_mux(&self) -> Result<(), Fault> {
        let kind = self
            .lines
            .iter()
            .filter(|line| !line.rtcp_mux)
            .find_map(|line| line.kind);
        kind.map_or(Ok(()), |kind| Err(Fault::NoRtcpMux { kind }))
    }

    /// RFC 8843 section 7: a mid names one line. In a broadcast a line that is not in use never will be, whatever its name. At most
    /// [`MAX_CALL_LINES`], so all pairs are few.
    fn check_mids(&self, for_what: Use<'_>) -> Result<(), Fault> {
        let counts = |line: &MediaSection| line.kind.is_some() || matches!(for_what, Use::Room { .. });
        for (index, line) in self.lines.iter().enumerate().filter(|(_, line)| counts(line)) {
            if let Some(fault) = &line.unreadable {
                return Err(fault.clone());
            }
            let mut before = self.lines[..index].iter().filter(|line| counts(line));
            if line.mid.is_some() && before.any(|other| other.mid == line.mid) {
                return Err(Fault::DuplicateMid {
                    mid: line.mid.clone().unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    /// The lines in use that are in one BUNDLE group, in its order. Mids that name no line in use are skipped.
    fn bundle(&self, in_use: &[usize], for_what: Use<'_>) -> Result<Vec<usize>, Fault> {
        let named = in_use
            .iter()
            .filter_map(|&index| Some((self.lines[index].mid.as_deref()?, index)));
        let by_mid: HashMap<&str, usize> = named.collect();
        let members = |group: &&str| {
            let mut left = by_mid.clone();
            let members = group.split_ascii_whitespace().filter_map(|mid| left.remove(mid));
            members.collect::<Vec<usize>>()
        };
        // A group that is too short to name all lines is not read, so that the time stays linear.
        let may_be_all = |group: &&&str| group.len() + 1 >= 2 * in_use.len();
        // In a room other lines will follow even a single one, and they need the bundle.
        let alone = match for_what {
            Use::Broadcast => 1,
            Use::Room { .. } => 0,
        };
        let mut groups = self.bundles.iter().filter(may_be_all).map(members);
        let bundle = groups.find(|members| members.len() == in_use.len());
        match bundle {
            None if in_use.len() > alone => Err(Fault::NotBundled),
            bundle => Ok(bundle.unwrap_or_default()),
        }
    }
}
