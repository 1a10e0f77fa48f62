//! The log lines of what the control plane decides.

use onecast_control::StreamName;
use onecast_control::effect::{Notice, Party};
use onecast_control::playable::Missing;
use onecast_control::port::DrainState;
use onecast_control::registry::{CodecMissing, SilenceChange};
use onecast_metrics::AdmissionCounts;
use onecast_rtc::rtp::Codec;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Writes the lines of a notice.
pub(super) fn write(notice: Notice) {
    match notice {
        Notice::Connected {
            stream,
            party,
            address,
            cipher,
            viewers,
            missing,
        } => match party {
            Party::Broadcaster => info!(%stream, "broadcaster connected from {address} ({cipher}), {viewers} watching"),
            Party::Viewer(viewer) => {
                info!(%stream, "viewer {viewer} joined from {address} ({cipher}), {viewers} watching");
                write_missing(&stream, viewer, missing);
            }
            Party::Member(member) => info!(room = %stream, "member {member} connected from {address} ({cipher})"),
        },
        Notice::Sends {
            stream,
            party,
            kind,
            codec,
        } => match party {
            Party::Member(member) => info!(room = %stream, "member {member} sends {kind} in {codec}"),
            party => info!(%stream, "{party} sends {kind} in {codec}"),
        },
        Notice::Keyframes {
            stream,
            unanswered,
            interval,
        } => write_keyframes(&stream, unanswered, interval),
        // A client may restart once a second: too often for the log of every day.
        Notice::Restarted { stream, party, address } => {
            debug!(%stream, "{party} continues from {address} (ICE restart)")
        }
        Notice::FirstPicture { stream, viewer, after } => {
            info!(%stream, "viewer {viewer} has its picture after {} ms", after.as_millis())
        }
        Notice::Left {
            stream,
            party,
            connected: Some(time),
            why,
            viewers,
        } => info!(%stream, "{party} left after {} s: {why}; {viewers} watching", time.as_secs()),
        Notice::Left { stream, party, why, .. } => {
            info!(%stream, "{party} was expected but did not connect: {why}")
        }
        Notice::ClosedLate { session, cause } => debug!(%session, %cause, "peer ended after its session"),
        Notice::Silence(change) => write_silence(&change),
        Notice::CodecMissing(missing) => write_codec_missing(&missing),
        Notice::BitRate {
            stream,
            measured_bps,
            max_bps,
        } => warn!(
            %stream,
            "broadcaster sends {:.1} Mbit/s, more than the {:.1} allowed (--max-publish-bitrate); it is ended if it continues",
            measured_bps as f64 / 1e6,
            max_bps as f64 / 1e6
        ),
        Notice::LargePackets { stream, longest } => warn!(
            %stream,
            "broadcaster sends datagrams of {longest} bytes, which do not fit an MTU of 1,500: they reach viewers in fragments, and many \
             players accept none above 1,500 bytes. Set the encoder's packet size to 1,200 bytes"
        ),
        Notice::Refused { since } => write_refused(&since),
        Notice::Draining(state) => write_drain(&state),
        Notice::DrainBegun { sessions } => {
            info!("{sessions} sessions are present; they stay until they leave or the drain times out")
        }
    }
}

fn write_keyframes(stream: &StreamName, unanswered: bool, interval: Option<Duration>) {
    if !unanswered {
        return info!(%stream, "broadcaster answers keyframe requests");
    }
    let own = match interval {
        Some(interval) => format!("its own come every {:.1} s", interval.as_secs_f64()),
        None => "it has sent one so far".to_owned(),
    };
    warn!(
        %stream,
        "broadcaster does not answer keyframe requests; {own}. Viewers that lose packets recover from the cache; a keyframe interval of \
         2 to 10 s in the encoder keeps that short"
    );
}

fn write_silence(change: &SilenceChange) {
    let SilenceChange {
        stream,
        silent,
        is_over,
    } = change;
    let seconds = silent.as_secs();
    if *is_over {
        info!(%stream, "broadcaster sends media again, after {seconds} s");
    } else {
        info!(%stream, "broadcaster is connected and has sent no media for {seconds} s");
    }
}

fn write_missing(stream: &StreamName, viewer: u64, missing: Missing) {
    for codec in missing.codecs() {
        let kind = codec.kind();
        warn!(%stream, "viewer {viewer} cannot play the {kind}, which is sent in {codec}");
    }
}

fn write_codec_missing(missing: &CodecMissing) {
    let CodecMissing {
        stream, codec, viewers, ..
    } = missing;
    let kind = codec.kind();
    let first = list(missing.first.iter());
    let offered = list(missing.offered.iter().map(Codec::to_string));
    let more = viewers - missing.first.len();
    match (viewers, more) {
        (1, _) => {
            warn!(%stream, "viewer {first} cannot play the {kind}, which is sent in {codec}: it offered {offered}")
        }
        (_, 0) => warn!(%stream, "viewers {first} cannot play the {kind}, which is sent in {codec}"),
        _ => {
            warn!(%stream, "{viewers} viewers cannot play the {kind}, which is sent in {codec}: {first} and {more} more")
        }
    }
}

fn write_refused(since: &AdmissionCounts) {
    warn!(
        "{} clients were refused in the last second: {} by --joins-per-second, {} by --half-open-max, {} by --half-open-per-address, {} by \
         --joins-per-address; {} are connecting",
        since.refused(),
        since.refused_rate,
        since.refused_half_open,
        since.refused_address,
        since.refused_address_rate,
        since.half_open
    );
}

fn write_drain(state: &DrainState) {
    let sessions = state.sessions;
    let new_clients = match &state.to {
        Some(to) => format!("new clients are sent to {to}"),
        None => "no new clients are accepted".to_owned(),
    };
    match state.left {
        Some(left) => info!(
            "draining: {sessions} sessions left; {new_clients}; leaving in {} s at the latest",
            left.as_secs()
        ),
        None => info!("draining: {sessions} sessions left; {new_clients}; leaving with the last"),
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
