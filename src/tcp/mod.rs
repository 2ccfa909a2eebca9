//! The port of tellers' terminals: who is let in, and where their bytes go.
//!
//! All connections live on one thread of their own: what they ask is done elsewhere, so that one
//! thread is enough, and nothing that they do holds up another edge.

mod connection;

use crate::actors::session::tcp::TcpParts;
use crate::network::{AddressPlace, AddressPlaces};
use crate::wire::line::answer;
use actix::Arbiter;
use connection::Connection;
use std::io::ErrorKind;
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_rustls::TlsAcceptor;

/// Connections that wait to be accepted. The 128 of the standard library are gone in an instant
/// when many come at once, and whoever comes then waits a second for the next try.
const BACKLOG: i32 = 1_024;

/// How long nobody is accepted after the system has failed to: mostly since there is no file left
/// for a connection, and there is none a moment later either.
const RESPITE: Duration = Duration::from_millis(500);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// At once.
    pub connections: usize,
    /// Of one address at once.
    pub per_address: usize,
}

/// The port, open.
#[derive(Debug)]
pub struct TcpServer {
    closing: watch::Sender<bool>,
    places: Arc<Semaphore>,
    /// As many as there are places.
    most: u32,
}

impl TcpServer {
    /// Serves whoever comes to `listener`, over TLS where `tls` says what to show.
    ///
    /// # Errors
    /// Where the listener cannot be used.
    pub async fn start(
        listener: std::net::TcpListener,
        parts: TcpParts,
        room: Room,
        tls: Option<rustls::ServerConfig>,
    ) -> std::io::Result<Self> {
        socket2::SockRef::from(&listener).listen(BACKLOG)?;
        let most = u32::try_from(room.connections).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(0)));
        let (closing, closed) = watch::channel(false);
        let entrance = Entrance {
            parts,
            places: Arc::clone(&places),
            addresses: AddressPlaces::new(room.per_address),
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            closing: closed,
        };
        let (ready, started) = oneshot::channel();
        Arbiter::new().spawn_fn(move || {
            actix::spawn(async move {
                // On this thread, which is the one to be woken by it.
                let (listener, made) = match TcpListener::from_std(listener) {
                    Ok(listener) => (Some(listener), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                if let (Ok(()), Some(listener)) = (ready.send(made), listener) {
                    entrance.accept(listener).await;
                }
            });
        });
        started
            .await
            .map_err(|_| std::io::Error::from(ErrorKind::BrokenPipe))??;
        Ok(Self {
            closing,
            places,
            most,
        })
    }

    /// Accepts nobody any more and has each connection end when its command is answered.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until all connections have ended.
    pub async fn closed(&self) {
        // It is never closed, so this is the end of the last one.
        let _ = self.places.acquire_many(self.most).await;
    }
}

/// Where connections come in.
struct Entrance {
    parts: TcpParts,
    places: Arc<Semaphore>,
    addresses: AddressPlaces,
    tls: Option<TlsAcceptor>,
    closing: watch::Receiver<bool>,
}

/// The places of one connection, given back when it ends.
struct Places {
    _among_all: OwnedSemaphorePermit,
    _of_address: Option<AddressPlace>,
}

impl Entrance {
    async fn accept(self, listener: TcpListener) {
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.receive(stream, peer.ip()),
                // Whoever came has left already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("no terminal can be accepted: {error}");
                    tokio::time::sleep(RESPITE).await;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, address: IpAddr) {
        let Some(places) = self.places_for(address) else {
            return self.turn_away(&stream);
        };
        let connection = Connection {
            parts: self.parts.clone(),
            address,
            closing: self.closing.clone(),
        };
        let tls = self.tls.clone();
        actix::spawn(async move {
            connection.serve(stream, tls).await;
            drop(places);
        });
    }

    fn places_for(&self, address: IpAddr) -> Option<Places> {
        Some(Places {
            _among_all: Arc::clone(&self.places).try_acquire_owned().ok()?,
            _of_address: self.addresses.take(address).ok()?,
        })
    }

    /// One word, if it goes out at once: whoever is too many costs nothing more.
    fn turn_away(&self, stream: &TcpStream) {
        log::debug!("a terminal is turned away: there is no room for it");
        if self.tls.is_none() {
            let socket = socket2::SockRef::from(stream);
            let told = socket.send(format!("{}\n", answer::FULL).as_bytes());
            // It may be closed already; then there is nobody to be told.
            let _ = told.and_then(|_| socket.shutdown(Shutdown::Write));
        }
    }
}
