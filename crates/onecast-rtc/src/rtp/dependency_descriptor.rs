//! The dependency descriptor: a header extension that tells a forwarder where a packet's frame stands among the layers of its stream, for
//! every codec (AV1 RTP specification, appendix A).
//!
//! ```text
//!  |S|E|template id| frame number                  |   S, E: first, last packet of the frame
//!  |structure|active|dtis|fdiffs|chains| ...           only if there are more than three bytes
//! ```
//!
//! A frame is one spatial layer of a picture. A *decode target* is a selection of frames that can be decoded without the others, such as
//! everything up to S1T2. A *chain* is the sequence of frames that a target must not lack. Most descriptors only name a template of the
//! [`TemplateStructure`] that came with the last keyframe.
//!
//! In a simulcast line of Chromium and Firefox all streams share one sequence of frame numbers: gaps in one stream are normal there.

mod structure;
#[cfg(test)]
mod tests;

pub use structure::TemplateStructure;

use super::bits::{BitReader, EndOfBits};
use super::layer_id::LayerId;
use super::seq::SeqIndex;

/// Why bytes are not a dependency descriptor, or not one that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// Shorter than its fields.
    #[error("truncated dependency descriptor")]
    Truncated,
    /// It refers to a template, but no structure has come yet. This may pass: a retransmission may still bring the structure.
    #[error("dependency descriptor before the first template structure")]
    NoStructure,
    /// The structure in use has no template with its id: the packet with another structure was lost, or is late. This may pass, as with
    /// [`DependencyError::NoStructure`].
    #[error("dependency descriptor with a template that the structure does not have")]
    UnknownTemplate,
    /// More than [`TemplateStructure::TEMPLATES_MAX`].
    #[error("template structure with more than 64 templates")]
    TooManyTemplates,
    /// More than [`TemplateStructure::SPATIAL_LAYERS_MAX`] spatial or [`LayerId::TEMPORAL_LAYERS_MAX`] temporal layers.
    #[error("template structure with more than 4 spatial or 8 temporal layers")]
    TooManyLayers,
    /// More than [`References::MAX`].
    #[error("dependency descriptor of a frame that refers to more than 8 others")]
    TooManyReferences,
    /// 65,536 pixels wide or high.
    #[error("template structure with pictures of more than 65,535 pixels in width or height")]
    PictureTooLarge,
}

/// What is kept for one source: the structure in use, and the targets that the sender produces. The structure is allocated once, with
/// the first keyframe.
#[derive(Debug, Clone, Default)]
pub struct DependencyState {
    structure: Option<Box<TemplateStructure>>,
    /// The packet that brought it.
    structure_since: SeqIndex,
    active: DecodeTargets,
    active_since: SeqIndex,
}

/// The descriptor of one packet. All packets of a frame say the same about the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// The first packet of the frame. Another spatial layer of the picture may come before it.
    pub starts_frame: bool,
    /// The last packet of the frame. Another spatial layer of the picture may follow.
    pub ends_frame: bool,
    /// Grows with each frame in decoding order, and wraps.
    pub frame_number: u16,
    /// The frame's own layers.
    pub layer: LayerId,
    /// Largest width and height of frames of the spatial layer, if the structure names them.
    pub size: Option<(u16, u16)>,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// The frames that it refers to.
    pub references: References,
    /// The frame before it in each chain.
    pub chains: ChainDiffs,
    /// The targets that the sender produces from here on, where this packet says so.
    pub active_targets: Option<DecodeTargets>,
    /// The packet brings a template structure: a coded video sequence begins with its frame.
    pub brings_structure: bool,
}

/// Index of a decode target, below [`DecodeTargets::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecodeTarget(pub u8);

/// A set of decode targets: bit n stands for target n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DecodeTargets(pub u32);

/// What a frame is to a decode target (table A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Indication {
    /// It does not belong to the target.
    NotPresent,
    /// Later frames of the target do not refer to it.
    Discardable,
    /// If this frame can be decoded, so can all later ones of the target: a receiver may switch to the target here.
    Switch,
    /// Later frames of the target refer to it.
    Required,
}

/// The [`Indication`]s of a frame, two bits for each target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indications(u64);

/// How far back in frame numbers the frames lie that a frame refers to; none for a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct References {
    diffs: [u16; References::MAX],
    len: u8,
}

/// How far back in frame numbers the previous frame of each chain lies; 0 where the chain needs no previous frame. The frame itself need
/// not be in the chain. Chains without an [active target](TemplateStructure::is_active_chain) have to be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainDiffs {
    diffs: [u8; DecodeTargets::MAX],
    len: u8,
}

/// The frame number of a descriptor, which needs no template structure; `None` if it is truncated.
pub fn frame_number(value: &[u8]) -> Option<u16> {
    let (_, number) = value.split_first()?;
    Some(u16::from_be_bytes(*number.first_chunk()?))
}

/// Gives a descriptor another frame number. One that is truncated stays as it is.
pub fn set_frame_number(value: &mut [u8], number: u16) {
    if let Some(bytes) = value.get_mut(1..3) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

impl DependencyState {
    /// Reads the descriptor of a packet of the source, and keeps the structure and the active targets if it brings them. `index` is the
    /// packet's extended sequence number: a late packet does not replace what a later one has brought.
    ///
    /// # Errors
    /// The value is not a descriptor, or one that needs another structure. What is kept stays as it is.
    pub fn read(&mut self, index: SeqIndex, value: &[u8]) -> Result<DependencyDescriptor, DependencyError> {
        let (head, mut bits) = Head::read(value)?;
        let descriptor = if head.has_structure {
            let structure = TemplateStructure::read(&mut bits)?;
            let descriptor = head.frame(bits, &structure)?;
            self.keep(index, structure);
            descriptor
        } else {
            let structure = self.structure.as_deref().ok_or(DependencyError::NoStructure)?;
            head.frame(bits, structure)?
        };
        if let Some(active) = descriptor.active_targets
            && index >= self.active_since
        {
            (self.active, self.active_since) = (active, index);
        }
        Ok(descriptor)
    }

    /// The structure in use; `None` before the first keyframe.
    pub fn structure(&self) -> Option<&TemplateStructure> {
        self.structure.as_deref()
    }

    /// The targets that the sender produces; none before the first keyframe.
    pub fn active_targets(&self) -> DecodeTargets {
        self.active
    }

    fn keep(&mut self, index: SeqIndex, structure: TemplateStructure) {
        match &mut self.structure {
            Some(_) if index < self.structure_since => return,
            Some(kept) => **kept = structure,
            None => self.structure = Some(Box::new(structure)),
        }
        self.structure_since = index;
    }
}

impl DependencyDescriptor {
    /// Whether a receiver of the target needs the frame, or may use it.
    #[inline]
    pub fn belongs_to(&self, target: DecodeTarget) -> bool {
        self.indications.of(target) != Indication::NotPresent
    }

    /// Whether a receiver that can decode this frame may go over to the target here.
    #[inline]
    pub fn is_switch_to(&self, target: DecodeTarget) -> bool {
        self.indications.of(target) == Indication::Switch
    }

    /// Whether the frame refers to no other. Not every such frame is a keyframe: [`Self::brings_structure`] tells.
    #[inline]
    pub fn is_independent(&self) -> bool {
        self.references.len == 0
    }

    /// Number of the frame before this one in the chain, its own where the chain needs no previous frame; `None` where there is no such
    /// chain. It says nothing about a chain without an [active target](TemplateStructure::is_active_chain).
    pub fn previous_in_chain(&self, chain: usize) -> Option<u16> {
        let diff = self.chains.get(chain)?;
        Some(self.frame_number.wrapping_sub(diff.into()))
    }

    /// Whether the frame is in the chain that protects the target (section A.6), so that its loss breaks the target. A chain without an
    /// [active target](TemplateStructure::is_active_chain) has no frames; `active` are the targets that the sender produces.
    pub fn is_in_chain_of(&self, target: DecodeTarget, structure: &TemplateStructure, active: DecodeTargets) -> bool {
        let is_active = |chain: &usize| structure.is_active_chain(*chain, active);
        let Some(chain) = structure.chain(target).filter(is_active) else {
            return false;
        };
        let needs_frame = |other| matches!(self.indications.of(other), Indication::Switch | Indication::Required);
        structure.targets_of(chain).all(needs_frame)
    }
}

impl DecodeTargets {
    /// The most decode targets: their number has five bits.
    pub const MAX: usize = 32;

    /// The first `count` targets; all of them for [`DecodeTargets::MAX`] and more.
    pub const fn first(count: usize) -> DecodeTargets {
        match count {
            0 => DecodeTargets(0),
            count => DecodeTargets(u32::MAX >> DecodeTargets::MAX.saturating_sub(count)),
        }
    }

    /// Whether the target is one of them.
    #[inline]
    pub const fn contains(self, target: DecodeTarget) -> bool {
        (target.0 as usize) < DecodeTargets::MAX && self.0 >> target.0 & 1 == 1
    }

    /// From the lowest to the highest.
    pub fn iter(self) -> impl Iterator<Item = DecodeTarget> {
        (0..DecodeTargets::MAX as u8)
            .map(DecodeTarget)
            .filter(move |target| self.contains(*target))
    }
}

impl Indications {
    /// What the frame is to this target; not present where there is no such target.
    #[inline]
    pub const fn of(self, target: DecodeTarget) -> Indication {
        if target.0 as usize >= DecodeTargets::MAX {
            return Indication::NotPresent;
        }
        match self.0 >> (2 * target.0) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// `template_dti`, `frame_dtis()`
    fn read(bits: &mut BitReader<'_>, targets: usize) -> Result<Indications, DependencyError> {
        let mut indications = 0;
        for target in 0..targets {
            indications |= u64::from(bits.bits(2)?) << (2 * target);
        }
        Ok(Indications(indications))
    }
}

impl References {
    /// The most references of a frame. AV1 has seven at most (AV1 specification section 3), and libwebrtc's encoders have eight buffers.
    pub const MAX: usize = 8;

    /// Distances in frame numbers, 1..=4,096.
    pub fn as_slice(&self) -> &[u16] {
        &self.diffs[..usize::from(self.len)]
    }

    fn push(&mut self, diff: u32) -> Result<(), DependencyError> {
        let slot = self.diffs.get_mut(usize::from(self.len));
        // At most 12 bits and one more.
        *slot.ok_or(DependencyError::TooManyReferences)? = diff as u16;
        self.len += 1;
        Ok(())
    }

    /// `template_fdiffs()` of one template.
    fn read_template(bits: &mut BitReader<'_>) -> Result<References, DependencyError> {
        let mut references = References::default();
        while bits.flag()? {
            references.push(bits.bits(4)? + 1)?;
        }
        Ok(references)
    }

    /// `frame_fdiffs()`
    fn read_frame(bits: &mut BitReader<'_>) -> Result<References, DependencyError> {
        let mut references = References::default();
        loop {
            match bits.bits(2)? as usize {
                0 => return Ok(references),
                size => references.push(bits.bits(4 * size)? + 1)?,
            }
        }
    }
}

impl ChainDiffs {
    /// Distance to the previous frame of the chain; `None` where there is no such chain.
    pub fn get(&self, chain: usize) -> Option<u8> {
        self.diffs[..usize::from(self.len)].get(chain).copied()
    }

    /// `template_chain_fdiff`, `frame_chains()`
    fn read(bits: &mut BitReader<'_>, chains: usize, width: usize) -> Result<ChainDiffs, DependencyError> {
        let mut diffs = ChainDiffs::default();
        for diff in &mut diffs.diffs[..chains] {
            *diff = bits.bits(width)? as u8;
        }
        diffs.len = chains as u8;
        Ok(diffs)
    }
}

impl From<EndOfBits> for DependencyError {
    fn from(_: EndOfBits) -> DependencyError {
        DependencyError::Truncated
    }
}

/// `mandatory_descriptor_fields()`, and the flags of the extended ones.
#[derive(Debug, Clone, Copy)]
struct Head {
    starts_frame: bool,
    ends_frame: bool,
    template: u8,
    frame_number: u16,
    has_structure: bool,
    has_active_targets: bool,
    has_indications: bool,
    has_references: bool,
    has_chains: bool,
}

impl Head {
    /// The head, and what follows it: first the structure, if there is one.
    fn read(value: &[u8]) -> Result<(Head, BitReader<'_>), DependencyError> {
        let (&[first, number @ ..], extended) = value.split_first_chunk::<3>().ok_or(DependencyError::Truncated)?;
        let flags = extended.first().copied().unwrap_or(0);
        let mut bits = BitReader::new(extended);
        if !extended.is_empty() {
            bits.bits(5)?;
        }
        let head = Head {
            starts_frame: first & 0x80 != 0,
            ends_frame: first & 0x40 != 0,
            template: first & 0x3f,
            frame_number: u16::from_be_bytes(number),
            has_structure: flags & 0x80 != 0,
            has_active_targets: flags & 0x40 != 0,
            has_indications: flags & 0x20 != 0,
            has_references: flags & 0x10 != 0,
            has_chains: flags & 0x08 != 0,
        };
        Ok((head, bits))
    }

    /// The rest of the extended fields and `frame_dependency_definition()`.
    fn frame(
        self,
        mut bits: BitReader<'_>,
        structure: &TemplateStructure,
    ) -> Result<DependencyDescriptor, DependencyError> {
        let targets = structure.targets();
        let count = targets.0.count_ones() as usize;
        let active_targets = if self.has_active_targets {
            Some(DecodeTargets(bits.bits(count)?))
        } else {
            self.has_structure.then_some(targets)
        };
        let template = structure.template(self.template)?;
        let mut descriptor = DependencyDescriptor {
            starts_frame: self.starts_frame,
            ends_frame: self.ends_frame,
            frame_number: self.frame_number,
            layer: template.layer,
            size: structure.size(template.layer.spatial),
            indications: template.indications,
            references: template.references,
            chains: template.chains,
            active_targets,
            brings_structure: self.has_structure,
        };
        if self.has_indications {
            descriptor.indications = Indications::read(&mut bits, count)?;
        }
        if self.has_references {
            descriptor.references = References::read_frame(&mut bits)?;
        }
        if self.has_chains {
            descriptor.chains = ChainDiffs::read(&mut bits, structure.chain_count(), 8)?;
        }
        Ok(descriptor)
    }
}
