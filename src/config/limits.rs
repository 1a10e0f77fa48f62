//! Options that bound sessions, and of how the server ends.

use clap::Args;

/// Options that bound sessions, and of how the server ends.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {}
