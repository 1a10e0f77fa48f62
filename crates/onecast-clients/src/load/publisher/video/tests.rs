//! The packets of published layers, opened as a server opens them.

use super::*;
use onecast_rtc::DtlsRole;
use onecast_rtc::rtp::Codec;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::picture_size;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::srtp::{Opener, Profile, SrtpKeys};

/// A packet as the server sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    ssrc: Ssrc,
    sequence: u16,
    timestamp: RtpTime,
    marker: bool,
    names: Vec<(u8, String)>,
    size: Option<(u16, u16)>,
}

struct Rig {
    video: PublishedVideo,
    sealer: Sealer,
    opener: Opener,
}

impl Rig {
    fn new(layers: LayerSet, answered: &AnsweredLayers) -> Rig {
        let profile = Profile::AeadAes128Gcm;
        let material = vec![7; profile.keying_material_len()];
        let keys = |role| SrtpKeys::from_keying_material(profile, &material, role).unwrap();
        Rig {
            video: PublishedVideo::new(Video::W1, layers, answered),
            sealer: Sealer::new(&keys(DtlsRole::Client)),
            opener: Opener::new(&keys(DtlsRole::Server)),
        }
    }

    fn picture(&mut self) -> Vec<Seen> {
        let mut datagrams = Vec::new();
        let send = |datagram: &[u8], _| {
            datagrams.push(datagram.to_vec());
            Ok(())
        };
        self.video.send_frame(&mut self.sealer, send).unwrap();
        datagrams
            .iter_mut()
            .map(|datagram| see(&mut self.opener, datagram))
            .collect()
    }

    /// SSRC, packets and RTP time of each sender report.
    fn reports(&mut self) -> Vec<(Ssrc, u32, RtpTime)> {
        let mut seen = Vec::new();
        let (sealer, opener) = (&mut self.sealer, &mut self.opener);
        let send = |report: SenderReport| {
            let mut buffer = [0; REPORT_BYTES];
            let len = report.seal(sealer, &mut buffer);
            let len = opener.open_rtcp(&mut buffer[..len]).unwrap();
            rtcp::parse(&buffer[..len], |report| {
                if let Report::SenderReport { ssrc, rtp, packets, .. } = report {
                    seen.push((ssrc, packets, rtp));
                }
            })
            .unwrap();
            Ok(())
        };
        self.video.send_reports(1, send).unwrap();
        seen
    }
}

fn see(opener: &mut Opener, datagram: &mut [u8]) -> Seen {
    let header = RtpHeader::parse(datagram).unwrap();
    let len = opener
        .open_rtp(datagram, header.len, header.ssrc, header.sequence)
        .unwrap();
    let name = |(id, name): (u8, &[u8])| (id, String::from_utf8(name.to_vec()).unwrap());
    Seen {
        ssrc: header.ssrc,
        sequence: header.sequence,
        timestamp: header.timestamp,
        marker: header.marker,
        names: header.extensions(datagram).map(name).collect(),
        size: picture_size(Codec::Vp8, header.payload(&datagram[..len]).unwrap()),
    }
}

fn accepted(list: &str) -> AnsweredLayers {
    AnsweredLayers::parse(&format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=simulcast:recv {list}\r\n"
    ))
}

fn browser(list: &str) -> Rig {
    Rig::new(LayerSet::new(SenderKind::Browser, 3), &accepted(list))
}

fn obs() -> Rig {
    Rig::new(LayerSet::new(SenderKind::Obs, 3), &accepted("0;1;2"))
}

fn sizes(picture: &[Seen]) -> Vec<(u16, u16)> {
    picture.iter().filter_map(|packet| packet.size).collect()
}

fn of(ssrc: Ssrc) -> impl Fn(&&Seen) -> bool {
    move |packet| packet.ssrc == ssrc
}

#[test]
fn keyframes_of_all_layers_are_the_same_picture() {
    let mut rig = browser("q;h;f");
    assert_eq!(sizes(&rig.picture()), [(1280, 720), (640, 360), (320, 180)]);
    for _ in 1..60 {
        assert_eq!(sizes(&rig.picture()), []);
    }
    assert_eq!(sizes(&rig.picture()).len(), 3);
    rig.picture();
    rig.video.request_keyframe();
    assert_eq!(sizes(&rig.picture()).len(), 3);
}

#[test]
fn layers_have_their_share_of_the_packets() {
    let mut rig = browser("q;h;f");
    let keyframe = rig.picture();
    let counts: Vec<u64> = rig.video.layers().map(|layer| layer.packets).collect();
    assert_eq!(counts, [3, 10, 40]);
    assert_eq!(keyframe.iter().filter(|packet| packet.marker).count(), 3);
    rig.picture();
    let counts: Vec<u64> = rig.video.layers().map(|layer| layer.packets).collect();
    assert_eq!(counts, [4, 12, 46]);
}

#[test]
fn layers_of_a_browser_have_constant_offsets_of_their_clocks() {
    let mut rig = browser("q;h;f");
    let layers: Vec<Ssrc> = rig.video.layers().map(|layer| layer.ssrc).collect();
    let mut offsets = |_| {
        let picture = rig.picture();
        let timestamp = |ssrc| picture.iter().find(of(ssrc)).unwrap().timestamp;
        (
            timestamp(layers[1]).since(timestamp(layers[0])),
            timestamp(layers[2]).since(timestamp(layers[0])),
        )
    };
    let first = offsets(0);
    assert!(first != (0, 0));
    assert!((0..100).map(&mut offsets).all(|these| these == first));
}

#[test]
fn a_browser_names_a_layer_until_the_first_report_about_it() {
    let mut rig = browser("q;h;f");
    let q = rig.video.layers().next().unwrap().ssrc;
    let names = |rid: &str| vec![(9, "1".to_owned()), (10, rid.to_owned())];
    assert!(
        rig.picture()
            .iter()
            .filter(of(q))
            .all(|packet| packet.names == names("q"))
    );
    rig.video.handle_report_about(q);
    let picture = rig.picture();
    assert!(picture.iter().filter(of(q)).all(|packet| packet.names.is_empty()));
    let others = || picture.iter().filter(|packet| packet.ssrc != q);
    assert!(others().count() > 0 && others().all(|packet| packet.names == names("h") || packet.names == names("f")));
}

#[test]
fn only_accepted_layers_are_sent() {
    assert_eq!(sizes(&browser("q;h;~f").picture()), [(640, 360), (320, 180)]);
    let mut rig = Rig::new(LayerSet::new(SenderKind::Browser, 3), &AnsweredLayers::default());
    assert_eq!(sizes(&rig.picture()), [(320, 180)]);
    assert_eq!(rig.video.layers().filter(|layer| layer.is_sent).count(), 1);
}

#[test]
fn a_layer_that_comes_back_goes_on_with_its_numbers_and_a_keyframe_of_all() {
    let mut rig = browser("q;h;f");
    let last = |picture: &[Seen]| {
        picture
            .iter()
            .rfind(|packet| packet.size == Some((1280, 720)))
            .map(|packet| packet.sequence)
    };
    let first = last(&rig.picture()).unwrap();
    assert!(rig.video.set_active("f", false) && !rig.video.set_active("x", false));
    assert_eq!(sizes(&rig.picture()), []);
    rig.video.request_keyframe();
    assert_eq!(sizes(&rig.picture()), [(640, 360), (320, 180)]);
    assert!(rig.video.set_active("f", true));
    let picture = rig.picture();
    assert_eq!(sizes(&picture), [(1280, 720), (640, 360), (320, 180)]);
    assert_eq!(last(&picture), Some(first + 40));
}

#[test]
fn each_layer_of_a_browser_has_its_own_reports_and_retransmissions() {
    let mut rig = browser("q;h;f");
    assert_eq!(rig.reports(), []);
    let picture = rig.picture();
    assert_eq!(
        rig.reports().iter().map(|report| report.1).collect::<Vec<_>>(),
        [3, 10, 40]
    );
    for packet in &picture {
        let kept = rig.video.kept(packet.ssrc, packet.sequence).unwrap();
        assert_eq!(kept[8..12], packet.ssrc.to_be_bytes());
    }
    assert!(rig.video.is_about(picture[0].ssrc) && !rig.video.is_about(Ssrc(1)));
}

#[test]
fn obs_names_every_packet_and_has_one_clock_for_all_layers() {
    let mut rig = obs();
    for number in 0..3_u32 {
        let picture = rig.picture();
        if let Some(Seen { ssrc, .. }) = picture.first() {
            rig.video.handle_report_about(*ssrc);
        }
        assert!(picture.iter().all(|packet| packet.timestamp == RtpTime(number * 3_000)));
        assert!(
            picture
                .iter()
                .all(|packet| packet.names[0] == (1, "1".to_owned()) && packet.names[1].0 == 2)
        );
        let firsts = picture.iter().filter(|packet| packet.sequence == 0).count();
        assert_eq!(firsts, if number == 0 { 3 } else { 0 });
    }
}

#[test]
fn obs_falls_linearly() {
    let mut rig = obs();
    assert_eq!(sizes(&rig.picture()), [(1920, 1080), (1280, 720), (640, 360)]);
    let counts: Vec<u64> = rig.video.layers().map(|layer| layer.packets).collect();
    assert_eq!(counts, [40, 27, 14]);
}

#[test]
fn obs_answers_a_request_for_one_layer_with_a_packet_of_another() {
    let mut rig = obs();
    rig.picture();
    let ssrcs: Vec<Ssrc> = rig.video.layers().map(|layer| layer.ssrc).collect();
    let answer = rig.video.kept(ssrcs[2], 5).unwrap();
    assert_eq!(answer[8..12], ssrcs[0].to_be_bytes());
    assert!(!rig.video.obeys_requests() && browser("q;h;f").video.obeys_requests());
}

#[test]
fn obs_reports_on_one_layer_with_the_packets_of_all() {
    let mut rig = obs();
    rig.picture();
    let ssrcs: Vec<Ssrc> = rig.video.layers().map(|layer| layer.ssrc).collect();
    let all = 40 + 27 + 14;
    for ssrc in [ssrcs[0], ssrcs[1], ssrcs[2], ssrcs[0]] {
        assert_eq!(rig.reports(), [(ssrc, all, RtpTime(0))]);
    }
}

#[test]
fn a_video_without_layers_is_as_before() {
    let mut rig = Rig::new(LayerSet::SINGLE, &AnsweredLayers::default());
    let picture = rig.picture();
    assert_eq!((picture.len(), sizes(&picture)), (40, vec![(640, 360)]));
    assert!(
        picture
            .iter()
            .zip(0..)
            .all(|(packet, number)| packet.sequence == number && packet.names.is_empty())
    );
    assert!(!rig.video.obeys_requests());
}
