//! The published picture: moving content, a machine-readable frame number, and a flash every second.
//!
//! ```text
//! | 1 0 | 10 bits: number of the frame | 2 bits: its ones modulo 4 | 0 1 |   16 cells over the whole width, the upper ninth
//! |          waves that move, with noise that no encoder can predict     |
//! | flash |                                                              |   white for 3 frames from frame % 30 == 0 on
//! ```

/// Makes frames in YUV 4:2:0, plane after plane.
#[derive(Debug)]
pub(crate) struct Picture {
    width: usize,
    height: usize,
    noise: u64,
}

impl Picture {
    pub(crate) const FRAME_RATE: usize = 30;
    /// 30 s; the time code has room for 1,024.
    pub(crate) const FRAMES: usize = 900;

    pub(crate) fn new(width: usize, height: usize) -> Picture {
        Picture {
            width,
            height,
            noise: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// One frame.
    pub(crate) fn frame(&mut self, number: usize) -> Vec<u8> {
        let (width, height) = (self.width, self.height);
        let mut planes = Vec::with_capacity(width * height * 3 / 2);
        let cells = time_code(number);
        let code: Vec<u8> = (0..width).map(|x| shade(cells[x * CELLS / width])).collect();
        let flash = shade(number % Picture::FRAME_RATE < FLASH_FRAMES);
        let (flash_top, flash_width) = (height * 3 / 4, width / 4);
        for y in 0..height {
            if y < height / 9 {
                planes.extend_from_slice(&code);
                continue;
            }
            let row = planes.len();
            self.waves(&mut planes, y, number);
            if y >= flash_top {
                planes[row..row + flash_width].fill(flash);
            }
        }
        // No colour in the code, so that its cells stay sharp; a slow drift of colours below.
        for plane in 0..2 {
            for y in 0..height / 2 {
                let drift = triangle(y + number * (plane + 1)) / 2 + 96;
                let value = if y < height / 18 { 128 } else { drift };
                planes.resize(planes.len() + width / 2, value);
            }
        }
        planes
    }

    fn waves(&mut self, plane: &mut Vec<u8>, y: usize, number: usize) {
        let across = triangle(y * 2 + number);
        for x in 0..self.width {
            if x % 8 == 0 {
                self.noise ^= self.noise << 13;
                self.noise ^= self.noise >> 7;
                self.noise ^= self.noise << 17;
            }
            let grain = (self.noise >> (x % 8 * 8)) as u8 & NOISE;
            plane.push(48 + triangle(x + 3 * number) + across + grain);
        }
    }
}

/// Goes up and down between 0 and 63.
fn triangle(at: usize) -> u8 {
    let at = (at % 128) as u8;
    at.min(127 - at)
}

fn shade(white: bool) -> u8 {
    if white { 235 } else { 16 }
}

fn time_code(number: usize) -> [bool; CELLS] {
    let mut cells = [false; CELLS];
    (cells[0], cells[CELLS - 1]) = (true, true);
    for bit in 0..10 {
        cells[2 + bit] = number >> (9 - bit) & 1 == 1;
    }
    let ones = number.count_ones() % 4;
    (cells[12], cells[13]) = (ones & 2 != 0, ones & 1 != 0);
    cells
}

const CELLS: usize = 16;
const FLASH_FRAMES: usize = 3;
/// Grain of 0 to 15 of 255: enough for every frame to use its share of the bit rate.
const NOISE: u8 = 15;
