//! Fields of any number of bits, as in AV1 and its dependency descriptor (AV1 specification section 4.10, AV1 RTP specification section
//! A.8.2). Unlike NAL units they have no emulation prevention.

/// There are fewer bits than the fields have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndOfBits;

#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// `f(count)`: an unsigned number of up to 32 bits, the highest first.
    pub(super) fn bits(&mut self, count: usize) -> Result<u32, EndOfBits> {
        let end = self.at + count;
        if end > 8 * self.bytes.len() {
            return Err(EndOfBits);
        }
        let bits = (self.at..end).map(|at| self.bytes[at / 8] >> (7 - at % 8) & 1);
        let value = bits.fold(0, |value, bit| value << 1 | u32::from(bit));
        self.at = end;
        Ok(value)
    }

    pub(super) fn flag(&mut self) -> Result<bool, EndOfBits> {
        Ok(self.bits(1)? == 1)
    }

    /// `ns(values)`: a number below `values`, which is not 0; the smaller ones take one bit less.
    pub(super) fn below(&mut self, values: u32) -> Result<u32, EndOfBits> {
        let width = u32::BITS - values.leading_zeros();
        let short = (1 << width) - values;
        let value = self.bits(width as usize - 1)?;
        if value < short {
            return Ok(value);
        }
        Ok((value << 1) - short + self.bits(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_high_to_low() {
        let mut bits = BitReader::new(&[0b1010_0000, 0xff, 0x01]);
        assert_eq!((bits.bits(3), bits.bits(5)), (Ok(0b101), Ok(0)));
        assert_eq!((bits.bits(9), bits.bits(0)), (Ok(0x1fe), Ok(0)));
        assert_eq!(bits.bits(8), Err(EndOfBits));
        assert_eq!(bits.bits(7), Ok(1));
        assert_eq!(bits.flag(), Err(EndOfBits));
    }

    #[test]
    fn non_symmetric_numbers_are_those_of_the_specification() {
        for (coded, value, len) in [
            (0b0000_0000, 0, 2),
            (0b0100_0000, 1, 2),
            (0b1000_0000, 2, 2),
            (0b1100_0000, 3, 3),
        ] {
            let coded = [coded];
            let mut bits = BitReader::new(&coded);
            assert_eq!((bits.below(5), bits.at), (Ok(value), len));
        }
        let mut bits = BitReader::new(&[0b1110_0000]);
        assert_eq!((bits.below(1), bits.at), (Ok(0), 0), "one value takes no bits");
        assert_eq!((bits.below(5), bits.at), (Ok(4), 3));
        for values in 1..=33 {
            for byte in 0..=u8::MAX {
                let coded = [byte, 0xff];
                assert!(BitReader::new(&coded).below(values).unwrap() < values);
            }
        }
    }
}
