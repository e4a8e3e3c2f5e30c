//! What a service of one's own answers with: a collection of keys and answers, kept where it can be asked.

use std::sync::Arc;

use differential_dataflow::{ExchangeData, VecCollection};
use fink_dataflow::Moment;
use serde::Serialize;
use serde_json::Value;
use timely::dataflow::ProbeHandle;

use crate::services::Trace;
use crate::services::desk::{Lease, Reader, Unready, forget};
use crate::services::views::values;

/// The answers of a service.
pub struct Answers<'s> {
    kept: Box<dyn Kept>,
    attach: Box<dyn FnOnce(&ProbeHandle<Moment>) + 's>,
}

impl<'s> Answers<'s> {
    /// Answers by key: who asks for a key is told all that the collection holds of it then, as JSON.
    #[must_use]
    pub fn by_key<A: ExchangeData + Serialize>(answers: VecCollection<'s, Moment, (String, A), isize>) -> Self {
        let arranged = answers.arrange_by_key_named("own answers by key");
        let stream = arranged.stream;
        Self {
            kept: Box::new(ByKey(arranged.trace)),
            attach: Box::new(move |probe| {
                use timely::dataflow::operators::Probe;
                stream.probe_with(probe);
            }),
        }
    }

    /// Parts with what is kept for readers; `probe` is put behind it.
    pub(crate) fn kept(self, probe: &ProbeHandle<Moment>) -> Box<dyn Kept> {
        (self.attach)(probe);
        self.kept
    }
}

/// Answers that are kept for readers.
pub trait Kept {
    /// What a key has at a Moment, as often as it is there.
    fn read(&mut self, key: &str, at: Moment) -> Vec<Value>;

    /// Lets go of all that differs only before `since`.
    fn forget(&mut self, since: Moment);
}

struct ByKey<A: ExchangeData>(Trace<String, A>);

impl<A: ExchangeData + Serialize> Kept for ByKey<A> {
    fn read(&mut self, key: &str, at: Moment) -> Vec<Value> {
        let mut found = Vec::new();
        values(&mut self.0, &[key.to_owned()], at, |_, answer, count| {
            let value = serde_json::to_value(answer).unwrap_or(Value::Null);
            found.extend(std::iter::repeat_n(value, usize::try_from(count).unwrap_or(0)));
        });
        found
    }

    fn forget(&mut self, since: Moment) {
        forget(&mut self.0, since);
    }
}

/// Asks a service of one's own for a key.
///
/// # Errors
/// When the worker that holds it can't answer.
pub async fn ask(reader: &Reader, lease: &Lease, service: &str, key: &str) -> Result<Vec<Value>, Unready> {
    let (at, service, wanted): (_, Arc<str>, String) = (lease.moment, service.into(), key.to_owned());
    let key = wanted.clone();
    reader.ask(&key, move |traces| traces.own.get_mut(&*service).map_or(Vec::new(), |kept| kept.read(&wanted, at))).await
}
