//! A VP8 encoder (RFC 6386) for pictures made of flat macroblocks: 16 x 16 squares of one colour each.
//!
//! Such a picture needs no transform: a square is predicted from its neighbours (DC_PRED) and corrected by one coefficient per plane,
//! which is exact at the finest quantizer. An unchanged square is copied from the previous frame. Decoders therefore reproduce the picture
//! bit by bit.

use super::tables::{COEFFICIENT_UPDATE, COEFFICIENTS, MOTION_VECTOR_UPDATE};

/// Y, U and V of a square.
pub type Colour = [u8; 3];

/// Encodes pictures of one size.
#[derive(Debug, Clone)]
pub struct Encoder {
    columns: usize,
    rows: usize,
    width: u16,
    height: u16,
    shown: Option<Vec<Colour>>,
}

impl Encoder {
    /// An encoder for pictures of `width` x `height` pixels (1..=16,383 each); squares at the right and bottom edge are cut off.
    pub fn new(width: u16, height: u16) -> Encoder {
        let squares = |pixels: u16| usize::from(pixels).div_ceil(16);
        Encoder {
            columns: squares(width),
            rows: squares(height),
            width,
            height,
            shown: None,
        }
    }

    /// Squares in a row, and rows.
    pub fn squares(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// Encodes a picture, row by row. The first one is always a keyframe.
    ///
    /// # Panics
    /// When the number of squares is not columns x rows.
    pub fn encode(&mut self, picture: &[Colour], keyframe: bool) -> Vec<u8> {
        assert_eq!(picture.len(), self.columns * self.rows, "one colour for each square");
        let before = if keyframe { None } else { self.shown.take() };
        let frame = Frame {
            columns: self.columns,
            picture,
            before: before.as_deref(),
        };
        let (modes, tokens) = frame.write();
        self.shown = Some(picture.to_vec());
        self.assemble(before.is_none(), &modes, &tokens)
    }

    /// Frame tag, start code and size (section 9.1), then the two partitions.
    fn assemble(&self, keyframe: bool, modes: &[u8], tokens: &[u8]) -> Vec<u8> {
        let tag = u32::from(!keyframe) | (1 << 4) | ((modes.len() as u32) << 5);
        let mut out = tag.to_le_bytes()[..3].to_vec();
        if keyframe {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend(self.width.to_le_bytes());
            out.extend(self.height.to_le_bytes());
        }
        out.extend_from_slice(modes);
        out.extend_from_slice(tokens);
        out
    }
}

/// One frame on its way into bits.
struct Frame<'a> {
    columns: usize,
    picture: &'a [Colour],
    /// The previous picture; `None` for a keyframe.
    before: Option<&'a [Colour]>,
}

/// Whether a plane's last block above or to the left had coefficients: luma, two of chroma (Y2 stands for luma).
type Context = [bool; 3];

impl Frame<'_> {
    fn write(&self) -> (Vec<u8>, Vec<u8>) {
        let mut modes = BoolWriter::default();
        let mut tokens = BoolWriter::default();
        self.write_header(&mut modes);
        let mut above = vec![Context::default(); self.columns];
        let mut left = Context::default();
        for (at, _) in self.picture.iter().enumerate() {
            let column = at % self.columns;
            if column == 0 {
                left = Context::default();
            }
            if self.is_copied(at) {
                self.write_copied(&mut modes, at);
                (above[column], left) = (Context::default(), Context::default());
                continue;
            }
            let correction = self.correction(at);
            let skipped = correction == [0; 3];
            self.write_intra(&mut modes, skipped);
            if skipped {
                (above[column], left) = (Context::default(), Context::default());
            } else {
                write_tokens(&mut tokens, correction, &mut above[column], &mut left);
            }
        }
        (modes.finish(), tokens.finish())
    }

    /// Section 9.2 to 9.11: no segments, no loop filter, one token partition, the finest quantizer, all probabilities by default.
    fn write_header(&self, out: &mut BoolWriter) {
        let keyframe = self.before.is_none();
        if keyframe {
            out.literal(0, 2); // colour space, clamping
        }
        out.literal(0, 1); // segmentation
        out.literal(0, 1 + 6 + 3); // filter type, level, sharpness
        out.literal(0, 1); // filter deltas
        out.literal(0, 2); // one token partition
        out.literal(0, 7 + 5); // quantizer index and no deltas
        if keyframe {
            out.literal(1, 1); // keep the probabilities
        } else {
            out.literal(0, 2); // golden and alternate frames stay
            out.literal(0, 4); // and are not copied to
            out.literal(0, 2); // sign biases
            out.literal(1, 1); // keep the probabilities
            out.literal(1, 1); // this is the next frame's reference
        }
        COEFFICIENT_UPDATE
            .iter()
            .for_each(|&probability| out.bit(false, probability));
        out.literal(1, 1); // squares may be without coefficients
        out.literal(SKIP.into(), 8);
        if !keyframe {
            out.literal(INTRA.into(), 8);
            out.literal(LAST.into(), 8);
            out.literal(128, 8); // golden, never chosen
            out.literal(0, 2); // mode probabilities stay
            MOTION_VECTOR_UPDATE
                .iter()
                .for_each(|&probability| out.bit(false, probability));
        }
    }

    fn is_copied(&self, at: usize) -> bool {
        self.before.is_some_and(|before| before[at] == self.picture[at])
    }

    /// An unchanged square: last frame, motion vector zero, no coefficients.
    fn write_copied(&self, out: &mut BoolWriter, at: usize) {
        out.bit(true, SKIP);
        out.bit(true, INTRA);
        out.bit(false, LAST);
        // Section 18.3: the neighbours' vectors, all zero where there are any, choose the probability.
        let column = at % self.columns;
        let copied = |neighbour: Option<usize>| neighbour.is_some_and(|neighbour| self.is_copied(neighbour));
        let above = at.checked_sub(self.columns);
        let left = (column > 0).then(|| at - 1);
        let above_left = above.filter(|_| column > 0).map(|above| above - 1);
        let near = 2 * usize::from(copied(above)) + 2 * usize::from(copied(left)) + usize::from(copied(above_left));
        out.bit(false, ZERO_MOTION[near]);
    }

    /// DC_PRED for luma and chroma.
    fn write_intra(&self, out: &mut BoolWriter, skipped: bool) {
        out.bit(skipped, SKIP);
        if self.before.is_some() {
            out.bit(false, INTRA);
            out.bit(false, 112);
            out.bit(false, 162);
        } else {
            out.bit(true, 145);
            out.bit(false, 156);
            out.bit(false, 163);
            out.bit(false, 142);
        }
    }

    /// Difference to the prediction from the squares above and to the left (section 12.2): their mean, rounded up; 128 without neighbours.
    fn correction(&self, at: usize) -> [i32; 3] {
        let above = at.checked_sub(self.columns).map(|at| self.picture[at]);
        let left = (!at.is_multiple_of(self.columns)).then(|| self.picture[at - 1]);
        std::array::from_fn(|plane| {
            let values = [above, left]
                .into_iter()
                .flatten()
                .map(|colour| i32::from(colour[plane]));
            let count = values.clone().count() as i32;
            let predicted = if count == 0 {
                128
            } else {
                (values.sum::<i32>() + count - 1) / count
            };
            i32::from(self.picture[at][plane]) - predicted
        })
    }
}

/// The coefficients of one square (section 13): one of Y2, none of 16 Y blocks, one of each of 4 U and 4 V blocks.
///
/// At quantizer index 0 the Y2 step of 8 makes a coefficient of 8 d a difference of d in every pixel, and the chroma step of 4
/// makes it 2 d.
fn write_tokens(out: &mut BoolWriter, correction: [i32; 3], above: &mut Context, left: &mut Context) {
    let [luma, u, v] = correction;
    write_block(out, Y2, 8 * luma, usize::from(above[0]) + usize::from(left[0]));
    (above[0], left[0]) = (luma != 0, luma != 0);
    for _ in 0..16 {
        // Begins at the second coefficient, and ends there.
        out.bit(false, probability(Y_AFTER_Y2, 1, 0, 0));
    }
    for (plane, value) in [(1, u), (2, v)] {
        let any = value != 0;
        for (from_above, from_left) in [
            (above[plane], left[plane]),
            (above[plane], any),
            (any, left[plane]),
            (any, any),
        ] {
            write_block(out, CHROMA, 2 * value, usize::from(from_above) + usize::from(from_left));
        }
        (above[plane], left[plane]) = (any, any);
    }
}

/// A block with at most its first coefficient.
fn write_block(out: &mut BoolWriter, block_type: usize, value: i32, context: usize) {
    let node = |node| probability(block_type, 0, context, node);
    if value == 0 {
        return out.bit(false, node(0));
    }
    out.bit(true, node(0));
    out.bit(true, node(1));
    let size = value.unsigned_abs();
    write_size(out, size, &node);
    out.bit(value < 0, 128);
    let next = if size == 1 { 1 } else { 2 };
    out.bit(false, probability(block_type, 1, next, 0));
}

/// The tree of section 13.2 below "not zero".
fn write_size(out: &mut BoolWriter, size: u32, node: &impl Fn(usize) -> u8) {
    if size == 1 {
        return out.bit(false, node(2));
    }
    out.bit(true, node(2));
    if size <= 4 {
        out.bit(false, node(3));
        out.bit(size > 2, node(4));
        if size > 2 {
            out.bit(size == 4, node(5));
        }
        return;
    }
    out.bit(true, node(3));
    let category = CATEGORIES.iter().rposition(|(base, _)| size >= *base).unwrap_or(0);
    out.bit(category >= 2, node(6));
    match category {
        0 | 1 => out.bit(category == 1, node(7)),
        _ => {
            out.bit(category >= 4, node(8));
            out.bit(category % 2 == 1, node(if category >= 4 { 10 } else { 9 }));
        }
    }
    let (base, probabilities) = CATEGORIES[category];
    for (place, &probability) in probabilities.iter().enumerate() {
        out.bit(
            ((size - base) >> (probabilities.len() - 1 - place)) & 1 == 1,
            probability,
        );
    }
}

fn probability(block_type: usize, band: usize, context: usize, node: usize) -> u8 {
    COEFFICIENTS[((block_type * 8 + band) * 3 + context) * 11 + node]
}

/// The boolean entropy encoder of section 7.3.
#[derive(Debug)]
struct BoolWriter {
    out: Vec<u8>,
    range: u32,
    bottom: u32,
    bits_left: u32,
}

impl Default for BoolWriter {
    fn default() -> BoolWriter {
        BoolWriter {
            out: Vec::new(),
            range: 255,
            bottom: 0,
            bits_left: 24,
        }
    }
}

impl BoolWriter {
    /// One bit that is 0 with a chance of `probability` in 256.
    fn bit(&mut self, value: bool, probability: u8) {
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        if value {
            let (bottom, carry) = self.bottom.overflowing_add(split);
            self.bottom = bottom;
            self.range -= split;
            if carry {
                self.carry();
            }
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            if self.bottom & (1 << 31) != 0 {
                self.carry();
            }
            self.bottom <<= 1;
            self.bits_left -= 1;
            if self.bits_left == 0 {
                self.out.push((self.bottom >> 24) as u8);
                self.bottom &= (1 << 24) - 1;
                self.bits_left = 8;
            }
        }
    }

    /// Bits of an unsigned number, highest first.
    fn literal(&mut self, value: u32, bits: u32) {
        (0..bits).rev().for_each(|bit| self.bit((value >> bit) & 1 == 1, 128));
    }

    fn carry(&mut self) {
        for byte in self.out.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.literal(0, 32);
        self.out
    }
}

/// Chance that a square has coefficients.
const SKIP: u8 = 64;
/// Chance that a square of an inter frame is coded by itself.
const INTRA: u8 = 32;
/// Chance that the reference is the last frame.
const LAST: u8 = 255;
/// Chance of "no motion" by what is near (section 18.3, mode contexts, first column).
const ZERO_MOTION: [u8; 6] = [7, 14, 135, 60, 159, 234];
const Y_AFTER_Y2: usize = 0;
const Y2: usize = 1;
const CHROMA: usize = 2;
/// Smallest value of each category and the probabilities of its extra bits (section 13.2).
const CATEGORIES: [(u32, &[u8]); 6] = [
    (5, &[159]),
    (7, &[165, 145]),
    (11, &[173, 148, 140]),
    (19, &[176, 155, 140, 135]),
    (35, &[180, 157, 141, 134, 130]),
    (67, &[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129]),
];
