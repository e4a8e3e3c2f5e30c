//! Tables in the Virtual Observatory's XML: the first table, if its data is `TABLEDATA` (VOTable 1.4, section 5.1).

use arrow::array::{RecordBatch, StringBuilder};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::csv::batch;
use super::{CatalogueError, missing};

/// The columns of these names, as text; fields are known by name, else by ID.
///
/// # Errors
/// When the file is no XML, holds no table, or one in another encoding, or lacks a column.
pub fn table(file: &[u8], wanted: &[&str]) -> Result<RecordBatch, CatalogueError> {
    let wrong = |e: &dyn ToString| CatalogueError::format("VOTable", e.to_string());
    let text = std::str::from_utf8(file).map_err(|e| wrong(&e))?;
    let mut reader = Reader::from_str(text);
    let mut fields: Vec<[String; 2]> = Vec::new();
    let mut columns: Vec<StringBuilder> = wanted.iter().map(|_| StringBuilder::new()).collect();
    let (mut places, mut row, mut value, mut tables) = (Vec::new(), Vec::<Option<String>>::new(), None::<String>, 0);
    loop {
        let event = reader.read_event().map_err(|e| wrong(&e))?;
        match &event {
            Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                b"TABLE" => tables += 1,
                b"FIELD" if tables == 1 => {
                    let attribute = |name: &str| {
                        let found = tag.try_get_attribute(name).ok().flatten();
                        found
                            .and_then(|a| quick_xml::escape::unescape(std::str::from_utf8(&a.value).ok()?).ok().map(|v| v.into_owned()))
                            .unwrap_or_default()
                    };
                    fields.push([attribute("name"), attribute("ID")]);
                }
                b"TABLEDATA" => {
                    let at =
                        |name: &&str| fields.iter().position(|f| f[0] == **name).or_else(|| fields.iter().position(|f| f[1] == **name));
                    let find = |name: &&str| at(name).ok_or_else(|| missing(name, fields.iter().map(|f| f[0].as_str())));
                    places = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
                }
                other @ (b"BINARY" | b"BINARY2" | b"FITS") => {
                    let other = String::from_utf8_lossy(other).into_owned();
                    return Err(wrong(&format!("its data is {other}; save it as TABLEDATA")));
                }
                b"TR" => row.clear(),
                b"TD" => {
                    value = Some(String::new());
                    if matches!(event, Event::Empty(_)) {
                        row.push(None);
                        value = None;
                    }
                }
                _ => {}
            },
            Event::Text(piece) => {
                if let Some(value) = &mut value {
                    value.push_str(&piece.decode().map_err(|e| wrong(&e))?);
                }
            }
            Event::CData(piece) => {
                if let Some(value) = &mut value {
                    value.push_str(&piece.decode().map_err(|e| wrong(&e))?);
                }
            }
            Event::GeneralRef(name) => {
                if let Some(value) = &mut value {
                    let name = name.decode().map_err(|e| wrong(&e))?;
                    value.push_str(&quick_xml::escape::unescape(&format!("&{name};")).map_err(|e| wrong(&e))?);
                }
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                b"TD" => row.push(value.take()),
                b"TR" => {
                    for (column, place) in columns.iter_mut().zip(&places) {
                        let value = row.get(*place).and_then(Option::as_deref).map(str::trim);
                        column.append_option(value.filter(|value| !value.is_empty()));
                    }
                }
                b"TABLEDATA" => return batch(wanted, columns),
                _ => {}
            },
            Event::Eof => return Err(wrong(&"it holds no TABLEDATA")),
            _ => {}
        }
    }
}
