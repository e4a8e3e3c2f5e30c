//! Avro's binary encoding, by hand: the schemas are our own and never change under way.

/// A datum that grows at the end of a buffer. In every union null comes first.
pub(super) struct Datum<'a>(pub(super) &'a mut Vec<u8>);

impl Datum<'_> {
    pub(super) fn boolean(&mut self, value: bool) {
        self.0.push(value.into());
    }
    pub(super) fn long(&mut self, value: i64) {
        write_long(self.0, value);
    }
    pub(super) fn float(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.0.extend_from_slice(bytes);
    }
    pub(super) fn null(&mut self) {
        self.0.push(0);
    }
    /// The mark of a union that is not null; its value follows.
    pub(super) fn present(&mut self) {
        self.0.push(2);
    }
    pub(super) fn some<V>(&mut self, value: Option<V>, write: impl FnOnce(&mut Self, V)) {
        match value {
            Some(value) => {
                self.present();
                write(self, value);
            }
            None => self.null(),
        }
    }
}

/// Appends an Avro long.
pub(super) fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
