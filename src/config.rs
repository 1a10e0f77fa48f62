//! The configuration: what may be set, from where, and its defaults.
