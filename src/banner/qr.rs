//! A link as a QR code in the terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code of `link` in half blocks, each line ended; `None` when it does not fit into `columns`.
///
/// Black on white whatever the terminal's own colours are: not every camera reads it the other way round.
pub(super) fn in_half_blocks(link: &str, columns: usize) -> Option<String> {
    // Off a screen nothing is smudged: the lowest correction makes the smallest code.
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    if code.width() + 2 * QUIET > columns {
        return None;
    }
    let picture = code.render::<Dense1x2>().quiet_zone(true).build();
    let lines = picture.lines().map(|line| format!("{BLACK_ON_WHITE}{line}{RESET}\n"));
    Some(lines.collect())
}

/// Modules of white around the code (ISO/IEC 18004).
const QUIET: usize = 4;
const BLACK_ON_WHITE: &str = "\x1b[30;107m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://192.168.178.20:8080/broadcast.html#token=0123456789abcdef";

    /// The modules that a camera sees: true is dark.
    fn seen(picture: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in picture.lines() {
            let line = line.strip_prefix(BLACK_ON_WHITE).unwrap().strip_suffix(RESET).unwrap();
            rows.push(line.chars().map(|half| matches!(half, '█' | '▀')).collect());
            rows.push(line.chars().map(|half| matches!(half, '█' | '▄')).collect());
        }
        rows
    }

    #[test]
    fn what_is_printed_is_the_code_with_white_around_it() {
        let code = QrCode::with_error_correction_level(LINK, EcLevel::L).unwrap();
        let width = code.width();
        let rows = seen(&in_half_blocks(LINK, 80).unwrap());
        assert!(rows.iter().all(|row| row.len() == width + 2 * QUIET));
        let dark = |x: usize, y: usize| rows[y][x];
        for (place, color) in code.to_colors().into_iter().enumerate() {
            let (x, y) = (QUIET + place % width, QUIET + place / width);
            assert_eq!(dark(x, y), color == qrcode::Color::Dark, "{x} {y}");
        }
        assert!((0..width + 2 * QUIET).all(|x| (0..QUIET).all(|y| !dark(x, y) && !dark(y, x))));
    }

    #[test]
    fn a_terminal_that_is_too_narrow_is_left_alone() {
        assert_eq!(in_half_blocks(LINK, 30), None);
        assert_eq!(in_half_blocks(&"x".repeat(5_000), 10_000), None);
    }
}
