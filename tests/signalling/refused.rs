//! Names and texts by which a test asks the fake service for refusals.

use std::time::Duration;

use onecast_control::admission::{Busy, BusyCause};
use onecast_control::{CodecLists, CodecsOf, Purpose, Refusal, SdpRefusal};

pub(crate) fn refusal_by_name(name: &str) -> Result<(), Refusal> {
    Err(match name {
        "taken" => Refusal::Taken {
            since_unix: Some(Duration::from_secs(1_709_210_096)),
            silent: None,
            retry_after: Duration::from_millis(2_500),
        },
        "crowded" => Refusal::TooManyStreams { max: 1_000 },
        "full" => Refusal::Full { max: 100_000 },
        "closing" => Refusal::ShuttingDown,
        "unknown" => Refusal::UnknownStream,
        "silent" => Refusal::Taken {
            since_unix: Some(Duration::from_secs(1_709_210_096)),
            silent: Some(Duration::from_secs(12)),
            retry_after: Duration::from_millis(2_500),
        },
        "neighbours" => Refusal::Busy(Busy {
            purpose: Purpose::Watch,
            cause: BusyCause::Address,
            max: 64,
            earliest_s: 1,
            latest_s: 5,
        }),
        "h264" => Refusal::Sdp(SdpRefusal {
            unusable: true,
            detail: "the stream has H264 video; this browser or player offers VP8, VP9".to_owned(),
            hint: None,
            codecs: Some(CodecLists {
                of: CodecsOf::Stream,
                needed: vec!["H264".to_owned()],
                offer: vec!["VP8".to_owned(), "VP9".to_owned()],
            }),
        }),
        "busy" => Refusal::Busy(Busy {
            purpose: Purpose::Watch,
            cause: BusyCause::Address,
            max: 3,
            earliest_s: 1,
            latest_s: 5,
        }),
        "room-full" => Refusal::RoomFull { max: 100 },
        "too-many-offers" => Refusal::TooManyOffers,
        "other-certificate" => Refusal::OtherCertificate,
        "join-anew" => Refusal::JoinAnew,
        "stale" => Refusal::StaleIceSession,
        "no-tag" => Refusal::Unconditional,
        "half-restart" => Refusal::HalfRestart,
        "restart-too-soon" => Refusal::RestartTooSoon,
        "too-many-choices" => Refusal::TooManyChoices,
        "overloaded" => Refusal::Overloaded,
        _ => return Ok(()),
    })
}

/// What the line `a=x-refuse:` asks for.
pub(crate) fn refusal_by_line(text: &str) -> Result<(), Refusal> {
    let named = text.lines().find_map(|line| line.strip_prefix("a=x-refuse:"));
    named.map_or(Ok(()), refusal_by_name)
}

pub(crate) fn refusal_by_text(offer: &str) -> Result<(), Refusal> {
    let hint = Some("Send the text of RTCSessionDescription.sdp.".to_owned());
    if !offer.starts_with("v=0") {
        return Err(Refusal::Sdp(SdpRefusal {
            unusable: false,
            detail: "this is not SDP".to_owned(),
            hint,
            codecs: None,
        }));
    }
    if offer.contains("unusable") {
        let detail = "no common video codec: the offer has X; this server carries VP8".to_owned();
        return Err(Refusal::Sdp(SdpRefusal {
            unusable: true,
            detail,
            hint,
            codecs: Some(CodecLists {
                of: CodecsOf::Server,
                needed: vec!["VP8".to_owned()],
                offer: vec!["X".to_owned()],
            }),
        }));
    }
    refusal_by_line(offer)
}
