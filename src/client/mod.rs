//! Command-line clients on the full webrtc peer: publish and watch.

pub mod test_card;
