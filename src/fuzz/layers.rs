//! Parsers of what describes simulcast and scalable video.

use onecast_rtc::rtp::dependency_descriptor::{
    DecodeTargets, DependencyDescriptor, DependencyState, References, TemplateStructure,
};
use onecast_rtc::rtp::payload_descriptor::{Vp8Descriptor, Vp9Descriptor, payload_layer};
use onecast_rtc::rtp::sequence_size::sequence_size;
use onecast_rtc::rtp::video_layers_allocation::LayersAllocation;
use onecast_rtc::rtp::{Codec, LayerId, SeqIndex, keyframe};
use onecast_rtc::sdp::{AnswerParams, Offer, Role, SendLayers};
use onecast_rtc::{Fingerprint, IceCredentials};

/// Dependency descriptors of one source, each behind its length (1 byte). After an empty one the sequence numbers go back, so the
/// following ones are late.
pub fn dependency_descriptor(data: &[u8]) {
    let mut source = DescribedSource::default();
    let mut rest = data;
    let mut index = SeqIndex(0);
    while let Some((len, more)) = rest.split_first() {
        let (value, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        index = index.next();
        source.take(index, value);
        if value.is_empty() {
            index = index.minus(STEP_BACK);
        }
    }
}

#[derive(Default)]
struct DescribedSource {
    state: DependencyState,
    /// The newest packet with a structure.
    structure_since: SeqIndex,
    /// The newest packet that said which targets are active.
    active_since: SeqIndex,
}

impl DescribedSource {
    fn take(&mut self, index: SeqIndex, value: &[u8]) {
        let before = self.state.clone();
        match self.state.read(index, value) {
            Ok(descriptor) => self.check(index, &descriptor, &before),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(
                    (self.state.structure(), self.state.active_targets()),
                    (before.structure(), before.active_targets()),
                    "an unreadable descriptor changes nothing"
                );
            }
        }
    }

    fn check(&mut self, index: SeqIndex, descriptor: &DependencyDescriptor, before: &DependencyState) {
        check_alone(descriptor);
        if descriptor.brings_structure && index < self.structure_since {
            assert_eq!(
                self.state.structure(),
                before.structure(),
                "a late structure is not kept"
            );
        } else {
            check_with_structure(descriptor, &self.state);
        }
        if descriptor.brings_structure {
            self.structure_since = self.structure_since.max(index);
        }
        if let Some(active) = descriptor.active_targets {
            let is_late = index < self.active_since;
            let expected = if is_late { before.active_targets() } else { active };
            assert_eq!(self.state.active_targets(), expected);
            self.active_since = self.active_since.max(index);
        }
    }
}

/// What holds with any structure.
fn check_alone(descriptor: &DependencyDescriptor) {
    assert!(usize::from(descriptor.layer.spatial) < TemplateStructure::SPATIAL_LAYERS_MAX);
    assert!(usize::from(descriptor.layer.temporal) < LayerId::TEMPORAL_LAYERS_MAX);
    assert!(descriptor.references.as_slice().len() <= References::MAX);
    assert!(descriptor.references.as_slice().iter().all(|diff| *diff > 0));
}

/// What holds with the structure in use.
fn check_with_structure(descriptor: &DependencyDescriptor, state: &DependencyState) {
    let structure = state.structure().expect("a descriptor was read with it");
    assert!((1..=TemplateStructure::TEMPLATES_MAX).contains(&structure.template_count()));
    assert!(structure.chain_count() <= DecodeTargets::MAX);
    assert!(descriptor.layer.spatial <= structure.spatial_max());
    let active = state.active_targets();
    for target in structure.targets().iter() {
        let layer = structure.layer(target).expect("it is one of them");
        assert!(layer.spatial <= structure.spatial_max() && structure.target(layer) <= Some(target));
        let chain = structure.chain(target);
        assert!(chain.is_none_or(|chain| chain < structure.chain_count()));
        assert!(chain.is_none_or(|chain| descriptor.previous_in_chain(chain).is_some()));
        let is_in_chain = descriptor.is_in_chain_of(target, structure, active);
        assert!(!is_in_chain || descriptor.belongs_to(target));
        assert!(!is_in_chain || chain.is_some_and(|chain| structure.is_active_chain(chain, active)));
    }
}

/// A video layers allocation.
pub fn layers_allocation(data: &[u8]) {
    let Ok(allocation) = LayersAllocation::read(data) else {
        return;
    };
    assert!(allocation.stream() < allocation.streams() || data == [0]);
    let mut count = 0;
    for (stream, spatial, layer) in allocation.layers() {
        count += 1;
        assert!(stream < allocation.streams());
        assert_eq!(allocation.layer(stream, spatial), Some(layer));
        assert!((1..=LayersAllocation::TEMPORAL_LAYERS_MAX).contains(&layer.kbps().len()));
        assert!(layer.kbps().is_sorted());
        assert_eq!(layer.size().is_some(), allocation.has_sizes());
        assert!(layer.size().is_none_or(|(width, height)| width > 0 && height > 0));
    }
    assert!(count <= data.len(), "more layers than bytes");
}

/// The start of an RTP payload, as of every codec.
pub fn payload_descriptor(data: &[u8]) {
    if let Some(descriptor) = Vp8Descriptor::read(data) {
        assert!(descriptor.len < data.len());
        assert_eq!(descriptor.starts_frame(), keyframe::starts_frame(Codec::Vp8, data));
    }
    if let Some(descriptor) = Vp9Descriptor::read(data) {
        assert!(descriptor.len <= data.len());
        let largest = descriptor.structure.and_then(|structure| structure.largest());
        assert_eq!(largest, keyframe::picture_size(Codec::Vp9, data));
    }
    for codec in Codec::ALL {
        let size = sequence_size(codec, data);
        assert!(size.is_none_or(|(width, height)| width > 0 && height > 0));
        if let Some(shown) = payload_layer(codec, data) {
            assert!(usize::from(shown.layer.spatial) < LayerId::SPATIAL_LAYERS_MAX);
            assert!(usize::from(shown.layer.temporal) < LayerId::TEMPORAL_LAYERS_MAX);
        }
    }
}

/// Attributes of the video line of a publisher, whose layers are accepted.
pub fn sdp_layers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = format!("{PUBLISHER}{text}");
    let Ok(offer) = Offer::parse(&text) else { return };
    let Ok(agreement) = offer.negotiate(Role::Publisher) else {
        return;
    };
    let params = AnswerParams {
        ice: &IceCredentials {
            ufrag: "fuzz".into(),
            pwd: "0123456789012345678901".into(),
        },
        fingerprint: Fingerprint([7; 32]),
        candidates: &[],
        session_id: 1,
        stream: "live",
    };
    let without = agreement.write(Role::Publisher, &params);
    let agreement = agreement.with_layers();
    let with = agreement.write(Role::Publisher, &params);
    let Some(layers) = agreement.layers() else {
        assert_eq!(with, without);
        return;
    };
    check_layers(&layers);
    let added = with.len() - without.len();
    assert!(
        added <= ADDED_MAX,
        "{added} bytes for {} layers",
        layers.as_slice().len()
    );
    let lines = |prefix: &str| with.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(lines("a=simulcast:recv "), usize::from(layers.is_simulcast()));
    assert_eq!(
        lines("a=rid:"),
        layers.as_slice().iter().filter(|layer| layer.rid.is_some()).count()
    );
    // The mirror of the answer lists the same.
    let mirror = mirror(&with);
    let mirror = Offer::parse(&mirror).expect("what we write can be read");
    let mirror = mirror
        .negotiate(Role::Publisher)
        .expect("what was agreed can be agreed again");
    let again = mirror.with_layers().layers().expect("a video line");
    let rids = |layers: &SendLayers| -> Vec<_> {
        let all = layers.as_slice().iter();
        all.map(|layer| (layer.rid, layer.is_paused)).collect()
    };
    assert_eq!(rids(&again), rids(&layers));
}

/// The answer as an offer that sends what the answer receives. Only whole attributes change: rids and formats contain anything.
fn mirror(answer: &str) -> String {
    let mut offer = String::with_capacity(answer.len());
    for line in answer.lines().filter(|line| *line != "a=ice-lite") {
        if line == "a=recvonly" {
            offer += "a=sendonly";
        } else if let Some(list) = line.strip_prefix("a=simulcast:recv ") {
            offer += "a=simulcast:send ";
            offer += list;
        } else if line.starts_with("a=rid:")
            && let Some(rid) = line.strip_suffix(" recv")
        {
            offer += rid;
            offer += " send";
        } else if line.starts_with("a=extmap:") {
            offer += &line.replacen("/recvonly ", "/sendonly ", 1);
        } else {
            offer += line;
        }
        offer += "\r\n";
    }
    offer
}

fn check_layers(layers: &SendLayers) {
    let all = layers.as_slice();
    assert!((1..=SendLayers::MAX).contains(&all.len()));
    for (index, layer) in all.iter().enumerate() {
        assert_eq!(layer.rid.is_some(), layers.is_simulcast());
        assert!(
            layer.rid.is_none_or(|rid| layers.index(&rid) == Some(index)),
            "a rid twice"
        );
        assert_eq!(
            layers.index_of_stream(layer.stream.into()),
            Some(index),
            "a stream twice"
        );
        assert!(usize::from(layer.stream) >= index);
        assert!(layer.rtx_ssrc.is_none() || layer.ssrc.is_some());
    }
    let ssrcs = all.iter().flat_map(|layer| [layer.ssrc, layer.rtx_ssrc]).flatten();
    let ssrcs: Vec<_> = ssrcs.collect();
    assert!(
        ssrcs
            .iter()
            .enumerate()
            .all(|(index, ssrc)| !ssrcs[..index].contains(ssrc)),
        "an SSRC twice"
    );
    let ids = [
        layers.rid_extension(),
        layers.repaired_rid_extension(),
        layers.allocation_extension(),
    ];
    let ids: Vec<u8> = ids.into_iter().flatten().collect();
    assert!(
        ids.iter()
            .enumerate()
            .all(|(index, id)| *id != 0 && *id != 15 && !ids[..index].contains(id))
    );
    assert!(!layers.is_simulcast() || layers.rid_extension().is_some());
}

/// How far the sequence numbers of descriptors go back.
const STEP_BACK: u64 = 4;

/// Up to the attributes that are fuzzed.
const PUBLISHER: &str = "v=0\r\n\
    a=group:BUNDLE 0\r\n\
    a=ice-ufrag:fuzz\r\n\
    a=ice-pwd:0123456789012345678901\r\n\
    a=fingerprint:sha-256 07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07:07\r\n\
    a=setup:actpass\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
    a=mid:0\r\n\
    a=sendonly\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:96 VP8/90000\r\n";

/// Three header extensions, four rids of 16 bytes twice.
const ADDED_MAX: usize = 3 * 100 + 4 * (2 * 16 + 16);
