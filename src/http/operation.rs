//! What operators see and do.

pub use onecast_control::port::{Condition, DrainState, Operation};
