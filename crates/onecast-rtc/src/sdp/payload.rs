//! The payload types of an m-line, with their `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`.

use super::text::{is_token, numbered};
use crate::rtp::{Codec, Pt};

/// The payload types of one m-line in the client's order of preference.
#[derive(Debug)]
pub(super) struct PayloadTable {
    payloads: Vec<Payload>,
    /// Index in `payloads` by number, [`ABSENT`] if there is none.
    places: [u8; 128],
    /// `a=rtcp-fb:*`
    feedback_for_all: Feedback,
}

/// One payload type.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) number: Pt,
    pub(super) encoding: Encoding,
    /// `a=fmtp` without the number.
    pub(super) fmtp: Box<str>,
    feedback: Feedback,
}

/// The meaning that `a=rtpmap` gives a payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Carried.
    Codec(Codec),
    /// Retransmissions of video (RFC 4588).
    Rtx,
    /// Not carried; its name, if it has one.
    Other(Box<str>),
}

/// RTCP feedback (RFC 4585 section 4.2) that we may give or take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    pub(super) nack: bool,
    pub(super) pli: bool,
    pub(super) fir: bool,
    pub(super) transport_cc: bool,
}

impl PayloadTable {
    /// Reads the formats of an RTP m-line; `None` if none is in 0..=127. Others are skipped, repeated ones count once.
    pub(super) fn new<'a>(formats: impl Iterator<Item = &'a str>) -> Option<PayloadTable> {
        let mut table = PayloadTable::default();
        for format in formats {
            let Some(number) = format.parse::<u8>().ok().filter(|number| *number < 128) else {
                continue;
            };
            let place = &mut table.places[usize::from(number)];
            if *place != ABSENT {
                continue;
            }
            // At most 128 different numbers, so the place fits and is never ABSENT.
            *place = table.payloads.len() as u8;
            table.payloads.push(Payload::new(Pt(number)));
        }
        (!table.payloads.is_empty()).then_some(table)
    }

    /// In the client's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Payload> {
        self.payloads.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.payloads.len()
    }

    /// What was offered for this payload type, by its number or for all.
    pub(super) fn feedback(&self, payload: &Payload) -> Feedback {
        let (own, all) = (payload.feedback, self.feedback_for_all);
        Feedback {
            nack: own.nack | all.nack,
            pli: own.pli | all.pli,
            fir: own.fir | all.fir,
            transport_cc: own.transport_cc | all.transport_cc,
        }
    }

    /// For each video payload type that of its RTX: the first whose `apt` names it.
    pub(super) fn rtx_by_number(&self) -> [Option<Pt>; 128] {
        let mut rtx = [None; 128];
        for payload in self.payloads.iter().filter(|p| p.encoding == Encoding::Rtx) {
            let apt = parameter(&payload.fmtp, "apt").and_then(|apt| apt.parse::<usize>().ok());
            if let Some(slot) = apt.and_then(|apt| rtx.get_mut(apt)) {
                *slot = slot.or(Some(payload.number));
            }
        }
        rtx
    }

    /// `<number> <name>/<clock>[/<channels>]`. Numbers that the m-line does not list are ignored, and a format that cannot be read counts
    /// as not carried.
    pub(super) fn take_rtpmap(&mut self, value: &str) {
        if let Some((number, encoding)) = numbered(value)
            && let Some(payload) = self.by_number(number)
        {
            payload.encoding = Encoding::read(encoding);
        }
    }

    /// `<number> <parameters>`; the first for a number counts. A line longer than [`MAX_FMTP_BYTES`] is read without its `sprop-*`
    /// parameters, the only long ones, or else not at all.
    pub(super) fn take_fmtp(&mut self, value: &str) {
        if let Some((number, parameters)) = numbered(value)
            && let Some(payload) = self.by_number(number)
            && payload.fmtp.is_empty()
        {
            payload.fmtp = of_reasonable_length(parameters);
        }
    }

    /// `<number or *> <feedback>`
    pub(super) fn take_feedback(&mut self, value: &str) {
        let Some((number, feedback)) = numbered(value) else {
            return;
        };
        match number {
            "*" => self.feedback_for_all.take(feedback),
            _ => {
                if let Some(payload) = self.by_number(number) {
                    payload.feedback.take(feedback);
                }
            }
        }
    }

    fn by_number(&mut self, number: &str) -> Option<&mut Payload> {
        let place = *self.places.get(number.parse::<usize>().ok()?)?;
        self.payloads.get_mut(usize::from(place))
    }
}

impl Default for PayloadTable {
    fn default() -> Self {
        PayloadTable {
            payloads: Vec::new(),
            places: [ABSENT; 128],
            feedback_for_all: Feedback::default(),
        }
    }
}

impl Payload {
    /// Without `a=rtpmap` a number has the meaning of RFC 3551 section 6.
    fn new(number: Pt) -> Payload {
        let name = match number.0 {
            0 => "PCMU",
            8 => "PCMA",
            9 => "G722",
            _ => "",
        };
        Payload {
            number,
            encoding: Encoding::Other(name.into()),
            fmtp: Box::default(),
            feedback: Feedback::default(),
        }
    }

    /// The codec, if it is one that is carried.
    pub(super) fn codec(&self) -> Option<Codec> {
        match self.encoding {
            Encoding::Codec(codec) => Some(codec),
            _ => None,
        }
    }

    /// RFC 6184 section 6.2: without the parameter it is mode 0.
    pub(super) fn is_h264_with_fragments(&self) -> bool {
        self.codec() == Some(Codec::H264) && parameter(&self.fmtp, "packetization-mode") == Some("1")
    }
}

impl Encoding {
    fn read(encoding: &str) -> Encoding {
        let (name, clock) = encoding.split_once('/').unwrap_or((encoding, ""));
        let (clock, channels) = clock.split_once('/').unwrap_or((clock, ""));
        if !is_token(name, MAX_ENCODING_NAME_BYTES) {
            return Encoding::Other(Box::default());
        }
        let Ok(clock) = clock.parse::<u32>() else {
            return Encoding::Other(name.into());
        };
        let is_rtx = clock == Codec::Vp8.clock_rate() && name.eq_ignore_ascii_case("rtx");
        let codec = Codec::from_encoding_name(name).filter(|codec| codec.clock_rate() == clock);
        match codec {
            // RFC 7587 section 7: always two channels in SDP.
            Some(Codec::Opus) if !matches!(channels, "" | "2") => Encoding::Other(name.into()),
            Some(codec) => Encoding::Codec(codec),
            None if is_rtx => Encoding::Rtx,
            None => Encoding::Other(name.into()),
        }
    }
}

impl Feedback {
    fn take(&mut self, feedback: &str) {
        match feedback.trim() {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "transport-cc" => self.transport_cc = true,
            _ => {}
        }
    }
}

/// Parameters that describe the stream of the side that writes them (RFC 6184 section 8.1, RFC 7798 section 7.1).
pub(super) fn describes_sender(parameter: &str) -> bool {
    let prefix = parameter.get(..6);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("sprop-"))
}

fn of_reasonable_length(parameters: &str) -> Box<str> {
    if parameters.len() <= MAX_FMTP_BYTES {
        return parameters.into();
    }
    let others = parameters.split(';').map(str::trim);
    let others: Vec<&str> = others.filter(|one| !one.is_empty() && !describes_sender(one)).collect();
    let len = others.iter().map(|one| one.len() + 1).sum::<usize>();
    if len > MAX_FMTP_BYTES {
        return Box::default();
    }
    others.join(";").into()
}

/// A parameter of an `a=fmtp` (`name=value;name=value`); names are compared without case.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// No index: larger than any of the at most 128 there can be.
const ABSENT: u8 = u8::MAX;

/// A line with parameter sets of H265 has some 400 bytes. The answer repeats it and the peer keeps it, so it is bounded.
const MAX_FMTP_BYTES: usize = 1024;

/// The names in use are under 20 letters; it may be repeated in an error message.
const MAX_ENCODING_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(formats: &str) -> PayloadTable {
        PayloadTable::new(formats.split(' ')).unwrap()
    }

    #[test]
    fn order_is_the_clients_and_repeats_count_once() {
        let numbers: Vec<u8> = table("96 0 127 96 5").iter().map(|p| p.number.0).collect();
        assert_eq!(numbers, [96, 0, 127, 5]);
    }

    #[test]
    fn wildcard_feedback_applies_to_all_wherever_it_stands() {
        let mut table = table("96 97");
        table.take_feedback("96 nack pli");
        table.take_feedback("* nack");
        table.take_feedback("98 ccm fir");
        table.take_feedback("* goog-remb");
        let feedback: Vec<_> = table
            .iter()
            .map(|p| table.feedback(p))
            .map(|f| (f.nack, f.pli, f.fir))
            .collect();
        assert_eq!(feedback, [(true, true, false), (true, false, false)]);
    }

    #[test]
    fn clock_and_channels_must_be_the_codecs() {
        let read = Encoding::read;
        assert_eq!(read("OPUS/48000/2"), Encoding::Codec(Codec::Opus));
        assert_eq!(read("opus/48000"), Encoding::Codec(Codec::Opus));
        assert_eq!(read("opus/48000/6"), Encoding::Other("opus".into()));
        assert_eq!(read("opus/16000/2"), Encoding::Other("opus".into()));
        assert_eq!(read("h264/90000"), Encoding::Codec(Codec::H264));
        assert_eq!(read("rtx/90000"), Encoding::Rtx);
        assert_eq!(read("rtx/48000"), Encoding::Other("rtx".into()));
    }

    #[test]
    fn a_format_that_cannot_be_read_is_not_carried() {
        for (text, name) in [
            ("", ""),
            ("VP8", "VP8"),
            ("VP8/", "VP8"),
            ("VP8/fast", "VP8"),
            ("flexfec-03", "flexfec-03"),
            ("V P8/90000", ""),
            ("/90000", ""),
            ("b\u{fc}hne/90000", ""),
        ] {
            assert_eq!(Encoding::read(text), Encoding::Other(name.into()), "{text}");
        }
        let mut table = table("96 300 opus 97");
        for value in [
            "300 AV1/90000",
            "",
            "96",
            "x VP8/90000",
            "  96\tVP8/90000 ",
            "97 VP8",
            "4294967296 VP8/90000",
        ] {
            table.take_rtpmap(value);
        }
        let encodings: Vec<_> = table
            .iter()
            .map(|payload| (payload.number.0, payload.codec()))
            .collect();
        assert_eq!(encodings, [(96, Some(Codec::Vp8)), (97, None)]);
        assert!(PayloadTable::new(["128", "opus"].into_iter()).is_none());
    }

    #[test]
    fn the_first_fmtp_of_reasonable_length_counts() {
        let mut table = table("96");
        table.take_fmtp(&format!("96 {}", ";".repeat(MAX_FMTP_BYTES + 1)));
        table.take_fmtp("96 profile-id=0");
        table.take_fmtp("96 profile-id=2");
        assert_eq!(table.iter().map(|p| &*p.fmtp).collect::<Vec<_>>(), ["profile-id=0"]);
    }

    #[test]
    fn long_parameter_sets_do_not_take_the_other_parameters_along() {
        let mut table = table("96");
        let long = "A".repeat(MAX_FMTP_BYTES);
        table.take_fmtp(&format!(
            "96 packetization-mode=1; SPROP-parameter-sets={long};profile-level-id=42e01f"
        ));
        let fmtp = table.iter().map(|p| &*p.fmtp).next();
        assert_eq!(fmtp, Some("packetization-mode=1;profile-level-id=42e01f"));
    }

    #[test]
    fn rtx_is_found_by_apt_among_other_parameters() {
        let mut table = table("96 97 98 99");
        for number in [97, 98, 99] {
            table.take_rtpmap(&format!("{number} rtx/90000"));
        }
        table.take_fmtp("97 rtx-time=3000; APT=96");
        table.take_fmtp("98 apt=96");
        table.take_fmtp("99 apt=1000");
        let rtx = table.rtx_by_number();
        assert_eq!(rtx[96], Some(Pt(97)));
        assert_eq!(rtx.iter().flatten().count(), 1);
    }
}
