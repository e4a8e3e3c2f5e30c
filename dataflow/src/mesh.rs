//! The mesh: the connections between the processes of a cluster, and what they agree on before the graph runs.
//!
//! ```text
//!  process i ─ connects to all below it, listens for all above ─► hello, welcome ─► all are there
//!  process 0 ─ begin (what only it decides) ─► all others ─ ready ─► process 0 ─ go ─► the graph, over the same connections
//! ```
//!
//! Until then a process that can't reach another says so and waits; from then on they share one fate: a connection that breaks
//! ends the process, and all are started again. Who listens asks everybody the same few questions (release, place, terms),
//! but nobody who he is: the mesh belongs on a network that others can't reach.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::worker::Worker;

/// How often a connection is tried, and everything looked at that may come.
const LOOK: Duration = Duration::from_millis(100);
/// How long another machine may take to take a connection: meanwhile nobody is let in here.
const CONNECTS: Duration = Duration::from_secs(1);
/// How long another process may take to answer: longer than it may be busy connecting itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one who has come may take to say who he is.
const INTRODUCES: Duration = Duration::from_secs(3);
/// How long process 0 may take to open the archive, and the others to read it: then one is gone, and its machine did not say so.
const PREPARES: Duration = Duration::from_secs(300);
/// The longest sentence: bytes.
const SENTENCE_MAX: usize = 64 << 20;

/// Which process of which cluster this is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its index.
    pub process: usize,
    /// Where each process listens, `HOST:PORT`, by index.
    pub addresses: Vec<String>,
}

impl Place {
    /// How many processes there are.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.addresses.len()
    }

    /// Whether this is the process that commits, and issues Moments.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.process == 0
    }

    /// Whether only this machine can reach the address that it listens at.
    ///
    /// # Errors
    /// When the address is none, or its host is not known.
    pub fn is_loopback(&self) -> io::Result<bool> {
        Ok(self.addresses[self.process].to_socket_addrs()?.all(|address| address.ip().is_loopback()))
    }
}

/// Why the processes do not come together.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Nobody can come in.
    #[error("can't listen at {address}, where process {process} is to be reached: {source}")]
    Listen {
        /// This process.
        process: usize,
        /// Its address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The processes were not started for the same cluster, or not alike: a person must change something.
    #[error("process {process} at {address} does not fit: {why}")]
    Unlike {
        /// The other process.
        process: usize,
        /// Its address.
        address: String,
        /// What differs.
        why: String,
    },
    /// One was there and is gone: all begin again.
    #[error("process {process} at {address} was there and is gone ({why}): all must be started again")]
    Gone {
        /// The other process.
        process: usize,
        /// Its address.
        address: String,
        /// What is seen of it.
        why: String,
    },
    /// The workers can't start.
    #[error("the workers can't start: {0}")]
    Workers(String),
}

/// What a process says when it comes in.
#[derive(Debug, Deserialize, Serialize)]
struct Hello {
    release: String,
    process: usize,
    processes: usize,
    terms: String,
}

/// What it is answered.
#[derive(Debug, Deserialize, Serialize)]
enum Answer {
    Welcome,
    Unlike(String),
}

/// What process 0 says at last.
const GO: &str = "go";
const READY: &str = "ready";

/// The connections of a process to all others.
pub struct Mesh {
    place: Place,
    hello: Hello,
    listener: Option<TcpListener>,
    sockets: Vec<Option<TcpStream>>,
}

impl Mesh {
    /// Waits until all processes are connected. `terms` must be the same at all of them: what else the graph depends on.
    /// `waits` is told several times a second for whom, and ends the waiting by `false`: then there is no mesh.
    ///
    /// # Errors
    /// When nobody can come in, or another process does not fit.
    pub fn join(place: Place, terms: String, mut waits: impl FnMut(&str) -> bool) -> Result<Option<Self>, MeshError> {
        let (process, processes) = (place.process, place.processes());
        let listener = if process + 1 < processes { Some(listen(&place)?) } else { None };
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Hello { release, process, processes, terms };
        let mut mesh = Self { place, hello, listener, sockets: (0..processes).map(|_| None).collect() };
        let mut tried = vec![None::<Instant>; process];
        loop {
            let mut why = None;
            for other in 0..process {
                if mesh.sockets[other].is_none() && tried[other].is_none_or(|at| at.elapsed() >= LOOK * 3) {
                    match mesh.connect(other)? {
                        Ok(socket) => mesh.sockets[other] = Some(socket),
                        Err(error) => why = Some(error.to_string()),
                    }
                    tried[other] = Some(Instant::now());
                }
            }
            while let Some((other, socket)) = mesh.knock() {
                // One that comes again has been started again: its first connection is dead.
                mesh.sockets[other] = Some(socket);
            }
            let missing = |other: &usize| *other != process && mesh.sockets[*other].is_none();
            let Some(first) = (0..processes).find(missing) else { return Ok(Some(mesh)) };
            let others = (0..processes).filter(missing).count() - 1;
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            if !waits(&format!("waits for process {first} at {}{more}{why}", mesh.place.addresses[first])) {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Its place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Process 0 tells all others what it decided, waits until they are ready, and lets all go.
    ///
    /// # Errors
    /// When one is gone meanwhile. `waits` is as for [`Mesh::join`].
    pub fn lead(&mut self, begin: &impl Serialize, mut waits: impl FnMut(&str) -> bool) -> Result<Option<()>, MeshError> {
        for other in 1..self.place.processes() {
            self.say(other, begin)?;
        }
        for other in 1..self.place.processes() {
            if self.hear::<String>(other, &mut waits)?.is_none() {
                return Ok(None);
            }
        }
        for other in 1..self.place.processes() {
            self.say(other, &GO)?;
        }
        Ok(Some(()))
    }

    /// Another process waits for what process 0 decided.
    ///
    /// # Errors
    /// As for [`Mesh::lead`].
    pub fn begin<B: DeserializeOwned>(&mut self, mut waits: impl FnMut(&str) -> bool) -> Result<Option<B>, MeshError> {
        self.hear(0, &mut waits)
    }

    /// It is ready, and waits until all are.
    ///
    /// # Errors
    /// As for [`Mesh::lead`].
    pub fn ready(&mut self, mut waits: impl FnMut(&str) -> bool) -> Result<Option<()>, MeshError> {
        self.say(0, &READY)?;
        Ok(self.hear::<String>(0, &mut waits)?.map(drop))
    }

    /// Starts so many workers, connected to those of all other processes.
    ///
    /// # Errors
    /// When they can't start.
    pub fn workers<T: Send + 'static>(
        self,
        threads: usize,
        config: WorkerConfig,
        work: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
    ) -> Result<WorkerGuards<T>, MeshError> {
        let failed = |error: &dyn std::fmt::Display| MeshError::Workers(error.to_string());
        for socket in self.sockets.iter().flatten() {
            socket.set_read_timeout(None).and_then(|()| socket.set_write_timeout(None)).map_err(|error| failed(&error))?;
        }
        let hooks = Hooks::default();
        let inside = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets(inside, self.sockets, self.place.process, threads, hooks).map_err(|error| failed(&error))?;
        let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
        timely::execute::execute_from(builders, Box::new(guard), config, work).map_err(|error| failed(&error))
    }

    /// Connects to a process below; the inner error is one that may pass.
    fn connect(&self, other: usize) -> Result<io::Result<TcpStream>, MeshError> {
        let address = &self.place.addresses[other];
        let tried = (|| {
            let to = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such host"))?;
            let mut socket = TcpStream::connect_timeout(&to, CONNECTS)?;
            prepare(&socket, PATIENCE)?;
            write(&mut socket, &self.hello)?;
            let answer = read::<Answer>(&mut socket)?;
            Ok((socket, answer))
        })();
        match tried {
            Ok((socket, Answer::Welcome)) => Ok(Ok(socket)),
            Ok((_, Answer::Unlike(why))) => Err(self.unlike(other, why)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Lets one in who knocks, if anybody does.
    fn knock(&self) -> Option<(usize, TcpStream)> {
        let (mut socket, from) = self.listener.as_ref()?.accept().ok()?;
        let heard = socket.set_nonblocking(false).and_then(|()| prepare(&socket, INTRODUCES)).and_then(|()| read::<Hello>(&mut socket));
        let hello = match heard {
            Ok(hello) => hello,
            Err(error) => {
                tracing::warn!(%from, %error, "somebody came who is no process of this cluster");
                return None;
            }
        };
        let why = self.differs(&hello);
        let answer = why.as_ref().map_or(Answer::Welcome, |why| Answer::Unlike(why.clone()));
        if let Err(error) = write(&mut socket, &answer) {
            tracing::debug!(%from, %error, "it has gone again");
            return None;
        }
        match why {
            None => Some((hello.process, socket)),
            Some(why) => {
                tracing::warn!(%from, process = hello.process, why, "a process was not let in");
                None
            }
        }
    }

    fn differs(&self, other: &Hello) -> Option<String> {
        let ours = &self.hello;
        if other.release != ours.release {
            return Some(format!("it is release {}, process {} is {}", other.release, ours.process, ours.release));
        }
        if other.processes != ours.processes {
            return Some(format!(
                "it is of a cluster of {} processes, process {} of one of {}",
                other.processes, ours.process, ours.processes
            ));
        }
        if other.process <= ours.process || other.process >= ours.processes {
            return Some(format!(
                "it says that it is process {}, and came to process {}: are the hosts the same?",
                other.process, ours.process
            ));
        }
        (other.terms != ours.terms).then(|| format!("it was started with {}, process {} with {}", other.terms, ours.process, ours.terms))
    }

    fn say(&mut self, to: usize, what: &impl Serialize) -> Result<(), MeshError> {
        let socket = self.sockets[to].as_mut().expect("all are connected");
        write(socket, what).map_err(|error| self.gone(to, &error))
    }

    /// The next sentence of another process; meanwhile it is looked whether the others are still there.
    fn hear<T: DeserializeOwned>(&mut self, from: usize, waits: &mut dyn FnMut(&str) -> bool) -> Result<Option<T>, MeshError> {
        let began = Instant::now();
        loop {
            if began.elapsed() >= PREPARES {
                return Err(self.gone(from, &format!("it has said nothing for {PREPARES:?}")));
            }
            if let Some((other, _)) = self.knock() {
                return Err(self.gone(other, &"it came a second time"));
            }
            let mut ready = false;
            for (other, socket) in self.sockets.iter().enumerate().filter_map(|(other, socket)| Some((other, socket.as_ref()?))) {
                match peek(socket) {
                    Ok(0) => return Err(self.gone(other, &"it closed the connection")),
                    Ok(_) => ready |= other == from,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(self.gone(other, &error)),
                }
            }
            if ready {
                let socket = self.sockets[from].as_mut().expect("all are connected");
                return read(socket).map(Some).map_err(|error| self.gone(from, &error));
            }
            if !waits(&format!("all are connected; waits for process {from}")) {
                return Ok(None);
            }
            std::thread::sleep(LOOK / 4);
        }
    }

    fn gone(&self, process: usize, why: &dyn std::fmt::Display) -> MeshError {
        MeshError::Gone { process, address: self.place.addresses[process].clone(), why: why.to_string() }
    }

    fn unlike(&self, process: usize, why: String) -> MeshError {
        MeshError::Unlike { process, address: self.place.addresses[process].clone(), why }
    }
}

fn listen(place: &Place) -> Result<TcpListener, MeshError> {
    let address = &place.addresses[place.process];
    let bound = TcpListener::bind(address.as_str()).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| MeshError::Listen { process: place.process, address: address.clone(), source })
}

fn prepare(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))
}

/// Whether there is something to read, without waiting.
fn peek(socket: &TcpStream) -> io::Result<usize> {
    socket.set_nonblocking(true)?;
    let seen = socket.peek(&mut [0]);
    socket.set_nonblocking(false)?;
    seen
}

fn write(socket: &mut TcpStream, what: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(&text)
}

fn read<T: DeserializeOwned>(socket: &mut TcpStream) -> io::Result<T> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > SENTENCE_MAX {
        return Err(io::Error::other("this is no process of a cluster"));
    }
    // Never longer than what has come: a stranger's number reserves no memory.
    let mut text = Vec::new();
    socket.take(length as u64).read_to_end(&mut text)?;
    if text.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread::{JoinHandle, spawn};

    use super::*;

    fn addresses(count: usize) -> Vec<String> {
        let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        held.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect()
    }

    fn joining(addresses: &[String], process: usize, terms: &str) -> JoinHandle<Result<Option<Mesh>, MeshError>> {
        let (place, terms) = (Place { process, addresses: addresses.to_vec() }, terms.to_owned());
        spawn(move || Mesh::join(place, terms, |_| true))
    }

    fn joined(thread: JoinHandle<Result<Option<Mesh>, MeshError>>) -> Mesh {
        thread.join().expect("no panic").expect("joined").expect("not stopped")
    }

    #[test]
    fn three_processes_come_together_agree_and_run_one_graph() {
        let addresses = addresses(3);
        // A stranger who says nothing sensible keeps nobody out.
        let stranger = addresses[0].clone();
        let last = joining(&addresses, 2, "t");
        let first = joining(&addresses, 0, "t");
        let knock = spawn(move || {
            for _ in 0..50 {
                if let Ok(mut socket) = TcpStream::connect(&stranger) {
                    return socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
                }
                std::thread::sleep(LOOK / 2);
            }
        });
        knock.join().expect("no panic");
        let middle = joining(&addresses, 1, "t");
        let meshes = [first, middle, last].map(joined);
        let (sum, (done, ended)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel());
        for mut mesh in meshes {
            let (sum, done) = (Arc::clone(&sum), done.clone());
            spawn(move || {
                if mesh.place().leads() {
                    mesh.lead(&7usize, |_| true).expect("all are there");
                } else {
                    assert_eq!(mesh.begin::<usize>(|_| true).expect("told"), Some(7));
                    mesh.ready(|_| true).expect("all go");
                }
                let workers = mesh.workers(2, WorkerConfig::default(), move |worker| {
                    use timely::dataflow::operators::{Exchange, Inspect, ToStream};
                    let (index, sum) = (worker.index() as u64, Arc::clone(&sum));
                    worker.dataflow::<u64, _, _>(|scope| {
                        (0..6u64).to_stream(scope).container::<Vec<_>>().exchange(|n| *n).inspect(move |n| {
                            assert_eq!(*n, index);
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
                workers.expect("started").join().into_iter().for_each(|end| end.expect("no worker panics"));
                done.send(()).expect("heard");
            });
        }
        (0..3).for_each(|_| ended.recv_timeout(Duration::from_secs(60)).expect("all end"));
        assert_eq!(sum.load(Ordering::Relaxed), 36);
    }

    #[test]
    fn one_that_was_started_otherwise_is_told_so_and_the_others_wait_on() {
        let addresses = addresses(2);
        let first = joining(&addresses, 0, "archive a");
        let error = joining(&addresses, 1, "archive b").join().expect("no panic").err().expect("refused").to_string();
        assert!(error.contains("process 0") && error.contains("archive b") && error.contains("archive a"), "{error}");
        let (second, _first) = (joining(&addresses, 1, "archive a"), joined(first));
        joined(second);
    }

    #[test]
    fn who_waits_says_for_whom_and_may_be_stopped() {
        let addresses = addresses(3);
        let place = Place { process: 1, addresses: addresses.clone() };
        let mut said = String::new();
        let stopped = Mesh::join(place, String::new(), |waits| {
            said = waits.to_owned();
            false
        });
        assert!(stopped.expect("no error").is_none());
        assert!(said.starts_with(&format!("waits for process 0 at {} and 1 more (", addresses[0])), "{said}");
    }

    #[test]
    fn one_that_dies_before_all_go_is_noticed() {
        let addresses = addresses(2);
        let (first, second) = (joining(&addresses, 0, ""), joining(&addresses, 1, ""));
        let (mut first, second) = (joined(first), joined(second));
        drop(second);
        let error = first.lead(&0, |_| true).expect_err("it is gone").to_string();
        assert!(error.contains("process 1") && error.contains("gone"), "{error}");
    }
}
