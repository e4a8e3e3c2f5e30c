//! Real alerts in as many different copies as wanted, at the size and cost of the original.
//!
//! Identical copies of an alert are a trap: Parquet's dictionary stores each cutout once (312 bytes an alert instead of
//! 40,000). A copy differs in every float's last bits, in its large integers' low bits, and in all of its cutouts' bytes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::datum::{Leaves, long, put_long, walk};
use crate::places;

/// An alert in an Avro container of one record, taken apart.
pub struct Template {
    header: Vec<u8>,
    sync: Vec<u8>,
    datum: Vec<u8>,
    leaves: Leaves,
    schema: Value,
}

/// A fast generator of noise.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Another noise for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d | 1)
    }

    /// The next 64 bits (xorshift64*).
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(end.max(1)).expect("fits")).expect("fits")
    }

    /// Turns bytes into noise.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}

impl Template {
    /// Takes a container apart: `null` codec, one block, one record.
    #[must_use]
    pub fn new(container: &[u8]) -> Self {
        assert_eq!(&container[..4], b"Obj\x01", "an Avro container");
        let (mut at, mut schema, mut codec) = (4, None, "null".to_owned());
        loop {
            let (count, next) = long(container, at);
            at = next;
            if count == 0 {
                break;
            }
            if count < 0 {
                at = long(container, at).1;
            }
            for _ in 0..count.unsigned_abs() {
                let key = string(container, &mut at);
                let value = string(container, &mut at);
                match key {
                    b"avro.schema" => schema = Some(serde_json::from_slice(value).expect("a schema is JSON")),
                    b"avro.codec" => codec = String::from_utf8_lossy(value).into_owned(),
                    _ => {}
                }
            }
        }
        assert_eq!(codec, "null", "a template is not compressed");
        let (header, sync) = (container[..at + 16].to_vec(), container[at..at + 16].to_vec());
        let (count, next) = long(container, at + 16);
        assert_eq!(count, 1, "one record");
        let (length, start) = long(container, next);
        let datum = container[start..start + usize::try_from(length).expect("a length")].to_vec();
        let schema: Value = schema.expect("a container has a schema");
        let (leaves, end) = walk(&schema, &datum);
        assert_eq!(end, datum.len(), "the datum is walked to its end");
        Self { header, sync, datum, leaves, schema }
    }

    /// The templates of a folder of the shared data.
    #[must_use]
    pub fn folder(folder: &str) -> Option<Vec<Self>> {
        Some(places::data(folder, "avro")?.iter().map(|file| Self::file(file)).collect())
    }

    /// The template of a file.
    #[must_use]
    pub fn file(file: &Path) -> Self {
        Self::new(&fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display())))
    }

    /// The writer's schema.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// A 64-bit float by its path.
    #[must_use]
    pub fn double(&self, path: &str) -> f64 {
        let at = self.leaves.paths[path];
        f64::from_le_bytes(self.datum[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Makes messages bigger by growing the last cutout.
    #[must_use]
    pub fn grown_to(mut self, bytes: usize) -> Self {
        let more = bytes.saturating_sub(self.header.len() + self.datum.len() + 20);
        let blob = self.leaves.blobs.last().expect("a template with cutouts").clone();
        let length = blob.end - blob.start;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        put_long(i64::try_from(length).expect("fits"), &mut before);
        put_long(i64::try_from(length + more).expect("fits"), &mut after);
        let mut datum = self.datum[..blob.start - before.len()].to_vec();
        datum.extend(after);
        datum.extend(&self.datum[blob.clone()]);
        datum.resize(datum.len() + more, 0);
        datum.extend(&self.datum[blob.end..]);
        let (leaves, end) = walk(&self.schema, &datum);
        assert_eq!(end, datum.len(), "the grown datum is walked to its end");
        (self.datum, self.leaves) = (datum, leaves);
        self
    }

    /// The datum of copy `seed`, with some 64-bit floats set.
    #[must_use]
    pub fn datum(&self, seed: u64, set: &[(&str, f64)]) -> Vec<u8> {
        let mut noise = Noise::new(seed);
        let mut datum = self.datum.clone();
        for &at in &self.leaves.floats {
            // The last eleven bits of the mantissa: a relative change of a ten-thousandth. NaN and infinity stay.
            if f32::from_le_bytes(datum[at..at + 4].try_into().expect("four bytes")).is_finite() {
                datum[at] ^= noise.bits().to_le_bytes()[0];
                datum[at + 1] ^= noise.bits().to_le_bytes()[0] & 7;
            }
        }
        for &at in &self.leaves.doubles {
            if f64::from_le_bytes(datum[at..at + 8].try_into().expect("eight bytes")).is_finite() {
                datum[at] ^= noise.bits().to_le_bytes()[0];
                datum[at + 1] ^= noise.bits().to_le_bytes()[0];
            }
        }
        for span in self.leaves.longs.iter().filter(|span| span.len() >= 6) {
            // The low bits but the sign, so that the number stays as long as it is.
            datum[span.start] ^= noise.bits().to_le_bytes()[0] & 0x7e;
            for byte in &mut datum[span.start + 1..span.start + 4] {
                *byte ^= noise.bits().to_le_bytes()[0] & 0x7f;
            }
        }
        for blob in self.leaves.blobs.iter().filter(|blob| blob.len() > 32) {
            // Ten bytes are gzip's header.
            noise.fill(&mut datum[blob.start + 10..blob.end]);
        }
        for (path, value) in set {
            let at = *self.leaves.paths.get(*path).unwrap_or_else(|| panic!("no leaf {path}"));
            datum[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        datum
    }

    /// The container of copy `seed`, with some 64-bit floats set.
    #[must_use]
    pub fn message_with(&self, seed: u64, set: &[(&str, f64)]) -> Vec<u8> {
        self.container(&[self.datum(seed, set)])
    }

    /// A container of these datums: none, one or several.
    #[must_use]
    pub fn container(&self, datums: &[Vec<u8>]) -> Vec<u8> {
        let mut message = self.header.clone();
        if !datums.is_empty() {
            put_long(i64::try_from(datums.len()).expect("fits"), &mut message);
            put_long(i64::try_from(datums.iter().map(Vec::len).sum::<usize>()).expect("fits"), &mut message);
            datums.iter().for_each(|datum| message.extend(datum));
            message.extend(&self.sync);
        }
        message
    }

    /// The container of copy `seed`.
    #[must_use]
    pub fn message(&self, seed: u64) -> Vec<u8> {
        self.message_with(seed, &[])
    }
}

fn string<'a>(bytes: &'a [u8], at: &mut usize) -> &'a [u8] {
    let (length, start) = long(bytes, *at);
    *at = start + usize::try_from(length).expect("a length");
    &bytes[start..*at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_differ_and_decode() {
        let Some(templates) = Template::folder("ztf/night-2018-11-29") else { return };
        for template in templates.iter().take(10) {
            let (a, b) = (template.message(1), template.message(2));
            assert_eq!(a.len(), b.len());
            assert_ne!(a, b);
            assert_eq!(a, template.message(1));
            for message in [a, b] {
                let rows: Vec<_> = apache_avro::Reader::new(&message[..]).expect("a container").collect();
                assert!(matches!(rows.as_slice(), [Ok(_)]), "{rows:?}");
            }
            let jd = template.double("candidate.jd");
            assert!((2_458_451.0..2_458_453.0).contains(&jd), "{jd}");
        }
    }

    #[test]
    fn a_template_grows() {
        let Some(mut templates) = Template::folder("ztf/night-2018-11-29") else { return };
        let message = templates.swap_remove(0).grown_to(100_000).message_with(5, &[("candidate.jd", 2_460_000.5)]);
        assert!((99_900..100_100).contains(&message.len()), "{}", message.len());
        assert!(apache_avro::Reader::new(&message[..]).expect("a container").all(|row| row.is_ok()));
        let again = Template::new(&message);
        assert!((again.double("candidate.jd") - 2_460_000.5).abs() < f64::EPSILON);
    }
}
