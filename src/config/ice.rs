//! Options of the STUN and TURN servers that clients are told of.

use clap::Args;

/// Options of the STUN and TURN servers that clients are told of.
#[derive(Debug, Clone, Args)]
pub struct IceArgs {}
