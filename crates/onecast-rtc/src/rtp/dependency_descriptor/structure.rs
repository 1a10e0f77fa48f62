//! The template structure: what the frames of a coded video sequence have in common (AV1 RTP specification, section A.8).

use super::{ChainDiffs, DecodeTarget, DecodeTargets, DependencyError, Indication, Indications, References};
use crate::rtp::bits::BitReader;
use crate::rtp::layer_id::LayerId;

/// Templates, decode targets and chains of a coded video sequence. It comes with a keyframe, and descriptors refer to it until another
/// one comes.
///
/// About 4 KB without any allocation, so keep it in a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateStructure {
    /// Id of the first template.
    offset: u8,
    templates: [Template; TemplateStructure::TEMPLATES_MAX],
    template_count: u8,
    target_count: u8,
    target_layers: [LayerId; DecodeTargets::MAX],
    chain_count: u8,
    /// Chain of each target, if there are chains.
    protected_by: [u8; DecodeTargets::MAX],
    /// Of each spatial layer.
    sizes: Option<[(u16, u16); TemplateStructure::SPATIAL_LAYERS_MAX]>,
}

/// What most frames of one place in the structure have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Template {
    pub(super) layer: LayerId,
    pub(super) indications: Indications,
    pub(super) references: References,
    pub(super) chains: ChainDiffs,
}

impl TemplateStructure {
    /// The most templates: their ids have six bits.
    pub const TEMPLATES_MAX: usize = 64;
    /// The most spatial layers: AV1 has two bits for them, and libwebrtc refuses more for every codec.
    pub const SPATIAL_LAYERS_MAX: usize = 4;

    /// Templates, 1..=[`TemplateStructure::TEMPLATES_MAX`].
    pub fn template_count(&self) -> usize {
        usize::from(self.template_count)
    }

    /// The decode targets, at least one.
    pub fn targets(&self) -> DecodeTargets {
        DecodeTargets::first(usize::from(self.target_count))
    }

    /// The highest layers that frames of the target have. `None` where there is no such target.
    pub fn layer(&self, target: DecodeTarget) -> Option<LayerId> {
        let index = usize::from(target.0);
        (target.0 < self.target_count).then(|| self.target_layers[index])
    }

    /// The decode target whose highest layers are these; the first of several.
    pub fn target(&self, layer: LayerId) -> Option<DecodeTarget> {
        self.targets().iter().find(|target| self.layer(*target) == Some(layer))
    }

    /// Chains, 0..=[`DecodeTargets::MAX`]. Chromium's VP8 has none.
    pub fn chain_count(&self) -> usize {
        usize::from(self.chain_count)
    }

    /// The chain whose frames are all that the target must not lack.
    pub fn chain(&self, target: DecodeTarget) -> Option<usize> {
        let is_protected = target.0 < self.target_count && self.chain_count > 0;
        is_protected.then(|| usize::from(self.protected_by[usize::from(target.0)]))
    }

    /// Whether the chain protects one of the targets that the sender produces. Other chains have to be ignored (sections A.5 and A.6).
    pub fn is_active_chain(&self, chain: usize, active: DecodeTargets) -> bool {
        self.targets_of(chain).any(|target| active.contains(target))
    }

    /// The targets that the chain protects.
    pub(super) fn targets_of(&self, chain: usize) -> impl Iterator<Item = DecodeTarget> {
        let is_protected = move |target: &DecodeTarget| self.chain(*target) == Some(chain);
        self.targets().iter().filter(is_protected)
    }

    /// The highest spatial layer of the templates.
    pub fn spatial_max(&self) -> u8 {
        // Templates are in the order of their spatial layers.
        self.templates[self.template_count() - 1].layer.spatial
    }

    /// Largest width and height of a spatial layer's frames, if the structure names them.
    pub fn size(&self, spatial: u8) -> Option<(u16, u16)> {
        let sizes = self.sizes?;
        (spatial <= self.spatial_max()).then(|| sizes[usize::from(spatial)])
    }

    /// `template_dependency_structure()`
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<TemplateStructure, DependencyError> {
        let mut structure = TemplateStructure {
            offset: bits.bits(6)? as u8,
            templates: [Template::default(); TemplateStructure::TEMPLATES_MAX],
            template_count: 0,
            target_count: bits.bits(5)? as u8 + 1,
            target_layers: [LayerId::default(); DecodeTargets::MAX],
            chain_count: 0,
            protected_by: [0; DecodeTargets::MAX],
            sizes: None,
        };
        structure.read_layers(bits)?;
        let targets = usize::from(structure.target_count);
        for template in structure.used_mut() {
            template.indications = Indications::read(bits, targets)?;
        }
        for template in structure.used_mut() {
            template.references = References::read_template(bits)?;
        }
        structure.read_chains(bits)?;
        structure.find_target_layers();
        if bits.flag()? {
            let mut sizes = [(0, 0); TemplateStructure::SPATIAL_LAYERS_MAX];
            for size in &mut sizes[..=usize::from(structure.spatial_max())] {
                *size = (side(bits)?, side(bits)?);
            }
            structure.sizes = Some(sizes);
        }
        Ok(structure)
    }

    /// The template with this id.
    pub(super) fn template(&self, id: u8) -> Result<&Template, DependencyError> {
        let index = usize::from(id.wrapping_sub(self.offset)) % TemplateStructure::TEMPLATES_MAX;
        self.templates[..self.template_count()]
            .get(index)
            .ok_or(DependencyError::UnknownTemplate)
    }

    fn used_mut(&mut self) -> &mut [Template] {
        &mut self.templates[..usize::from(self.template_count)]
    }

    /// `template_layers()`
    fn read_layers(&mut self, bits: &mut BitReader<'_>) -> Result<(), DependencyError> {
        let mut layer = LayerId::default();
        for template in &mut self.templates {
            template.layer = layer;
            self.template_count += 1;
            match bits.bits(2)? {
                0 => {}
                1 => layer.temporal += 1,
                2 => layer = LayerId::new(layer.spatial + 1, 0),
                _ => return Ok(()),
            }
            if usize::from(layer.spatial) == TemplateStructure::SPATIAL_LAYERS_MAX
                || usize::from(layer.temporal) == LayerId::TEMPORAL_LAYERS_MAX
            {
                return Err(DependencyError::TooManyLayers);
            }
        }
        Err(DependencyError::TooManyTemplates)
    }

    /// `template_chains()`
    fn read_chains(&mut self, bits: &mut BitReader<'_>) -> Result<(), DependencyError> {
        self.chain_count = bits.below(u32::from(self.target_count) + 1)? as u8;
        if self.chain_count == 0 {
            return Ok(());
        }
        for chain in &mut self.protected_by[..usize::from(self.target_count)] {
            *chain = bits.below(self.chain_count.into())? as u8;
        }
        let chains = self.chain_count();
        for template in self.used_mut() {
            template.chains = ChainDiffs::read(bits, chains, 4)?;
        }
        Ok(())
    }

    /// `decode_target_layers()`: the highest layers of all templates that a target has.
    fn find_target_layers(&mut self) {
        for target in self.targets().iter() {
            let layer = &mut self.target_layers[usize::from(target.0)];
            for template in &self.templates[..usize::from(self.template_count)] {
                if template.indications.of(target) != Indication::NotPresent {
                    layer.spatial = layer.spatial.max(template.layer.spatial);
                    layer.temporal = layer.temporal.max(template.layer.temporal);
                }
            }
        }
    }
}

/// A width or a height, coded as one less.
fn side(bits: &mut BitReader<'_>) -> Result<u16, DependencyError> {
    let less_one = bits.bits(16)?;
    u16::try_from(less_one + 1).map_err(|_| DependencyError::PictureTooLarge)
}
