//! A child process that decodes messages one by one: `fink` itself, by a command that nobody types.
//!
//! Messages go in by its standard input, an answer of one byte comes back for each. It is bounded in memory, in processor
//! time and, by its parent, in the time that an answer takes; it ends with its parent.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use fink_operators::decode::envelope::framed_id;
use fink_operators::decode::{Alone, SchemaBook};
use fink_sinks::archive::files::rehearse;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The hidden command.
pub(crate) const COMMAND: &str = "decode-alone";
/// What it says when it has decoded a message, or found that it can't be.
const LIVES: u8 = 1;
/// What it says before the reason when what it has decoded can't be written.
const UNWRITABLE: u8 = 2;
/// A reason is not longer than this.
const REASON_BYTES: usize = 1 << 12;
/// Processor time after which a child ends, in seconds; the next one goes on.
const PROCESSOR_S: u64 = 300;

static PROGRAM: AtomicBool = AtomicBool::new(false);

/// Says that this program is `fink`, which knows the hidden command.
pub fn this_is_fink() {
    PROGRAM.store(true, Ordering::Relaxed);
}

/// Whether this program may be started again as a child.
#[must_use]
pub fn can_reexecute() -> bool {
    PROGRAM.load(Ordering::Relaxed)
}

/// The bounds of a child.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// How long an answer may take.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, answer: Duration::from_secs(30) }
    }
}

/// A message to decode.
pub struct Question<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// The schema that it does not carry itself, where one is known.
    pub schema: Option<Arc<str>>,
    /// Whether that is the schema of the topic's bare datums, and not of the id that the message names.
    pub is_bare: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What a child that lived through a message says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It does no harm.
    Harmless,
    /// A writer would end for it, and why.
    Unwritable(String),
}

/// A child process.
pub struct Child {
    process: std::process::Child,
    questions: BufWriter<ChildStdin>,
    answers: Receiver<Answer>,
    limits: Limits,
}

impl Child {
    /// Starts one.
    ///
    /// # Errors
    /// When the system has no process to give.
    pub fn start(limits: &Limits) -> io::Result<Self> {
        // This very program, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).arg(limits.memory_bytes.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (questions, from) = pipes.ok_or_else(|| io::Error::other("the child has no pipes"))?;
        let (give, answers) = bounded(1);
        std::thread::Builder::new().name("child-answers".into()).spawn(move || {
            let mut from = BufReader::new(from);
            // Whatever else it says is not for us; when nobody listens, nobody asks.
            while let Some(answer) = answer(&mut from)
                && give.send(answer).is_ok()
            {}
        })?;
        Ok(Self { process, questions: BufWriter::new(questions), answers, limits: limits.clone() })
    }

    /// Has a message decoded, and its rows written to a file in memory.
    ///
    /// # Errors
    /// What became of the child, when it did not live through it.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<Answer, String> {
        // A child that has ended takes no question; how it ended is seen below.
        let asked = write(&mut self.questions, question).is_ok();
        let answer = if asked { self.answers.recv_timeout(self.limits.answer) } else { Err(RecvTimeoutError::Disconnected) };
        match answer {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(format!("decoding it did not end within {:?}", self.limits.answer)),
            Err(RecvTimeoutError::Disconnected) => {
                let ended = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("decoding it ended the process ({ended})"))
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(to: &mut impl Write, question: &Question<'_>) -> io::Result<()> {
    let mut part = |bytes: &[u8]| {
        to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        to.write_all(bytes)
    };
    part(question.topic.as_bytes())?;
    part(&[u8::from(question.is_bare)])?;
    part(question.schema.as_deref().unwrap_or_default().as_bytes())?;
    part(question.payload)?;
    to.flush()
}

/// What the child says next; `None` when it has no more to say.
fn answer(from: &mut impl Read) -> Option<Answer> {
    let mut said = [0];
    from.read_exact(&mut said).ok()?;
    match said[0] {
        LIVES => Some(Answer::Harmless),
        UNWRITABLE => Some(Answer::Unwritable(String::from_utf8_lossy(&part(from).ok()??).into_owned())),
        _ => None,
    }
}

fn tell(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Harmless => to.write_all(&[LIVES])?,
        Answer::Unwritable(why) => {
            let why = &why.as_bytes()[..why.len().min(REASON_BYTES)];
            to.write_all(&[UNWRITABLE])?;
            to.write_all(&(why.len() as u64).to_le_bytes())?;
            to.write_all(why)?;
        }
    }
    to.flush()
}

/// The next part; `None` at the end.
fn part(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// The child's side: decodes what comes in until nothing comes any more.
///
/// # Errors
/// When its pipes or its bounds fail.
pub fn serve(memory_bytes: u64) -> anyhow::Result<ExitCode> {
    let bound = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, bound(memory_bytes))?;
    setrlimit(Resource::Cpu, bound(PROCESSOR_S))?;
    setrlimit(Resource::Core, bound(0))?;
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let book = Arc::new(SchemaBook::new());
    let mut decoder = Alone::new(Arc::clone(&book));
    while let Some(topic) = part(&mut from)? {
        let topic = String::from_utf8(topic)?;
        let is_bare = part(&mut from)?.is_some_and(|flag| flag == [1]);
        let schema = String::from_utf8(part(&mut from)?.unwrap_or_default())?;
        let payload = Bytes::from(part(&mut from)?.unwrap_or_default());
        match framed_id(&payload) {
            _ if schema.is_empty() => {}
            _ if is_bare => book.set_bare(&topic, &schema),
            Some(id) => book.know(id, &schema),
            None => {}
        }
        // Whether it is archived or rejected is found out again where it counts.
        let rehearsed = rehearse(&decoder.whole(payload, &topic));
        tell(&mut to, &rehearsed.map_or_else(|error| Answer::Unwritable(error.to_string()), |()| Answer::Harmless))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_is_understood() {
        let long = "x".repeat(2 * REASON_BYTES);
        let answers = [Answer::Unwritable("no such column".into()), Answer::Harmless, Answer::Unwritable(String::new())];
        let mut said = Vec::new();
        answers.iter().chain([&Answer::Unwritable(long)]).for_each(|answer| tell(&mut said, answer).expect("memory takes it"));
        let mut from = said.as_slice();
        let heard: Vec<Answer> = std::iter::from_fn(|| answer(&mut from)).collect();
        assert_eq!(heard[..3], answers);
        assert_eq!(heard[3..], [Answer::Unwritable("x".repeat(REASON_BYTES))]);
        assert_eq!(answer(&mut [7].as_slice()), None, "what a library prints is no answer");
    }
}
