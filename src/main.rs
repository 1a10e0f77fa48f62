//! The `onecast` command.

fn main() {}
