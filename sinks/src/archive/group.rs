//! A group: closed files and the spans that they stand for. It is committed whole or not at all.

use std::fmt;
use std::sync::Arc;

use fink_dataflow::alerts::Passed;
use fink_dataflow::moment::Moment;
use fink_dataflow::table::entry::DataFile;

/// What a writer closed since its last group. Its files are stored, but no table knows them yet.
///
/// A group without files is still a group: its spans held nothing that a table keeps, and must be covered all the same.
pub struct Group {
    /// The worker whose writer closed it.
    pub worker: usize,
    /// The join of the Moments of what it holds.
    pub moment: Moment,
    /// The spans that it stands for, in the order they were read.
    pub passed: Vec<Passed>,
    /// Its files and the table of each, rejects included.
    pub files: Vec<(Arc<str>, DataFile)>,
    /// To be called once, when the group is durable: when its entry is in the ledger.
    pub done: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, moment, passed, files, done: _ } = self;
        f.debug_struct("Group").field("worker", worker).field("moment", moment).field("passed", passed).field("files", files).finish()
    }
}

/// Who takes closed groups: the committer, or a test. Groups of one worker are committed in the order they are given.
pub trait GroupSink: Send + Sync {
    /// Takes a group; returns at once.
    fn commit(&self, group: Group);
}

impl<F: Fn(Group) + Send + Sync> GroupSink for F {
    fn commit(&self, group: Group) {
        self(group);
    }
}
