//! Tasks that take turns in one thread, in an order and at times that are drawn from the seed: no thread, no real clock.
//!
//! A task belongs to an owner, which may be paused (its tasks then do nothing, and time goes on without them) or killed
//! (its tasks are gone in the middle of whatever they did). What an owner asked of the outside goes on without it, since that
//! is done by tasks of the world's own, owner 0.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::chance::Chance;

/// Whose a task is.
pub type Owner = u32;

struct Task {
    owner: Owner,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

struct Bell {
    task: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("no panic").push(self.task);
    }
}

/// The tasks of a world, and its time.
#[derive(Clone)]
pub struct Tasks(Rc<Inner>);

struct Inner {
    now: Cell<u64>,
    chance: RefCell<Chance>,
    ready: Arc<Mutex<Vec<u64>>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    paused: RefCell<BTreeMap<Owner, Vec<u64>>>,
    killed: RefCell<BTreeSet<Owner>>,
    next: Cell<u64>,
    /// A digest of every turn taken: two runs of a seed are the same if it is.
    digest: Cell<u64>,
}

impl Tasks {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            now: Cell::new(0),
            chance: RefCell::new(Chance::new(seed)),
            ready: Arc::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            paused: RefCell::default(),
            killed: RefCell::default(),
            next: Cell::new(0),
            digest: Cell::new(0),
        }))
    }

    /// Milliseconds since the world began.
    pub fn now(&self) -> u64 {
        self.0.now.get()
    }

    pub fn chance<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.0.chance.borrow_mut())
    }

    pub fn digest(&self) -> u64 {
        self.0.digest.get()
    }

    fn number(&self) -> u64 {
        self.0.next.set(self.0.next.get() + 1);
        self.0.next.get()
    }

    pub fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) {
        if self.0.killed.borrow().contains(&owner) {
            return;
        }
        let number = self.number();
        let waker = Waker::from(Arc::new(Bell { task: number, ready: self.0.ready.clone() }));
        self.0.tasks.borrow_mut().insert(number, Task { owner, future: Box::pin(future), waker });
        self.0.ready.lock().expect("no panic").push(number);
    }

    pub fn pause(&self, owner: Owner) {
        self.0.paused.borrow_mut().entry(owner).or_default();
    }

    pub fn resume(&self, owner: Owner) {
        let woken = self.0.paused.borrow_mut().remove(&owner).unwrap_or_default();
        self.0.ready.lock().expect("no panic").extend(woken);
    }

    pub fn kill(&self, owner: Owner) {
        self.0.killed.borrow_mut().insert(owner);
        let mut tasks = self.0.tasks.borrow_mut();
        let theirs: Vec<u64> = tasks.iter().filter(|(_, task)| task.owner == owner).map(|(number, _)| *number).collect();
        let gone: Vec<Task> = theirs.iter().filter_map(|number| tasks.remove(number)).collect();
        drop(tasks);
        drop(gone);
    }

    /// Lets go of all tasks and timers.
    pub fn clear(&self) {
        let (tasks, timers) = (self.0.tasks.take(), self.0.timers.take());
        drop(tasks);
        drop(timers);
    }

    pub fn sleep(&self, ms: u64) -> Sleep {
        Sleep { tasks: self.clone(), due: self.now() + ms, set: false }
    }

    /// Runs until `done`, or until nothing is left to happen. Returns whether it is done.
    pub fn run(&self, mut done: impl FnMut() -> bool) -> bool {
        let mut ready: Vec<u64> = Vec::new();
        while !done() {
            ready.append(&mut self.0.ready.lock().expect("no panic"));
            if ready.is_empty() {
                let Some(((due, _), waker)) = self.0.timers.borrow_mut().pop_first() else { return false };
                self.0.now.set(self.now().max(due));
                waker.wake();
                continue;
            }
            let turn = self.chance(|chance| chance.below(ready.len() as u64));
            let number = ready.swap_remove(usize::try_from(turn).expect("small"));
            self.turn(number);
        }
        self.0.ready.lock().expect("no panic").append(&mut ready);
        true
    }

    fn turn(&self, number: u64) {
        let Some(mut task) = self.0.tasks.borrow_mut().remove(&number) else { return };
        if let Some(woken) = self.0.paused.borrow_mut().get_mut(&task.owner) {
            if !woken.contains(&number) {
                woken.push(number);
            }
            self.0.tasks.borrow_mut().insert(number, task);
            return;
        }
        self.0.digest.set((self.digest() ^ number ^ (self.now() << 20)).wrapping_mul(0x100_0000_01B3));
        let waker = task.waker.clone();
        let ended = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if !ended && !self.0.killed.borrow().contains(&task.owner) {
            self.0.tasks.borrow_mut().insert(number, task);
        }
    }
}

/// Waits until a time.
pub struct Sleep {
    tasks: Tasks,
    due: u64,
    set: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.tasks.now() >= self.due {
            return Poll::Ready(());
        }
        if !self.set {
            self.set = true;
            let key = (self.due, self.tasks.number());
            self.tasks.0.timers.borrow_mut().insert(key, context.waker().clone());
        }
        Poll::Pending
    }
}

/// A queue between tasks; clones are the same queue.
pub struct Queue<T>(Rc<RefCell<(VecDeque<T>, Vec<Waker>)>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new((VecDeque::new(), Vec::new()))))
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        let mut inner = self.0.borrow_mut();
        inner.0.push_back(item);
        inner.1.drain(..).for_each(Waker::wake);
    }

    pub fn try_next(&self) -> Option<T> {
        self.0.borrow_mut().0.pop_front()
    }

    pub async fn next(&self) -> T {
        std::future::poll_fn(|context| {
            let mut inner = self.0.borrow_mut();
            match inner.0.pop_front() {
                Some(item) => Poll::Ready(item),
                None => {
                    inner.1.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Wakes whoever waits for something to have changed.
#[derive(Clone, Default)]
pub struct Signal(Rc<RefCell<(u64, Vec<Waker>)>>);

impl Signal {
    pub fn give(&self) {
        let mut inner = self.0.borrow_mut();
        inner.0 += 1;
        inner.1.drain(..).for_each(Waker::wake);
    }

    pub fn seen(&self) -> u64 {
        self.0.borrow().0
    }

    /// Waits for a signal after the one `seen`, at most so long.
    pub async fn after(&self, seen: u64, tasks: &Tasks, ms: u64) {
        let mut sleep = tasks.sleep(ms);
        std::future::poll_fn(|context| {
            if self.0.borrow().0 != seen || Pin::new(&mut sleep).poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().1.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A place for one answer.
pub struct Answer<T>(Queue<T>);

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self(Queue::default())
    }
}

impl<T> Answer<T> {
    pub fn give(&self, answer: T) {
        self.0.push(answer);
    }

    pub async fn get(&self) -> T {
        self.0.next().await
    }
}
