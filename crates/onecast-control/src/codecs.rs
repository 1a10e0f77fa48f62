//! Viewers without a codec of the stream are refused, with the codecs of both sides.

use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::Negotiated;

use crate::refusal::{CodecLists, CodecsOf, Refusal, SdpRefusal};

/// Refuses a viewer that cannot play what is sent at this moment (audio, video): it would wait for ever without a reason in sight.
pub(crate) fn check(negotiated: &Negotiated, live: [Option<Codec>; 2]) -> Result<(), Refusal> {
    for line in [&negotiated.video, &negotiated.audio].into_iter().flatten() {
        let Some(codec) = live[line.kind as usize] else {
            continue;
        };
        if line.formats.iter().any(|format| format.codec == codec) {
            continue;
        }
        let mut offer: Vec<String> = line.formats.iter().map(|format| format.codec.to_string()).collect();
        offer.dedup();
        let (kind, offered) = (line.kind, offer.join(", "));
        return Err(Refusal::Sdp(SdpRefusal {
            unusable: true,
            detail: format!("the stream has {codec} {kind}; this browser or player offers {offered}"),
            hint: Some(format!(
                "Watch with one that plays {codec}, or ask the broadcaster to send {}.",
                offer.join(" or ")
            )),
            codecs: Some(CodecLists {
                of: CodecsOf::Stream,
                needed: vec![codec.to_string()],
                offer,
            }),
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::{Kind, Pt};
    use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};

    fn line(kind: Kind, codecs: &[Codec]) -> Option<MediaLine> {
        let formats = codecs.iter().map(|&codec| Format {
            codec,
            payload_type: Pt(96),
            rtx: None,
            fmtp: "".into(),
            nack: false,
            pli: false,
            transport_cc: false,
        });
        Some(MediaLine {
            kind,
            mid: "0".into(),
            formats: formats.collect(),
            extensions: ExtensionIds::default(),
            ssrc: None,
            rtx_ssrc: None,
            layers: None,
        })
    }

    fn watch(video: Option<MediaLine>, live: Option<Codec>) -> Result<(), Refusal> {
        let audio = line(Kind::Audio, &[Codec::Opus]);
        let mut codecs = [None; 2];
        codecs[Kind::Audio as usize] = Some(Codec::Opus);
        codecs[Kind::Video as usize] = live;
        check(&Negotiated { audio, video }, codecs)
    }

    #[test]
    fn a_viewer_without_the_codec_of_the_stream_is_refused_with_both_lists() {
        let offered = [Codec::Vp8, Codec::Vp9, Codec::Vp9];
        let Err(Refusal::Sdp(refusal)) = watch(line(Kind::Video, &offered), Some(Codec::H264)) else {
            panic!("not refused");
        };
        assert!(refusal.unusable);
        assert_eq!(
            refusal.detail,
            "the stream has H264 video; this browser or player offers VP8, VP9"
        );
        let lists = refusal.codecs.unwrap();
        assert_eq!((lists.of, lists.needed), (CodecsOf::Stream, vec!["H264".to_owned()]));
        assert_eq!(lists.offer, ["VP8", "VP9"]);
    }

    #[test]
    fn a_viewer_with_the_codec_or_without_video_or_before_the_publisher_is_accepted() {
        let offered = [Codec::Vp8, Codec::H264];
        assert_eq!(watch(line(Kind::Video, &offered), Some(Codec::H264)), Ok(()));
        assert_eq!(watch(None, Some(Codec::H264)), Ok(()));
        assert_eq!(watch(line(Kind::Video, &offered), None), Ok(()));
    }
}
