//! The web server of a running service: what it says of itself, and what services add.
//!
//! It runs on a thread of its own and reads what others publish ([`Board`]); nothing that flows waits for it. It listens on
//! loopback unless it is told an address, and has no login: whoever reaches it reads all that it serves.
//!
//! | path | what it is |
//! |---|---|
//! | `/progress` | how far everything is, as JSON |
//! | `/metrics` | the same, for Prometheus |
//! | `/api/v1/…` | the services' answers ([`api`]) |

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::oneshot;

use crate::services::start::Services;
use crate::session::Figures;

pub mod api;
mod metrics;

/// Whom to ask about what services know.
#[derive(Clone, Default)]
enum Answering {
    /// Nobody yet.
    #[default]
    Starting,
    /// Nobody.
    Nobody,
    /// These.
    Desk(Arc<api::Desk>),
}

/// What is published for readers: the last figures. Clones are the same.
#[derive(Clone, Default)]
pub struct Board {
    figures: Arc<RwLock<Arc<Figures>>>,
    services: Arc<RwLock<Answering>>,
}

impl Board {
    /// Publishes figures.
    pub fn publish(&self, figures: &Figures) {
        *self.figures.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures.clone());
    }

    /// Has questions answered by these services; where there are none, it is said so.
    pub fn answer_by(&self, services: Option<&Services>) {
        *self.services.write().unwrap_or_else(PoisonError::into_inner) =
            services.map_or(Answering::Nobody, |services| Answering::Desk(Arc::new(api::Desk::of(services))));
    }

    /// Has it said that services are starting.
    pub fn answer_later(&self) {
        *self.services.write().unwrap_or_else(PoisonError::into_inner) = Answering::Starting;
    }

    /// What was published last.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The routes of every service. A service that has more merges its own ([`Router::merge`]) before the server starts.
pub fn routes(board: Board) -> Router {
    let own = Router::new().route("/progress", get(progress)).route("/metrics", get(metrics)).with_state(board.clone());
    own.merge(api::routes(board))
}

async fn progress(State(board): State<Board>) -> Response {
    Json(&*board.figures()).into_response()
}

async fn metrics(State(board): State<Board>) -> Response {
    let kind = [(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, metrics::text(&board.figures())).into_response()
}

/// A running server. Dropping it ends it.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `routes` at an address (port 0: any that is free).
    ///
    /// # Errors
    /// When the address can't be listened at, or no thread can be had.
    pub fn start(address: SocketAddr, routes: Router) -> std::io::Result<Self> {
        // Bound here, so that an address that is taken is said at the start.
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the web server can be reached from other machines, and asks nobody who they are");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(listener, routes) => served,
                    // Connections that are open end with it: a client that keeps one holds up no stop.
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "the web server ended");
            }
        })?;
        tracing::info!(%address, "web server");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook.
            let _ = thread.join();
        }
    }
}

/// Reads `PORT` (on loopback) or `HOST:PORT`.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let wrong = |why: &dyn std::fmt::Display| format!("`{text}` is neither a port nor HOST:PORT: {why}");
    let mut found = text.to_socket_addrs().map_err(|error| wrong(&error))?;
    found.next().ok_or_else(|| wrong(&"no such host"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("answered");
        said
    }

    #[test]
    fn serves_what_was_published_last_until_it_is_dropped() {
        let board = Board::default();
        let more = Router::new().route("/more", axum::routing::get(async || "of a service"));
        let server = Server::start(parse_address("0").expect("a port"), routes(board.clone()).merge(more)).expect("started");
        board.publish(&Figures { messages: 12_345, ..Figures::default() });
        let said = get(server.address(), "/progress");
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("\"messages\":12345"), "{said}");
        assert!(get(server.address(), "/metrics").contains("fink_messages_total{became=\"archived\"} 0\n"));
        assert!(get(server.address(), "/more").ends_with("of a service"));
        assert!(get(server.address(), "/none").starts_with("HTTP/1.1 404"));
        let (address, idle) = (server.address(), TcpStream::connect(server.address()).expect("connected"));
        drop(server);
        assert!(TcpStream::connect(address).is_err(), "it still listens");
        drop(idle);
    }

    #[test]
    fn an_address_is_a_port_on_loopback_or_a_host_and_a_port() {
        assert_eq!(parse_address("8089"), Ok(SocketAddr::from(([127, 0, 0, 1], 8089))));
        assert_eq!(parse_address("0.0.0.0:80"), Ok(SocketAddr::from(([0, 0, 0, 0], 80))));
        assert!(parse_address("localhost").is_err() && parse_address("70000").is_err());
    }
}
