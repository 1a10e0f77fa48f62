//! RTP and RTCP on the wire: headers, sequence numbers, codecs, keyframes, reports.

mod bits;
pub mod codec;
pub mod dependency_descriptor;
pub mod header;
mod ids;
pub mod keyframe;
mod layer_id;
pub mod payload_descriptor;
mod picture;
#[cfg(test)]
mod recorded;
pub mod refresh;
pub mod rtcp;
pub mod seq;
pub mod sequence_size;
pub mod video_layers_allocation;

pub use codec::{Codec, Kind};
pub use header::{HeaderOut, RtpError, RtpHeader};
pub use ids::{Mid, Pt, Rid, RtpTime, Ssrc};
pub use layer_id::LayerId;
pub use refresh::Refresh;
pub use seq::{SeqIndex, SequenceExtender};
