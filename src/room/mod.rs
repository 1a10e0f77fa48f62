//! Who publishes and who watches. Pure.

pub mod registry;
pub mod stream_name;

pub use crate::peer::SessionId;
pub use registry::{Limits, Purpose, Registry};
pub use stream_name::StreamName;
