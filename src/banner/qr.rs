//! A link as a QR code in the terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The QR code of `link` in half blocks, one newline per row; `None` when it does not fit into `columns`.
///
/// Always black on white, whatever the terminal's colours: not every camera reads inverted codes.
pub(super) fn in_half_blocks(link: &str, columns: usize) -> Option<String> {
    // A screen has no smudges, so the lowest error correction, which makes the smallest code, is enough.
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    if code.width() + 2 * QUIET > columns {
        return None;
    }
    let picture = code.render::<Dense1x2>().quiet_zone(true).build();
    let lines = picture.lines().map(|line| format!("{BLACK_ON_WHITE}{line}{RESET}\n"));
    Some(lines.collect())
}

/// White modules around the code (ISO/IEC 18004).
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
    fn the_code_is_printed_with_white_around_it() {
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
    fn a_code_that_does_not_fit_is_omitted() {
        assert_eq!(in_half_blocks(LINK, 30), None);
        assert_eq!(in_half_blocks(&"x".repeat(5_000), 10_000), None);
    }
}
