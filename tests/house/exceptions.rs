//! What does not meet a rule yet. The lists only shrink: an entry that is no longer needed fails its test.

/// Files that import by glob.
pub(crate) const GLOBS: &[&str] = &[];

/// Crates and their repeated type names.
pub(crate) const REPEATED_TYPES: &[&str] = &[];

/// Files of pure crates and what they name.
pub(crate) const WORLDLY_NAMES: &[&str] = &[];

/// Files with unsafe code, and crates that do not forbid it.
pub(crate) const UNSAFE_CODE: &[&str] = &[];

/// Modules and what they use although it is declared further down.
pub(crate) const UPWARD_USES: &[&str] = &[];
