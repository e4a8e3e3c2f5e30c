//! Avro's primitive encodings, read with every length checked against the bytes that remain.

use super::fault::Fault;

/// A place in some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes remain.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Fault> {
        if count > self.remaining() {
            return Err(Fault::truncated(what));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// A long: a zigzag number of at most ten bytes.
    ///
    /// # Errors
    /// When the bytes end within it, or it does not fit into 64 bits.
    pub fn long(&mut self, what: &str) -> Result<i64, Fault> {
        let mut value = 0u64;
        for (index, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            if index == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        if self.remaining() < 10 { Err(Fault::truncated(what)) } else { Err(Fault::garbled(format!("{what} exceeds 64 bits"))) }
    }

    /// An int: a long that fits into 32 bits.
    ///
    /// # Errors
    /// As [`Cursor::long`].
    pub fn int(&mut self, what: &str) -> Result<i32, Fault> {
        let value = self.long(what)?;
        i32::try_from(value).map_err(|_| Fault::garbled(format!("{what} {value} exceeds 32 bits")))
    }

    /// A length that the remaining bytes can hold.
    ///
    /// # Errors
    /// When it is negative, or lies.
    pub fn length(&mut self, what: &str) -> Result<usize, Fault> {
        let length = self.long(what)?;
        let length = usize::try_from(length).map_err(|_| Fault::garbled(format!("{what} has the length {length}")))?;
        if length > self.remaining() { Err(Fault::truncated(what)) } else { Ok(length) }
    }

    /// Bytes with their length before them.
    ///
    /// # Errors
    /// As [`Cursor::length`].
    pub fn bytes(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        let length = self.length(what)?;
        self.take(length, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::{GARBLED, TRUNCATED};
    use super::*;

    #[test]
    fn longs_are_zigzag() {
        let long = |bytes: &[u8]| Cursor::new(bytes).long("x").map_err(|f| f.word);
        assert_eq!(long(&[0]), Ok(0));
        assert_eq!(long(&[1]), Ok(-1));
        assert_eq!(long(&[0x80, 0x01]), Ok(64));
        assert_eq!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(i64::MIN));
        assert_eq!(long(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(i64::MAX));
        assert_eq!(long(&[]), Err(TRUNCATED));
        assert_eq!(long(&[0x80]), Err(TRUNCATED));
        assert_eq!(long(&[0xff; 10]), Err(GARBLED));
        assert_eq!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(GARBLED));
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_taken() {
        let bytes = |bytes: &'static [u8]| Cursor::new(bytes).bytes("x").map_err(|f| f.word);
        assert_eq!(bytes(&[4, 7, 8]), Ok(&[7u8, 8][..]));
        assert_eq!(bytes(&[6, 7, 8]), Err(TRUNCATED));
        assert_eq!(bytes(&[1]), Err(GARBLED));
        assert_eq!(bytes(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Err(TRUNCATED));
    }
}
