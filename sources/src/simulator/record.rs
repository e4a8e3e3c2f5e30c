//! A simulated alert, and its Avro encoding by hand: the schema is our own and never changes under way.

use std::sync::LazyLock;

/// The schema of simulated alerts: namespace `fink.simulator`, ZTF's names and units.
pub static SCHEMA: LazyLock<String> = LazyLock::new(|| include_str!("alert.avsc").lines().map(str::trim).collect());

/// An alert without its cut-outs.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The object's name.
    pub object_id: String,
    /// The detection that raised the alert.
    pub now: Observation,
    /// Earlier observations of the same object, oldest first; `None` where there are none.
    pub history: Option<Vec<Observation>>,
    /// How often the object was detected, this time included.
    pub ndethist: i32,
    /// How often its place was observed, this time included.
    pub ncovhist: i32,
    /// When it was detected first, as a Julian date.
    pub jdstarthist: f64,
}

/// One exposure of an object, and what was seen there.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The Julian date.
    pub jd: f64,
    /// The filter: 1 is g, 2 is r, 3 is i.
    pub fid: i32,
    /// The exposure's number at the survey.
    pub pid: i64,
    /// The limiting magnitude.
    pub diffmaglim: f32,
    /// The night's number at the survey.
    pub nid: i32,
    /// The quadrant.
    pub rcid: i32,
    /// The field.
    pub field: i32,
    /// What was detected; `None` is an upper limit.
    pub detection: Option<Detection>,
}

/// A detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Its number, unlike any other in the stream.
    pub candid: i64,
    /// Whether it is brighter than the template: `t`, `1` or else `f`, `0`.
    pub isdiffpos: &'static str,
    /// Place on the quadrant, in pixels.
    pub position: [f32; 2],
    /// Place in the sky, in degrees.
    pub ra: f64,
    /// Place in the sky, in degrees.
    pub dec: f64,
    /// Magnitude of the difference.
    pub magpsf: f32,
    /// Its error.
    pub sigmapsf: f32,
    /// Distance to the template's nearest source, in arc seconds.
    pub distnr: f32,
    /// That source's magnitude.
    pub magnr: f32,
    /// Its error.
    pub sigmagnr: f32,
    /// Place of that source, in degrees.
    pub nearest: [f64; 2],
    /// Counts of the sky.
    pub sky: f32,
    /// Aperture's magnitude less `magpsf`.
    pub magdiff: f32,
    /// Full width at half maximum, in pixels.
    pub fwhm: f32,
    /// How star-like it is.
    pub classtar: f32,
    /// Bad pixels.
    pub nbad: i32,
    /// Negative pixels.
    pub nneg: i32,
    /// How real it is, by the old classifier.
    pub rb: f32,
    /// How real it is, by the new one.
    pub drb: f32,
    /// The known solar-system object there, if any: distance in arc seconds, magnitude, name.
    pub known: Option<(f32, f32, String)>,
    /// The nearest catalogued source: distance in arc seconds, how star-like, magnitudes in g and r.
    pub catalogued: [f32; 4],
    /// Signal to noise.
    pub scorr: f64,
}

impl Alert {
    /// Appends the alert's datum, up to the cut-outs.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let candid = self.now.detection.as_ref().map_or(0, |detection| detection.candid);
        let mut datum = Datum(out);
        datum.string("4.02");
        datum.string("fink simulator");
        datum.string(&self.object_id);
        datum.long(candid);
        self.now.encode_exposure(&mut datum);
        if let Some(detection) = &self.now.detection {
            detection.encode_place(&mut datum, Presence::Always);
            detection.encode_measures(&mut datum);
            self.encode_rest(detection, &mut datum);
        }
        let Some(history) = &self.history else { return datum.long(0) };
        datum.some();
        if !history.is_empty() {
            datum.long(history.len() as i64);
            history.iter().for_each(|observation| observation.encode_history(&mut datum));
        }
        datum.long(0);
    }

    fn encode_rest(&self, detection: &Detection, datum: &mut Datum) {
        let [distance, score, g, r] = detection.catalogued;
        datum.some_float(detection.drb);
        datum.double(detection.nearest[0]);
        datum.double(detection.nearest[1]);
        datum.some_float(g);
        datum.some_float(r);
        datum.some_float(score);
        datum.some_float(distance);
        datum.long(i64::from(self.ndethist));
        datum.long(i64::from(self.ncovhist));
        datum.some_double(self.jdstarthist);
        datum.some_double(self.now.jd);
        datum.some_double(detection.scorr);
        datum.some_float(26.2);
        datum.some_float(30.0);
    }
}

/// Appends a cut-out, its bytes still to come from `write`, which appends exactly `len`.
pub(super) fn encode_cutout(out: &mut Vec<u8>, file_name: &str, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let mut datum = Datum(out);
    datum.some();
    datum.string(file_name);
    datum.long(len as i64);
    write(out);
}

/// Whether a field of both record types is a union with null in this one.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Always,
    Nullable,
}

/// Fields of `prv_candidate` that an upper limit leaves null.
const MEASURED: usize = 31;

impl Observation {
    fn encode_exposure(&self, datum: &mut Datum) {
        datum.double(self.jd);
        datum.long(i64::from(self.fid));
        datum.long(self.pid);
        datum.some_float(self.diffmaglim);
        datum.long(1);
        datum.some_int(self.nid);
        datum.some_int(self.rcid);
        datum.some_int(self.field);
    }

    fn encode_history(&self, datum: &mut Datum) {
        self.encode_exposure(datum);
        match &self.detection {
            Some(detection) => {
                detection.encode_place(datum, Presence::Nullable);
                detection.encode_measures(datum);
            }
            None => datum.0.extend_from_slice(&[0; MEASURED]),
        }
    }
}

impl Detection {
    /// The fields that only `prv_candidate` has nullable.
    fn encode_place(&self, datum: &mut Datum, presence: Presence) {
        let mark = |datum: &mut Datum| {
            if presence == Presence::Nullable {
                datum.some();
            }
        };
        mark(datum);
        datum.long(self.candid);
        mark(datum);
        datum.string(self.isdiffpos);
        datum.some_float(self.position[0]);
        datum.some_float(self.position[1]);
        mark(datum);
        datum.double(self.ra);
        mark(datum);
        datum.double(self.dec);
        mark(datum);
        datum.float(self.magpsf);
        mark(datum);
        datum.float(self.sigmapsf);
    }

    fn encode_measures(&self, datum: &mut Datum) {
        let edge = self.position.iter().map(|at| at.min(3072.0 - at)).fold(3072.0, f32::min);
        datum.some_float(1.0 + self.magdiff.abs()); // chipsf
        datum.some_float(self.magpsf + self.magdiff); // magap
        datum.some_float(1.2 * self.sigmapsf); // sigmagap
        datum.some_float(self.distnr);
        datum.some_float(self.magnr);
        datum.some_float(self.sigmagnr);
        datum.some_float(0.5 + self.sigmagnr); // chinr
        datum.some_float(0.1 * self.classtar); // sharpnr
        datum.some_float(self.sky);
        datum.some_float(self.magdiff);
        datum.some_float(self.fwhm);
        datum.some_float(self.classtar);
        datum.some_float(edge);
        datum.some_float(1.0 + 0.2 * self.magdiff); // seeratio
        datum.some_float(0.45 * self.fwhm); // aimage
        datum.some_float(0.42 * self.fwhm); // bimage
        datum.some_float(0.45 / 0.42); // elong
        datum.some_int(self.nneg);
        datum.some_int(self.nbad);
        datum.some_float(self.rb);
        match &self.known {
            Some((distance, magnitude, name)) => {
                datum.some_float(*distance);
                datum.some_float(*magnitude);
                datum.some();
                datum.string(name);
            }
            None => {
                datum.some_float(-999.0);
                datum.some_float(-999.0);
                datum.long(0);
            }
        }
    }
}

/// Avro's binary encoding; in every union null comes first.
struct Datum<'a>(&'a mut Vec<u8>);

impl Datum<'_> {
    fn long(&mut self, value: i64) {
        write_long(self.0, value);
    }
    fn float(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn string(&mut self, text: &str) {
        self.long(text.len() as i64);
        self.0.extend_from_slice(text.as_bytes());
    }
    fn some(&mut self) {
        self.0.push(2);
    }
    fn some_int(&mut self, value: i32) {
        self.some();
        self.long(i64::from(value));
    }
    fn some_float(&mut self, value: f32) {
        self.some();
        self.float(value);
    }
    fn some_double(&mut self, value: f64) {
        self.some();
        self.double(value);
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
