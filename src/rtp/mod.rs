//! RTP and RTCP on the wire: headers, sequence numbers, codecs, keyframes, reports. Pure.

pub mod codec;
pub mod header;
pub mod keyframe;
pub mod rtcp;
pub mod seq;

pub use codec::{Codec, Kind};
