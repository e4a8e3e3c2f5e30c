//! What a person sees of a running service: a line that renews itself on a terminal, a plain line now and then elsewhere.

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cluster::pulse::SUPERVISED;
use crate::session::Figures;

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// The line on the terminal, if there is one: logs are written above it.
static LINE: OnceLock<ProgressBar> = OnceLock::new();

/// What a service does with messages.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Deed {
    /// It archives them.
    Archive,
    /// It sends them.
    Send,
    /// It follows an archive.
    Follow,
}

/// Shows how a service gets on.
pub(crate) struct Progress {
    deed: Deed,
    /// The most that was ever behind: the catch-up's whole length.
    whole: u64,
    caught_up: bool,
    written: Option<Instant>,
}

impl Progress {
    /// On this process's standard error.
    pub(crate) fn start(deed: Deed) -> Self {
        if console_is_terminal() {
            let line = LINE.get_or_init(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4)));
            line.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"));
        }
        Self { deed, whole: 0, caught_up: false, written: None }
    }

    /// Shows `figures`, and rates a second.
    pub(crate) fn show(&mut self, figures: &Figures, messages_per_s: f64, bytes_per_s: f64) {
        match LINE.get() {
            Some(line) => self.line(line, figures, messages_per_s, bytes_per_s),
            None => self.plain(figures, messages_per_s),
        }
    }

    fn line(&mut self, line: &ProgressBar, figures: &Figures, messages_per_s: f64, bytes_per_s: f64) {
        let behind = figures.backlog.unwrap_or(0);
        if behind > 0 {
            if self.whole < behind {
                self.whole = behind;
                line.set_length(behind);
                let template = "{spinner} catches up {bar:30} {percent}% {msg}";
                line.set_style(ProgressStyle::with_template(template).expect("the template is right"));
            }
            line.set_position(self.whole - behind);
        } else if figures.backlog.is_some() && !self.caught_up {
            self.caught_up = true;
            line.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"));
        }
        let mut text = match self.deed {
            Deed::Archive => format!("{} archived", HumanCount(figures.archived)),
            Deed::Send => format!("{} sent", HumanCount(figures.messages)),
            Deed::Follow => format!("{} alerts followed", HumanCount(figures.messages)),
        };
        if figures.rejected > 0 {
            text += &format!(", {} rejected", HumanCount(figures.rejected));
        }
        text += &format!(", {messages_per_s:.0}/s ({}/s)", HumanBytes(bytes_per_s.max(0.0) as u64));
        if let Some(lag) = figures.lag {
            text += &format!(", {} behind", HumanCount(lag));
        }
        if let Some(trouble) = &figures.trouble {
            text += &format!(" | {trouble}");
        }
        line.set_message(text);
        line.tick();
    }

    fn plain(&mut self, figures: &Figures, messages_per_s: f64) {
        if self.written.is_some_and(|at| at.elapsed() < PLAIN_EVERY) {
            return;
        }
        self.written = Some(Instant::now());
        if self.deed == Deed::Send {
            tracing::info!(messages = figures.messages, bytes = figures.bytes, per_s = format!("{messages_per_s:.1}"), "sends");
            return;
        }
        if self.deed == Deed::Follow {
            figures.services.iter().flat_map(crate::services::desk::Stand::lines).for_each(|line| tracing::info!("{line}"));
            figures.trouble.iter().for_each(|trouble| tracing::warn!("{trouble}"));
            return;
        }
        let Figures { messages, archived, rejected, empty, lag, entry, .. } = figures;
        let (lag, entry) = (lag.map_or("?".to_owned(), |n| n.to_string()), entry.map_or("-".to_owned(), |n| n.to_string()));
        tracing::info!(messages, archived, rejected, empty, lag, entry, per_s = format!("{messages_per_s:.1}"), "archives");
        if let Some(trouble) = &figures.trouble {
            tracing::warn!("{trouble}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = LINE.get() {
            line.finish_and_clear();
        }
    }
}

fn console_is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

/// Standard error for logs: they stand above the progress line, and of several processes each line says whose it is.
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        static WHOSE: OnceLock<Option<String>> = OnceLock::new();
        let whose = WHOSE.get_or_init(|| std::env::var(SUPERVISED).ok().map(|process| format!("[{process}] ")));
        // In one piece: others write to the same terminal.
        let line = whose.as_ref().map(|whose| [whose.as_bytes(), text].concat());
        let written = line.as_deref().unwrap_or(text);
        match LINE.get() {
            Some(line) => line.suspend(|| std::io::stderr().write_all(written))?,
            None => std::io::stderr().write_all(written)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
