//! Tables of one's own: files of lines that come and go.
//!
//! A file is looked at once a second; when its time or its length has changed it is read, and the lines that differ enter the
//! graph as late data that rolls in whole, as catalogues do. One that can't be read leaves the graph as it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fink_sources::queue::Inlet;

use super::Own;
use crate::services::catalogues::feed::{Feed, Handing, Piece};
use crate::services::catalogues::register::Register;

/// A line of a table, by the table's number.
pub type Line = (u32, String);

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// As what the register knows them.
const WHOSE: &str = "tables";

/// Feeds the tables of these services to whoever draws from the inlet. Tables are numbered service by service.
///
/// # Errors
/// When no thread can be had.
pub fn start(services: &[Own], register: &Register) -> std::io::Result<(Feed, Inlet<Piece<Line>>)> {
    let name = |own: &Own, (table, file): &(String, PathBuf)| (format!("table {table} of {}", own.name()), file.clone());
    let files = services.iter().flat_map(|own| own.tables().iter().map(move |table| name(own, table)));
    let mut tables: Vec<Table> = (0..).zip(files).map(|(number, (name, file))| Table::new(number, name, file)).collect();
    register.expect(WHOSE, tables.iter().map(|table| table.name.clone()));
    let register = register.clone();
    Feed::run("tables", move |handing| {
        while !handing.stopping() {
            tables.iter_mut().for_each(|table| table.look(handing, &register));
            handing.sleep(LOOK);
        }
    })
}

struct Table {
    number: u32,
    name: String,
    file: PathBuf,
    /// When it was last written, and its length, as of the last look.
    seen: Option<(Option<SystemTime>, u64)>,
    /// The lines that were handed over.
    held: BTreeSet<String>,
    begun: bool,
    /// Whether it was said that it can't be read.
    said: bool,
}

impl Table {
    fn new(number: u32, name: String, file: PathBuf) -> Self {
        Self { number, name, file, seen: None, held: BTreeSet::new(), begun: false, said: false }
    }

    fn look(&mut self, handing: &Handing<Line>, register: &Register) {
        let seen = std::fs::metadata(&self.file).map(|meta| (meta.modified().ok(), meta.len())).ok();
        if seen == self.seen && seen.is_some() {
            return;
        }
        match lines(&self.file) {
            Ok(lines) => {
                (self.seen, self.said) = (seen, false);
                register.trouble(&self.name, None);
                let changes = self.changes(lines);
                if !changes.is_empty() || !self.begun {
                    self.begun = true;
                    handing.give(register.begin(&self.name), changes);
                }
            }
            Err(why) => {
                self.seen = None;
                if !std::mem::replace(&mut self.said, true) {
                    let why = format!("{}: {}: {why}; it stays as it was, and is tried again", self.name, self.file.display());
                    tracing::error!("{why}");
                    register.trouble(&self.name, Some(why));
                }
            }
        }
    }

    /// What makes these lines of those that are held; equal lines count once.
    fn changes(&mut self, lines: BTreeSet<String>) -> Vec<(Line, i8)> {
        let went = self.held.iter().filter(|line| !lines.contains(*line)).map(|line| (line, -1));
        let came = lines.iter().filter(|line| !self.held.contains(*line)).map(|line| (line, 1));
        let changes = went.chain(came).map(|(line, change)| ((self.number, line.clone()), change)).collect();
        self.held = lines;
        changes
    }
}

fn lines(file: &Path) -> std::io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_changes_by_the_lines_that_differ() {
        let of = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let mut table = Table::new(3, "t".to_owned(), PathBuf::new());
        assert_eq!(table.changes(of("a\nb")), [((3, "a".to_owned()), 1), ((3, "b".to_owned()), 1)]);
        assert_eq!(table.changes(of("b\nc")), [((3, "a".to_owned()), -1), ((3, "c".to_owned()), 1)]);
        assert_eq!(table.changes(of("b\nc")), []);
    }
}
