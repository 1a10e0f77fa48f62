//! The built-in test card: colour bars with a running timecode, and a row of squares that programs can read.
//!
//! It is encoded here rather than played from a file, because its number counts up without end and continues across keyframes that a
//! server requests at any time.
//!
//! ```text
//! +------------------------------------------+
//! |  colour bars                             |
//! |      MM:SS:FF in digits of 3 x 5 squares |
//! |  a square that runs from left to right   |
//! |  32 squares: the frame's number, highest |
//! |  bit first; white is 1, black is 0       |
//! +------------------------------------------+
//! ```

mod tables;
mod vp8;

pub use vp8::{Colour, Encoder};

/// The test card's pictures.
#[derive(Debug, Clone)]
pub struct TestCard {
    encoder: Encoder,
    /// Squares of the encoder along each side of a square of the card.
    size: usize,
    frame: u32,
}

impl TestCard {
    /// Width, pixels: 40 squares.
    pub const WIDTH: u16 = 640;
    /// Height, pixels: 22 squares and a half.
    pub const HEIGHT: u16 = 360;
    /// Frames a second.
    pub const FRAME_RATE: u32 = 30;
    /// The row of squares that carries the frame's number.
    pub const NUMBER_ROW: usize = 20;
    /// The column of its first square.
    pub const NUMBER_COLUMN: usize = 4;

    /// A test card before its first frame.
    pub fn new() -> TestCard {
        TestCard::sized(1)
    }

    /// The same card with `size` times the width and height, 1..=16.
    pub fn sized(size: u16) -> TestCard {
        let size = size.clamp(1, 16);
        TestCard {
            encoder: Encoder::new(TestCard::WIDTH * size, TestCard::HEIGHT * size),
            size: size.into(),
            frame: 0,
        }
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (u16, u16) {
        let size = self.size as u16;
        (TestCard::WIDTH * size, TestCard::HEIGHT * size)
    }

    /// The next frame as VP8, as a keyframe if requested.
    pub fn next_frame(&mut self, keyframe: bool) -> Vec<u8> {
        let picture = self.picture();
        self.frame = self.frame.wrapping_add(1);
        self.encoder.encode(&picture, keyframe)
    }

    /// The picture of the next frame, row by row: the colour of each square of 16 x 16 pixels.
    pub fn picture(&self) -> Vec<Colour> {
        let card = self.card();
        let (columns, rows) = self.encoder.squares();
        let square = |at: usize| card[at / columns / self.size * COLUMNS + at % columns / self.size];
        (0..columns * rows).map(square).collect()
    }

    /// The picture at its usual size.
    fn card(&self) -> Vec<Colour> {
        let (columns, rows) = (COLUMNS, ROWS);
        let mut picture: Vec<Colour> = (0..columns * rows)
            .map(|at| BARS[at % columns * BARS.len() / columns])
            .collect();
        let mut fill = |left: usize, top: usize, width: usize, height: usize, colour| {
            for row in top..top + height {
                picture[row * columns + left..][..width].fill(colour);
            }
        };
        fill(2, 6, 36, 9, PANEL);
        for (place, symbol) in self.timecode().into_iter().enumerate() {
            for (row, bits) in FONT[symbol].into_iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    fill(4 + 4 * place + column, 8 + row, 1, 1, WHITE);
                }
            }
        }
        fill(0, 17, columns, 1, BLACK);
        fill(self.frame as usize % columns, 17, 1, 1, WHITE);
        fill(0, TestCard::NUMBER_ROW - 1, columns, 3, BLACK);
        for bit in (0..32).filter(|bit| self.frame >> (31 - bit) & 1 == 1) {
            fill(TestCard::NUMBER_COLUMN + bit, TestCard::NUMBER_ROW, 1, 1, WHITE);
        }
        picture
    }

    /// `MM:SS:FF` as indices into the font.
    fn timecode(&self) -> [usize; 8] {
        let (seconds, frame) = (self.frame / TestCard::FRAME_RATE, self.frame % TestCard::FRAME_RATE);
        let digits = |number: u32| [(number / 10 % 10) as usize, (number % 10) as usize];
        let [[a, b], [c, d], [e, f]] = [digits(seconds / 60), digits(seconds % 60), digits(frame)];
        [a, b, COLON, c, d, COLON, e, f]
    }
}

impl Default for TestCard {
    fn default() -> TestCard {
        TestCard::new()
    }
}

/// Squares in a row.
const COLUMNS: usize = TestCard::WIDTH as usize / 16;
/// Rows of squares, of which the last is cut off.
const ROWS: usize = (TestCard::HEIGHT as usize).div_ceil(16);
const BLACK: Colour = [16, 128, 128];
const WHITE: Colour = [235, 128, 128];
const PANEL: Colour = [32, 132, 126];
/// White, yellow, cyan, green, magenta, red, blue and grey, at 75 %.
const BARS: [Colour; 8] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
    [96, 128, 128],
];
/// Digits and a colon, five rows of three squares.
const FONT: [[u8; 5]; 11] = [
    [0b111, 0b101, 0b101, 0b101, 0b111],
    [0b010, 0b110, 0b010, 0b010, 0b111],
    [0b111, 0b001, 0b111, 0b100, 0b111],
    [0b111, 0b001, 0b111, 0b001, 0b111],
    [0b101, 0b101, 0b111, 0b001, 0b001],
    [0b111, 0b100, 0b111, 0b001, 0b111],
    [0b111, 0b100, 0b111, 0b101, 0b111],
    [0b111, 0b001, 0b001, 0b010, 0b010],
    [0b111, 0b101, 0b111, 0b101, 0b111],
    [0b111, 0b101, 0b111, 0b001, 0b111],
    [0b000, 0b010, 0b000, 0b010, 0b000],
];
const COLON: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_card_shows_the_same_picture() {
        let mut cards = [1, 2, 3].map(TestCard::sized);
        assert_eq!(
            cards.each_ref().map(TestCard::size),
            [(640, 360), (1_280, 720), (1_920, 1_080)]
        );
        for _ in 0..3 {
            cards.iter_mut().for_each(|card| drop(card.next_frame(false)));
        }
        let usual = cards[0].picture();
        for card in &cards[1..] {
            let (columns, rows) = card.encoder.squares();
            let picture = card.picture();
            assert_eq!(picture.len(), columns * rows);
            let is_same = |at: usize| {
                let (row, column) = (at / columns / card.size, at % columns / card.size);
                picture[at] == usual[row * COLUMNS + column]
            };
            assert!((0..columns * rows).all(is_same));
        }
    }
}
