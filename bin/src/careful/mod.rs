//! Messages that kill the process that decodes them: found out in a child process, and rejected.
//!
//! A panic while decoding costs one message (see [`fink_operators::decode`]); what overruns the stack, the memory or the time,
//! or is decoded and then can't be written, ends the process, and would again after each restart. So each start leaves a note
//! of where it begins ([`Deaths`]), and an end in order takes it away. Where two processes in a row died and the coverage of a
//! log did not move, its next messages are first decoded and written one by one in a child ([`Child`]). What ends or stops
//! that one too, alone in a fresh child, is entered in the book of schemas, and decoding rejects it with the reason. All
//! others are decoded as ever.

mod child;
mod deaths;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use fink_dataflow::message::{Chunk, Log};
use fink_operators::decode::SchemaBook;
use fink_operators::decode::book::Entry;
use fink_operators::decode::envelope::framed_id;
use fink_sources::schemas::{Ensured, Schemas};
use tracing::{debug, error, warn};

pub(crate) use child::COMMAND;
pub use child::{Answer, Child, Limits, Question, can_reexecute, serve, this_is_fink};
pub use deaths::{Deaths, SUSPECTED};

/// [`Schemas`] that also has messages under suspicion decoded in a child first.
pub struct Careful {
    schemas: Arc<dyn Schemas>,
    book: Arc<SchemaBook>,
    /// Offsets under suspicion.
    suspects: BTreeMap<Log, Range<i64>>,
    child: Mutex<Option<Child>>,
}

impl Careful {
    /// The same schemas, and a look at the messages of these logs and offsets; nothing more where there are none.
    #[must_use]
    pub fn over(schemas: Arc<dyn Schemas>, book: Arc<SchemaBook>, suspects: BTreeMap<Log, Range<i64>>) -> Arc<dyn Schemas> {
        if suspects.is_empty() {
            return schemas;
        }
        for (log, offsets) in &suspects {
            warn!(%log, from = offsets.start, "two processes died here: messages are decoded in a child process first");
        }
        if !can_reexecute() {
            warn!("this program is not fink: there is no child process, and messages are decoded as ever");
            return schemas;
        }
        Arc::new(Self { schemas, book, suspects, child: Mutex::new(None) })
    }

    /// What a child must know to decode a payload.
    fn question<'a>(&self, topic: &'a str, payload: &'a [u8]) -> Question<'a> {
        let bare = self.book.bare(topic);
        let framed = || match self.book.id(framed_id(payload)?)? {
            Entry::Known(json) => Some(json),
            Entry::Unknown => None,
        };
        let is_bare = bare.is_some();
        Question { topic, schema: bare.or_else(framed), is_bare, payload }
    }

    /// Why a message must not be decoded here, if it must not.
    fn verdict(&self, question: &Question<'_>) -> std::io::Result<Option<String>> {
        let mut held = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reason = None;
        // The second time alone in a fresh child: what came before may have been to blame.
        for _ in 0..2 {
            let child = match held.as_mut() {
                Some(child) => child,
                None => held.insert(Child::start(&Limits::default())?),
            };
            match child.ask(question) {
                Ok(Answer::Harmless) => return Ok(None),
                Ok(Answer::Unwritable(why)) => return Ok(Some(format!("its rows can't be written: {why}"))),
                Err(why) => reason = Some(why),
            }
            *held = None;
        }
        Ok(reason)
    }
}

impl Schemas for Careful {
    fn ensure(&self, topic: &str, id: u32) -> Ensured {
        self.schemas.ensure(topic, id)
    }

    fn screen(&self, chunk: &Chunk) {
        let Some(suspects) = self.suspects.get(&chunk.log) else { return };
        if chunk.span.start >= suspects.end || chunk.span.end <= suspects.start {
            return;
        }
        for message in chunk.messages.iter().filter(|message| suspects.contains(&message.offset)) {
            let Some(payload) = &message.payload else { continue };
            match self.verdict(&self.question(&chunk.log.topic, payload)) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    error!(log = %chunk.log, offset = message.offset, why, "a message is rejected for what it did to a child process");
                    self.book.condemn(payload, &why);
                }
                Err(error) => {
                    warn!(log = %chunk.log, offset = message.offset, %error, "no child process can be had: decoded as ever");
                    return;
                }
            }
        }
        // Which logs those are is said at the start; of their chunks there may be thousands.
        debug!(log = %chunk.log, from = chunk.span.start, to = chunk.span.end, "decoded in a child process");
    }
}
