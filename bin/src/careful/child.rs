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
use rustix::process::{Resource, Rlimit, setrlimit};

/// The hidden command.
pub(crate) const COMMAND: &str = "decode-alone";
/// What it says when it has decoded a message, or found that it can't be.
const LIVES: u8 = 1;
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

/// A child process.
pub struct Child {
    process: std::process::Child,
    questions: BufWriter<ChildStdin>,
    answers: Receiver<()>,
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
            for answer in BufReader::new(from).bytes() {
                // Whatever else it says is not for us; when nobody listens, nobody asks.
                if !matches!(answer, Ok(LIVES)) || give.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { process, questions: BufWriter::new(questions), answers, limits: limits.clone() })
    }

    /// Has a message decoded.
    ///
    /// # Errors
    /// What became of the child, when it did not live through it.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<(), String> {
        // A child that has ended takes no question; how it ended is seen below.
        let asked = write(&mut self.questions, question).is_ok();
        let answer = if asked { self.answers.recv_timeout(self.limits.answer) } else { Err(RecvTimeoutError::Disconnected) };
        match answer {
            Ok(()) => Ok(()),
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
        let _ = decoder.decode(payload, &topic);
        to.write_all(&[LIVES])?;
        to.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
