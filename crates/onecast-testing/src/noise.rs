//! Random bytes from a seed, for tests of parsers.

/// A xorshift64* generator: the same seed gives the same bytes.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    /// The generator of a seed.
    pub fn seeded(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, and callers want a number, not an option"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize) % limit
    }

    /// Up to `len_max` random bytes, often with small values, as in lengths and types.
    pub fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.below(len_max + 1);
        let mask = [0xff, 0x0f, 0x03][self.below(3)];
        (0..len)
            .map(|_| {
                let byte = self.next() >> 40;
                if self.below(4) == 0 {
                    byte as u8
                } else {
                    byte as u8 & mask
                }
            })
            .collect()
    }
}
