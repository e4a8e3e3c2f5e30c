//! Cut-out images: FITS files in gzip, as ZTF sends them, with the same bytes on every machine.
//!
//! The pixels are noise, which deflate shrinks by a tenth at a cost ten times that of making them; so they are stored
//! as they are, and only the header and the padding are packed (runs, in deflate's fixed code). That is deflate which
//! every reader reads, it costs a copy and a checksum, and no version of a library can change its bytes.

use std::sync::Arc;

use crc32fast::Hasher;

use super::dice::Dice;

const FITS_BLOCK: usize = 2880;
const NOISE_LEN: usize = 1 << 17;
const STORED_MAX: usize = 65_535;

/// What differs from one alert's stamps to another's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// Counts of the source in the science image.
    pub(super) science: f32,
    /// Counts of the source in the template.
    pub(super) template: f32,
    /// Counts of the sky under the science image.
    pub(super) sky: f32,
    /// Widths of the noise in both.
    pub(super) noise: [f32; 2],
    /// Where in the noise to begin, in both; taken modulo what there is.
    pub(super) windows: [u64; 2],
}

/// The pixels' frame, made once: cheap to clone.
#[derive(Clone)]
pub(super) struct Stamps {
    shared: Arc<Shared>,
    pixels: [Vec<u8>; 3],
}

struct Shared {
    /// The share of a star's light in each pixel, relative to the centre.
    star: Vec<f32>,
    /// Noise of width 1.
    noise: Vec<f32>,
    /// gzip's header and the packed FITS header, up to where the pixels begin.
    head: Vec<u8>,
    /// The packed padding.
    tail: Vec<u8>,
    /// The checksum after the FITS header.
    head_crc: Hasher,
    padding: Vec<u8>,
    /// Bytes of the FITS file.
    len: u32,
}

impl Stamps {
    /// Stamps of `side` by `side` pixels.
    pub(super) fn new(side: usize) -> Self {
        let header = fits_header(side);
        let pixel_bytes = side * side * 4;
        let padding = vec![0; pixel_bytes.next_multiple_of(FITS_BLOCK) - pixel_bytes];
        let mut head_crc = Hasher::new();
        head_crc.update(&header);

        let mut head = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut bits = Bits::default();
        bits.push(0b010, 3); // not the last block, fixed code
        bits.runs(&header);
        bits.push(0, 3); // not the last block, stored
        head.append(&mut bits.finish());

        let mut bits = Bits::default();
        bits.push(0b011, 3); // the last block, fixed code
        bits.runs(&padding);
        let tail = bits.finish();

        let mut dice = Dice::new(&[0x006e_6f69_7365]);
        let noise = (0..NOISE_LEN.max(2 * side * side)).map(|_| dice.normal() as f32).collect();
        let len = (header.len() + pixel_bytes + padding.len()) as u32;
        let shared = Arc::new(Shared { star: star(side), noise, head, tail, head_crc, padding, len });
        Self { shared, pixels: std::array::from_fn(|_| vec![0; pixel_bytes]) }
    }

    /// How many bytes each gzip'd stamp has.
    pub(super) fn bytes(&self) -> usize {
        let pixels = self.pixels[0].len();
        self.shared.head.len() + pixels + 5 * pixels.div_ceil(STORED_MAX) - 1 + self.shared.tail.len() + 8
    }

    /// Paints the scene; [`Stamps::write`] then writes it.
    pub(super) fn paint(&mut self, scene: &Scene) {
        let Shared { star, noise, .. } = &*self.shared;
        let window = |at: u64| {
            let begin = at as usize % (noise.len() - star.len());
            &noise[begin..begin + star.len()]
        };
        let (a, b) = (window(scene.windows[0]), window(scene.windows[1]));
        let [science, template, difference] = &mut self.pixels;
        let places = science.chunks_exact_mut(4).zip(template.chunks_exact_mut(4)).zip(difference.chunks_exact_mut(4));
        for (((star, a), b), ((science, template), difference)) in star.iter().zip(a).zip(b).zip(places) {
            let s = a * scene.noise[0] + star * scene.science;
            let t = b * scene.noise[1] + star * scene.template;
            science.copy_from_slice(&(s + scene.sky).to_be_bytes());
            template.copy_from_slice(&t.to_be_bytes());
            difference.copy_from_slice(&(s - t).to_be_bytes());
        }
    }

    /// Writes stamp 0 (science), 1 (template) or 2 (difference) of the scene painted last.
    pub(super) fn write(&self, which: usize, out: &mut Vec<u8>) {
        let Shared { head, tail, head_crc, padding, len, .. } = &*self.shared;
        let pixels = &self.pixels[which];
        out.extend_from_slice(head);
        for (index, part) in pixels.chunks(STORED_MAX).enumerate() {
            if index > 0 {
                out.push(0);
            }
            let len = part.len() as u16;
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(tail);
        let mut crc = head_crc.clone();
        crc.update(pixels);
        crc.update(padding);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
    }
}

fn fits_header(side: usize) -> Vec<u8> {
    let cards = [("SIMPLE", "T".to_owned()), ("BITPIX", "-32".to_owned()), ("NAXIS", "2".to_owned())];
    let sides = [("NAXIS1", side.to_string()), ("NAXIS2", side.to_string())];
    let mut header: String = cards.iter().chain(&sides).map(|(name, value)| format!("{:80}", format!("{name:8}= {value:>20}"))).collect();
    header.push_str("END");
    let mut header = header.into_bytes();
    header.resize(header.len().next_multiple_of(FITS_BLOCK), b' ');
    header
}

/// A Moffat profile of 2 pixels' width: what the atmosphere makes of a star.
fn star(side: usize) -> Vec<f32> {
    let centre = (side - 1) as f64 / 2.0;
    let share = |index: usize| {
        let (x, y) = ((index % side) as f64 - centre, (index / side) as f64 - centre);
        let width = 1.0 + (x * x + y * y) / 4.0;
        (1.0 / (width * width * width.sqrt())) as f32
    };
    (0..side * side).map(share).collect()
}

/// Bits in deflate's order, with deflate's fixed code.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    /// The lowest `count` bits of `value`, lowest first.
    fn push(&mut self, value: u32, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// One symbol of the fixed code: a literal, the end of the block (256), or a length (257 and more).
    fn symbol(&mut self, symbol: u32) {
        let (code, count) = match symbol {
            0..=143 => (0x30 + symbol, 8),
            144..=255 => (0x190 + symbol - 144, 9),
            256..=279 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        // Codes go highest bit first.
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    /// `bytes` as literals and runs, and the end of the block.
    fn runs(&mut self, bytes: &[u8]) {
        for run in bytes.chunk_by(|a, b| a == b) {
            self.symbol(u32::from(run[0]));
            let mut more = run.len() as u32 - 1;
            while more >= 3 {
                // Lengths without extra bits: 258, and 3 to 10; at distance 1.
                let length = if more >= 258 { 258 } else { more.min(10) };
                self.symbol(if length == 258 { 285 } else { 254 + length });
                self.push(0, 5);
                more -= length;
            }
            for _ in 0..more {
                self.symbol(u32::from(run[0]));
            }
        }
        self.symbol(256);
    }

    /// All bytes, the last one filled up.
    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn inflate(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    fn pixel(fits: &[u8], index: usize) -> f32 {
        let at = FITS_BLOCK + 4 * index;
        f32::from_be_bytes(fits[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn every_side_inflates_to_a_fits_file() {
        for side in [1, 2, 8, 26, 27, 63, 127, 128, 200] {
            let mut stamps = Stamps::new(side);
            stamps.paint(&Scene { science: 900.0, template: 400.0, sky: 100.0, noise: [3.0, 1.0], windows: [u64::MAX, 5] });
            let files: Vec<Vec<u8>> = (0..3)
                .map(|which| {
                    let mut gzip = Vec::new();
                    stamps.write(which, &mut gzip);
                    assert_eq!(gzip.len(), stamps.bytes(), "side {side}");
                    inflate(&gzip)
                })
                .collect();
            for fits in &files {
                assert_eq!(fits.len() % FITS_BLOCK, 0);
                assert!(fits.len() - FITS_BLOCK >= side * side * 4 && fits.len() < 2 * FITS_BLOCK + side * side * 4);
                let cards: Vec<&str> = fits[..FITS_BLOCK].chunks(80).map(|card| std::str::from_utf8(card).unwrap().trim_end()).collect();
                assert_eq!(cards[0], "SIMPLE  =                    T");
                assert_eq!(cards[1], "BITPIX  =                  -32");
                assert_eq!(cards[3], format!("NAXIS1  = {side:>20}"));
                assert_eq!(cards[5], "END");
                assert!(cards[6..].iter().all(|card| card.is_empty()));
            }
            for index in 0..side * side {
                let expected = pixel(&files[0], index) - 100.0 - pixel(&files[1], index);
                assert!((pixel(&files[2], index) - expected).abs() < 1e-3, "difference is science less template");
            }
        }
    }

    #[test]
    fn the_star_stands_in_the_middle() {
        let mut stamps = Stamps::new(63);
        stamps.paint(&Scene { science: 5000.0, template: 0.0, sky: 100.0, noise: [3.0, 1.0], windows: [1, 2] });
        let mut gzip = Vec::new();
        stamps.write(0, &mut gzip);
        let fits = inflate(&gzip);
        let brightest = (0..63 * 63).max_by(|a, b| pixel(&fits, *a).total_cmp(&pixel(&fits, *b))).unwrap();
        assert_eq!(brightest, 31 * 63 + 31);
    }
}
