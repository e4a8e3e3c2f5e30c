//! A record as a table of its fields: name, unit, type, and how each is filled from
//! what was seen. One table is both the Avro schema and the
//! writer, so that they can't differ.

use super::datum::Datum;
use crate::simulator::seen::Seen;

/// A field of a record that is filled from a `T`.
pub(super) struct Field<T: 'static> {
    /// Its name at the survey.
    pub(super) name: &'static str,
    /// Its unit, or nothing.
    pub(super) unit: &'static str,
    /// Its type, and what it says of a `T`.
    pub(super) get: Get<T>,
}

/// A field's type, and what it says of a `T`. All that begin with `Some` are unions with null, null first.
pub(super) enum Get<T: 'static> {
    Int(fn(&Seen, &T) -> i32),
    Long(fn(&Seen, &T) -> i64),
    Float(fn(&Seen, &T) -> f32),
    Double(fn(&Seen, &T) -> f64),
    Text(for<'a> fn(&'a Seen, &'a T) -> &'a str),
    SomeBoolean(fn(&Seen, &T) -> Option<bool>),
    SomeInt(fn(&Seen, &T) -> Option<i32>),
    SomeLong(fn(&Seen, &T) -> Option<i64>),
    SomeFloat(fn(&Seen, &T) -> Option<f32>),
    SomeDouble(fn(&Seen, &T) -> Option<f64>),
    SomeText(for<'a> fn(&'a Seen, &'a T) -> Option<&'a str>),
    /// Nothing known of it is simulated: always null, of this type.
    Null(&'static str),
    /// As `Null`, a time in microseconds.
    NullTime,
}

macro_rules! constructors {
    ($($name:ident = $variant:ident -> $value:ty;)*) => {
        $(pub(super) const fn $name<T>(name: &'static str, unit: &'static str, get: for<'a> fn(&'a Seen, &'a T) -> $value) -> Field<T> {
            Field { name, unit, get: Get::$variant(get) }
        })*
    };
}

constructors! {
    int = Int -> i32;
    long = Long -> i64;
    float = Float -> f32;
    double = Double -> f64;
    text = Text -> &'a str;
    some_boolean = SomeBoolean -> Option<bool>;
    some_int = SomeInt -> Option<i32>;
    some_long = SomeLong -> Option<i64>;
    some_float = SomeFloat -> Option<f32>;
    some_double = SomeDouble -> Option<f64>;
    some_text = SomeText -> Option<&'a str>;
}

/// A field that is always null.
pub(super) const fn null<T>(name: &'static str, kind: &'static str) -> Field<T> {
    Field { name, unit: "", get: Get::Null(kind) }
}

/// A time that is always null.
pub(super) const fn null_time<T>(name: &'static str) -> Field<T> {
    Field { name, unit: "", get: Get::NullTime }
}

impl<T> Field<T> {
    fn schema(&self) -> String {
        let plain = |kind: &str| format!(r#""type":"{kind}""#);
        let union = |kind: &str| format!(r#""type":["null",{kind}],"default":null"#);
        let kind = match self.get {
            Get::Int(_) => plain("int"),
            Get::Long(_) => plain("long"),
            Get::Float(_) => plain("float"),
            Get::Double(_) => plain("double"),
            Get::Text(_) => plain("string"),
            Get::SomeBoolean(_) => union(r#""boolean""#),
            Get::SomeInt(_) => union(r#""int""#),
            Get::SomeLong(_) => union(r#""long""#),
            Get::SomeFloat(_) => union(r#""float""#),
            Get::SomeDouble(_) => union(r#""double""#),
            Get::SomeText(_) => union(r#""string""#),
            Get::Null(kind) => union(&format!(r#""{kind}""#)),
            Get::NullTime => union(r#"{"type":"long","logicalType":"timestamp-micros"}"#),
        };
        let doc = if self.unit.is_empty() { String::new() } else { format!(r#","doc":"[{}]""#, self.unit) };
        format!(r#"{{"name":"{}",{kind}{doc}}}"#, self.name)
    }

    fn write(&self, seen: &Seen, of: &T, out: &mut Datum<'_>) {
        match self.get {
            Get::Int(get) => out.long(get(seen, of).into()),
            Get::Long(get) => out.long(get(seen, of)),
            Get::Float(get) => out.float(get(seen, of)),
            Get::Double(get) => out.double(get(seen, of)),
            Get::Text(get) => out.text(get(seen, of)),
            Get::SomeBoolean(get) => out.some(get(seen, of), Datum::boolean),
            Get::SomeInt(get) => out.some(get(seen, of).map(i64::from), Datum::long),
            Get::SomeLong(get) => out.some(get(seen, of), Datum::long),
            Get::SomeFloat(get) => out.some(get(seen, of), Datum::float),
            Get::SomeDouble(get) => out.some(get(seen, of), Datum::double),
            Get::SomeText(get) => out.some(get(seen, of), Datum::text),
            Get::Null(_) | Get::NullTime => out.null(),
        }
    }
}

/// The Avro schema of a record of these fields, as JSON (written here, not by a library: its bytes are part of the stream).
pub(super) fn schema<T>(namespace: &str, name: &str, fields: &[Field<T>]) -> String {
    let fields: Vec<String> = fields.iter().map(Field::schema).collect();
    record(namespace, name, &fields)
}

/// The schema of a record of fields that are schemas already.
pub(super) fn record(namespace: &str, name: &str, fields: &[String]) -> String {
    format!(r#"{{"type":"record","name":"{name}","namespace":"{namespace}","fields":[{}]}}"#, fields.join(","))
}

/// A field of this type, which is JSON.
pub(super) fn typed(name: &str, kind: &str) -> String {
    format!(r#"{{"name":"{name}","type":{kind}}}"#)
}

/// A field of this type or null.
pub(super) fn or_null(name: &str, kind: &str) -> String {
    format!(r#"{{"name":"{name}","type":["null",{kind}],"default":null}}"#)
}

/// The type of arrays of this type.
pub(super) fn array(items: &str) -> String {
    format!(r#"{{"type":"array","items":{items}}}"#)
}

/// Appends a record of these fields.
pub(super) fn write<T>(fields: &[Field<T>], seen: &Seen, of: &T, out: &mut Datum<'_>) {
    fields.iter().for_each(|field| field.write(seen, of, out));
}

/// Appends an array of records that may be null; an empty one is null.
pub(super) fn write_array<'a, T: 'static>(
    fields: &[Field<T>],
    seen: &Seen,
    rows: impl ExactSizeIterator<Item = &'a T>,
    out: &mut Datum<'_>,
) {
    if rows.len() == 0 {
        return out.null();
    }
    out.present();
    out.long(rows.len() as i64);
    rows.for_each(|row| write(fields, seen, row, out));
    out.long(0);
}
