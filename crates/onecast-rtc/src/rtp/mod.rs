//! RTP and RTCP on the wire: headers, sequence numbers, codecs, keyframes, reports. Pure.

pub mod codec;
pub mod header;
pub mod keyframe;
#[doc(hidden)]
pub mod noise;
mod picture;
pub mod refresh;
pub mod rtcp;
pub mod seq;

pub use codec::{Codec, Kind};
pub use header::{HeaderOut, RtpError, RtpHeader};
pub use refresh::Refresh;
pub use seq::SequenceExtender;
