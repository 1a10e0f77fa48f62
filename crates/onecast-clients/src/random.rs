//! Random numbers for RTP, which begins at random places (RFC 3550 section 5.1).

/// A random number.
pub(crate) fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    u32::from_be_bytes(bytes)
}
