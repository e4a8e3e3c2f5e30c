//! A way to a broker on which messages are damaged.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;

/// A way to one broker: a place in between, that changes a byte of a message while it is told to.
pub(crate) struct Proxy {
    /// Where it is reached.
    pub(crate) address: String,
    way: Arc<Way>,
}

struct Way {
    broker: u16,
    port: u16,
    /// What is damaged, as bytes of a message.
    what: Vec<u8>,
    damages: AtomicBool,
    damaged: AtomicUsize,
}

impl Proxy {
    /// A way to the broker at `127.0.0.1:<port>` on which messages that hold `what` are damaged.
    pub(crate) fn damaging(broker: &str, what: &str) -> Self {
        let broker = broker.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (damages, damaged) = (AtomicBool::new(true), AtomicUsize::new(0));
        let way = Arc::new(Way { broker, port, what: what.into(), damages, damaged });
        let theirs = Arc::clone(&way);
        spawn(move || listener.incoming().flatten().try_for_each(|client| theirs.join(client)));
        Self { address: format!("127.0.0.1:{port}"), way }
    }

    /// How many answers were damaged.
    pub(crate) fn damaged(&self) -> usize {
        self.way.damaged.load(Ordering::Relaxed)
    }

    /// Damages nothing any more.
    pub(crate) fn heal(&self) {
        self.way.damages.store(false, Ordering::Relaxed);
    }
}

impl Way {
    fn join(self: &Arc<Self>, client: TcpStream) -> Result<()> {
        let broker = TcpStream::connect(("127.0.0.1", self.broker))?;
        let (mut asks, mut asked) = (client.try_clone()?, broker.try_clone()?);
        spawn(move || {
            let _ = std::io::copy(&mut asks, &mut asked);
            let _ = asked.shutdown(Shutdown::Both);
        });
        let way = Arc::clone(self);
        spawn(move || {
            let _ = way.answers(broker, &client);
            let _ = client.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    /// Hands answers on, each a length and so many bytes.
    fn answers(&self, mut from: TcpStream, mut to: &TcpStream) -> Result<()> {
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut answer = vec![0; u32::from_be_bytes(length) as usize];
            from.read_exact(&mut answer)?;
            // Whoever asks where the broker is, is told to come by here.
            let (old, new) = (u32::from(self.broker).to_be_bytes(), u32::from(self.port).to_be_bytes());
            while let Some(at) = find(&answer, &old) {
                answer[at..at + 4].copy_from_slice(&new);
            }
            if self.damages.load(Ordering::Relaxed)
                && let Some(at) = find(&answer, &self.what)
            {
                answer[at] ^= 1;
                self.damaged.fetch_add(1, Ordering::Relaxed);
            }
            to.write_all(&length)?;
            to.write_all(&answer)?;
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
