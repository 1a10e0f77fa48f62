//! Keyframe detection per codec, from the RTP payload alone.
