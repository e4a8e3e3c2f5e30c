//! FITS files (Pence et al. 2010, A&A 524, A42): cards, header blocks, images.

/// Bytes of a block; header and data each fill whole ones.
pub(super) const BLOCK: usize = 2880;
const CARD: usize = 80;

/// A header, card by card.
#[derive(Default)]
pub(super) struct Header(Vec<u8>);

impl Header {
    /// `name = value / comment`; `value` as FITS writes it (text in quotes, logicals as T and F).
    pub(super) fn card(mut self, name: &str, value: &str, comment: &str) -> Self {
        let shown = if value.starts_with('\'') { format!("{value:<20}") } else { format!("{value:>20}") };
        let mut card = format!("{name:8}= {shown}");
        if !comment.is_empty() {
            card += &format!(" / {comment}");
        }
        self.0.extend(format!("{card:80}").bytes().take(CARD));
        self
    }

    /// A card of a number; Rust prints the shortest text that reads back as the same number, on any machine.
    pub(super) fn number(self, name: &str, value: f64, comment: &str) -> Self {
        let mut text = format!("{value}");
        if text.len() > 20 {
            text = format!("{value:.12E}");
        } else if !text.contains('.') {
            text += ".0";
        }
        self.card(name, &text, comment)
    }

    /// The cards that say what array follows: `bitpix` -32 are floats, -64 doubles.
    pub(super) fn image(self, bitpix: i32, side: usize) -> Self {
        let side = side.to_string();
        self.card("BITPIX", &bitpix.to_string(), "").card("NAXIS", "2", "").card("NAXIS1", &side, "").card("NAXIS2", &side, "")
    }

    /// The header's blocks.
    pub(super) fn blocks(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"END");
        self.0.resize(self.0.len().next_multiple_of(BLOCK), b' ');
        self.0
    }
}

/// Appends pixels as big-endian floats, filled up to whole blocks.
pub(super) fn floats(pixels: &[f32], out: &mut Vec<u8>) {
    let end = out.len() + (pixels.len() * 4).next_multiple_of(BLOCK);
    out.extend(pixels.iter().flat_map(|pixel| pixel.to_be_bytes()));
    out.resize(end, 0);
}

/// Appends pixels as big-endian doubles, filled up to whole blocks.
pub(super) fn doubles(pixels: &[f32], out: &mut Vec<u8>) {
    let end = out.len() + (pixels.len() * 8).next_multiple_of(BLOCK);
    out.extend(pixels.iter().flat_map(|pixel| f64::from(*pixel).to_be_bytes()));
    out.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cards_in_whole_blocks() {
        let header = Header::default().card("SIMPLE", "T", "").image(-32, 63).card("BUNIT", "'DN      '", "").number("ROTPA", 0.25, "deg");
        let blocks = header.blocks();
        assert_eq!(blocks.len(), BLOCK);
        let cards: Vec<&str> = blocks.chunks(CARD).map(|card| std::str::from_utf8(card).unwrap().trim_end()).collect();
        assert_eq!(cards[0], "SIMPLE  =                    T");
        assert_eq!(cards[1], "BITPIX  =                  -32");
        assert_eq!(cards[3], "NAXIS1  =                   63");
        assert_eq!(cards[5], "BUNIT   = 'DN      '");
        assert_eq!(cards[6], "ROTPA   =                 0.25 / deg");
        assert_eq!(cards[7], "END");
        assert!(cards[8..].iter().all(|card| card.is_empty()));
    }

    #[test]
    fn pixels_fill_whole_blocks() {
        let mut out = vec![1];
        floats(&[1.5; 721], &mut out);
        assert_eq!(out.len(), 1 + 2 * BLOCK);
        assert_eq!(out[1..5], 1.5f32.to_be_bytes());
        doubles(&[0.5], &mut out);
        assert_eq!(out.len(), 1 + 3 * BLOCK);
    }
}
