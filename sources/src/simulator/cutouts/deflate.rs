//! gzip of our own: runs and Huffman codes, and no search for repeats.
//!
//! A cut-out is noise: what shrinks is the exponents' bytes, and Huffman's code alone takes that, as zlib at its fastest
//! does (real ZTF stamps: 13 to 15 kB of 20 kB). Written here rather than taken from a library because the bytes of a
//! simulated alert are part of its identity: a compressor whose next version packs better would change a stream that an
//! archive has begun. It is also several times faster than a search for repeats that are not there.

use crc32fast::Hasher;

/// Literals, the end of the block, lengths (of which the last two never occur).
const SYMBOLS: usize = 288;
/// Symbols of which a code of its own tells the lengths.
const TOLD: usize = 286;
const END: u16 = 256;
const LENGTH_258: u16 = 285;
const CODE_BITS_MAX: usize = 15;
/// The order in which deflate tells the lengths of the code of code lengths.
const LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Packs, and keeps its memory from one file to the next.
#[derive(Clone, Default)]
pub(super) struct Packer {
    tokens: Vec<u16>,
}

impl Packer {
    /// Appends `plain` as a gzip file of one block; the bytes are a function of `plain` alone.
    pub(super) fn gzip(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut counts = [0u32; SYMBOLS];
        self.tokenise(plain, &mut counts);
        let lengths = code_lengths(&counts);
        let mut bits = Bits { out, held: 0, count: 0 };
        let cost = |lengths: &[u8; SYMBOLS]| counts.iter().zip(lengths).map(|(count, bits)| count * u32::from(*bits)).sum::<u32>();
        let fixed = fixed_lengths();
        let table_bits = 14 + 19 * 3 + 4 * (TOLD as u32 + 1);
        if cost(&fixed) <= cost(&lengths) + table_bits {
            bits.push(0b011, 3); // the last block, deflate's fixed code
            self.write(&mut bits, &fixed, 5);
        } else {
            bits.push(0b101, 3); // the last block, a code of its own
            write_table(&mut bits, &lengths);
            self.write(&mut bits, &lengths, 1);
        }
        bits.finish();
        let mut crc = Hasher::new();
        crc.update(plain);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    }

    /// Literals, and runs as lengths at distance 1 (those lengths only that need no extra bits: 258, and 3 to 10).
    fn tokenise(&mut self, plain: &[u8], counts: &mut [u32; SYMBOLS]) {
        self.tokens.clear();
        let mut at = 0;
        while at < plain.len() {
            let byte = plain[at];
            let mut token = |token: u16| {
                self.tokens.push(token);
                counts[usize::from(token)] += 1;
            };
            token(u16::from(byte));
            at += 1;
            if plain.get(at) != Some(&byte) {
                continue;
            }
            let mut more = plain[at..].iter().take_while(|next| **next == byte).count();
            at += more;
            while more >= 3 {
                let length = if more >= 258 { 258 } else { more.min(10) };
                token(if length == 258 { LENGTH_258 } else { 254 + length as u16 });
                more -= length;
            }
            (0..more).for_each(|_| token(u16::from(byte)));
        }
        self.tokens.push(END);
        counts[usize::from(END)] += 1;
    }

    /// The tokens by a code of these lengths; `distance_bits`: the bits of distance 1, all of them 0.
    fn write(&self, bits: &mut Bits<'_>, lengths: &[u8; SYMBOLS], distance_bits: u32) {
        let mut codes = canonical(lengths);
        for symbol in usize::from(END) + 1..SYMBOLS {
            codes[symbol].1 += distance_bits;
        }
        for token in &self.tokens {
            let (code, count) = codes[usize::from(*token)];
            bits.push(code, count);
        }
    }
}

/// The lengths of deflate's fixed code.
fn fixed_lengths() -> [u8; SYMBOLS] {
    std::array::from_fn(|symbol| match symbol {
        0..=143 => 8,
        144..=255 => 9,
        256..=279 => 7,
        _ => 8,
    })
}

/// The lengths of Huffman's code of these counts, none above 15; 0 where a symbol does not occur.
///
/// In place, after Moffat and Katajainen (1995, WADS, section 2).
fn code_lengths(counts: &[u32; SYMBOLS]) -> [u8; SYMBOLS] {
    let mut used: Vec<usize> = (0..SYMBOLS).filter(|symbol| counts[*symbol] > 0).collect();
    used.sort_by_key(|symbol| (counts[*symbol], *symbol));
    let mut lengths = [0; SYMBOLS];
    if let [only] = used[..] {
        lengths[only] = 1;
        return lengths;
    }
    let n = used.len();
    let mut work: Vec<usize> = used.iter().map(|symbol| counts[*symbol] as usize).collect();
    // Parents: the two lightest of leaves and inner nodes are joined, again and again.
    let (mut root, mut leaf) = (0, 0);
    for next in 0..n - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= n || (root < next && work[root] < work[leaf]) {
                weight += work[root];
                work[root] = next;
                root += 1;
            } else {
                weight += work[leaf];
                leaf += 1;
            }
        }
        work[next] = weight;
    }
    // Depths of the inner nodes, then how many leaves each depth has.
    work[n - 2] = 0;
    for next in (0..n - 2).rev() {
        work[next] = work[work[next]] + 1;
    }
    let mut of_depth = [0usize; 64];
    let (mut available, mut depth, mut inner) = (1, 0, n - 1);
    while available > 0 {
        let mut parents = 0;
        while inner > 0 && work[inner - 1] == depth {
            parents += 1;
            inner -= 1;
        }
        of_depth[depth.min(63)] += available - parents;
        available = 2 * parents;
        depth += 1;
    }
    limit(&mut of_depth);
    // The rarest symbols are the deepest.
    let mut symbols = used.into_iter();
    for depth in (1..=CODE_BITS_MAX).rev() {
        for symbol in symbols.by_ref().take(of_depth[depth]) {
            lengths[symbol] = depth as u8;
        }
    }
    lengths
}

/// Brings leaves that are too deep up, and others down in their place, so that the code stays whole.
fn limit(of_depth: &mut [usize; 64]) {
    let too_deep: usize = of_depth[CODE_BITS_MAX + 1..].iter().sum();
    of_depth[CODE_BITS_MAX + 1..].fill(0);
    of_depth[CODE_BITS_MAX] += too_deep;
    let mut total: usize = (1..=CODE_BITS_MAX).map(|depth| of_depth[depth] << (CODE_BITS_MAX - depth)).sum();
    while total > 1 << CODE_BITS_MAX {
        of_depth[CODE_BITS_MAX] -= 1;
        let depth = (1..CODE_BITS_MAX).rev().find(|depth| of_depth[*depth] > 0).expect("a code of 288 symbols has leaves above depth 15");
        of_depth[depth] -= 1;
        of_depth[depth + 1] += 2;
        total -= 1;
    }
}

/// The codes of these lengths as deflate assigns them, the first bit lowest, and their bits.
fn canonical(lengths: &[u8; SYMBOLS]) -> [(u32, u32); SYMBOLS] {
    let mut next = [0u32; CODE_BITS_MAX + 2];
    for length in lengths.iter().filter(|length| **length > 0) {
        next[usize::from(*length) + 1] += 1;
    }
    // So far `next[n + 1]` counts the codes of n bits; now it becomes the first code of n + 1 bits.
    let mut code = 0;
    for first in &mut next[1..] {
        let codes_above = *first;
        code = (code + codes_above) << 1;
        *first = code;
    }
    let mut codes = [(0, 0); SYMBOLS];
    for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let length = usize::from(*length);
        codes[symbol] = (next[length].reverse_bits() >> (32 - length), length as u32);
        next[length] += 1;
    }
    codes
}

/// The lengths of all symbols, and of the one distance, in four bits each.
fn write_table(bits: &mut Bits<'_>, lengths: &[u8; SYMBOLS]) {
    bits.push(TOLD as u32 - 257, 5);
    bits.push(0, 5); // one distance
    bits.push(15, 4); // all 19 lengths follow
    for symbol in LENGTHS_ORDER {
        bits.push(if symbol < 16 { 4 } else { 0 }, 3);
    }
    for length in lengths[..TOLD].iter().chain([&1]) {
        bits.push(u32::from(*length).reverse_bits() >> 28, 4);
    }
}

/// Bits in deflate's order.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// The lowest `count` bits of `value`, lowest first; at most 32.
    fn push(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// What is left, its last byte filled up with zeros.
    fn finish(self) {
        let bytes = self.held.to_le_bytes();
        self.out.extend_from_slice(&bytes[..self.count.div_ceil(8) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::simulator::dice::Dice;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut gzip = Vec::new();
        Packer::default().gzip(plain, &mut gzip);
        gzip
    }

    fn inflated(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    proptest! {
        #[test]
        fn whatever_is_packed_is_unpacked(runs in prop::collection::vec((0u8..=255, 1usize..600), 0..200), noise in prop::collection::vec(0u8..40, 0..3000)) {
            let mut plain: Vec<u8> = runs.into_iter().flat_map(|(byte, len)| std::iter::repeat_n(byte, len)).collect();
            plain.extend(noise);
            prop_assert_eq!(inflated(&packed(&plain)), plain);
        }
    }

    #[test]
    fn codes_of_more_than_15_bits_are_shortened() {
        // Counts that grow as Fibonacci's numbers make the deepest code there is.
        let (mut a, mut b) = (1usize, 1);
        let mut plain = Vec::new();
        for byte in 0..24u8 {
            plain.extend(std::iter::repeat_n([byte, 255 - byte], a).flatten());
            (a, b) = (b, a + b);
        }
        assert_eq!(inflated(&packed(&plain)), plain);
    }

    #[test]
    fn noise_shrinks_by_its_exponents() {
        let mut dice = Dice::new(&[3]);
        let plain: Vec<u8> = (0..3969).flat_map(|_| ((100.0 + 8.0 * dice.gauss()) as f32).to_be_bytes()).collect();
        let size = packed(&plain).len();
        assert!((12_000..14_000).contains(&size), "{size} bytes of {}", plain.len());
    }

    #[test]
    fn the_bytes_are_pinned() {
        let plain: Vec<u8> = (0..4000u32).flat_map(|k| [0x42, (k * k >> 5) as u8, (k * 7) as u8]).collect();
        assert_eq!(crc32fast::hash(&packed(&plain)), 3_919_722_132, "a new number here is a new generator in config.rs");
    }
}
