//! The only meeting point: runs the registry's commands against shards, feeds events back.
