//! The post: letters between the processes of a cluster, carried by a dataflow of their own over the same mesh.
//!
//! ```text
//!  send(to, text) ─► letters ─ exchange by process ─► post ─► who waits for this process's letters
//! ```
//! One worker of each process takes part. Letters from one process to another arrive in the order in which they were sent.
//! Nothing waits for the post: whoever sends returns at once, and whoever receives is another thread.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::operator::source;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

/// A letter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Letter {
    /// The process that sent it.
    pub from: usize,
    /// The process that it is for.
    pub to: usize,
    /// What it says.
    pub text: String,
}

/// The post office of a process. Clones are the same.
#[derive(Clone)]
pub struct Post {
    /// This process.
    process: usize,
    /// Workers of each process.
    workers: usize,
    state: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    letters: VecDeque<Letter>,
    waker: Option<SyncActivator>,
    closed: bool,
    /// Where what comes is handed over, until the dataflow takes it.
    inbox: Option<Sender<Letter>>,
}

impl Post {
    /// The office of a process, and its letters as they come. They end with the dataflow.
    #[must_use]
    pub fn open(process: usize, workers: usize) -> (Self, Receiver<Letter>) {
        let (inbox, letters) = channel();
        let state = Open { inbox: Some(inbox), ..Open::default() };
        (Self { process, workers, state: Arc::new(Mutex::new(state)) }, letters)
    }

    fn state(&self) -> MutexGuard<'_, Open> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a letter. After [`Post::close`] it goes nowhere.
    pub fn send(&self, to: usize, text: String) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.letters.push_back(Letter { from: self.process, to, text });
        state.wake();
    }

    /// Sends nothing more: when all processes have said so, the dataflow ends.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
    }

    /// Builds the dataflow on a worker; on all of them, in the same order as other dataflows.
    pub fn build(&self, worker: &mut Worker) {
        let (post, workers) = (self.clone(), self.workers);
        let takes_part = worker.index() == self.process * workers;
        let inbox = if takes_part { self.state().inbox.take() } else { None };
        worker.dataflow_named::<u64, _, _>("post", |scope| {
            let letters = source::<_, CapacityContainerBuilder<Vec<Letter>>, _, _>(scope, "letters", |capability, info| {
                let mut held = takes_part.then_some(capability);
                if takes_part {
                    let waker = scope.worker().sync_activator_for(info.address.to_vec());
                    post.state().waker = Some(waker);
                }
                // What was sent before there was a dataflow goes out with the first turn.
                scope.activator_for(Rc::clone(&info.address)).activate();
                move |output| {
                    let Some(capability) = &held else { return };
                    let mut state = post.state();
                    let (letters, closed) = (std::mem::take(&mut state.letters), state.closed);
                    drop(state);
                    if !letters.is_empty() {
                        output.session(capability).give_iterator(letters.into_iter());
                    }
                    if closed {
                        held = None;
                    }
                }
            });
            let to_process = Exchange::new(move |letter: &Letter| (letter.to * workers) as u64);
            letters.sink(to_process, "post", move |(input, _frontier)| {
                input.for_each(|_capability, letters| {
                    for letter in letters.drain(..) {
                        if let Some(inbox) = &inbox {
                            // Who no longer listens has ended.
                            let _ = inbox.send(letter);
                        }
                    }
                });
            });
        });
    }
}

impl Open {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            // A worker that is gone needs no waking.
            let _ = waker.activate();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use timely::{CommunicationConfig, Config, WorkerConfig};

    #[test]
    fn letters_come_in_order_also_those_sent_before_and_between_two_processes() {
        // Two "processes" of one worker each, whose channels serialise as between machines.
        let (offices, boxes): (Vec<_>, Vec<_>) = (0..2).map(|process| Post::open(process, 1)).unzip();
        offices[0].send(1, "early".to_owned());
        let built = offices.clone();
        let config = Config { communication: CommunicationConfig::ProcessBinary(2), worker: WorkerConfig::default() };
        let guards = timely::execute(config, move |worker| built[worker.index()].build(worker)).expect("workers start");
        (0..100).for_each(|n| offices[0].send(1, n.to_string()));
        let next = || boxes[1].recv_timeout(Duration::from_secs(60)).expect("a letter");
        assert_eq!(next(), Letter { from: 0, to: 1, text: "early".to_owned() });
        assert!((0..100).all(|n| next().text == n.to_string()));
        offices[1].send(0, "back".to_owned());
        assert_eq!(boxes[0].recv_timeout(Duration::from_secs(60)).expect("a letter").text, "back");
        offices.iter().for_each(Post::close);
        guards.join().into_iter().for_each(|end| end.expect("no worker panics"));
        offices[0].send(1, "late".to_owned());
        assert!(boxes[1].recv().is_err(), "the letters end with the dataflow");
    }
}
