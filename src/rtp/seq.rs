//! Sequence numbers extended once, at the door, to 64 bits.
