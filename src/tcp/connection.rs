//! One connection: its bytes, and the deadlines of whoever is at the other end.

use crate::actors::session::tcp::{Ask, Greet, HungUp, Leave, Said, TcpParts, TcpSession, Then};
use crate::wire::line::answer;
use crate::wire::line::buffer::{Buffer, Line};
use actix::{Actor, Addr};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// How long a sender without newlines says nothing where a command ends. A terminal sends a command
/// with one call, so that the parts of one follow each other at once; each answer waits so long.
const PAUSE: Duration = Duration::from_millis(40);

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a client may take nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer may take. The desk's own deadlines are shorter; it only must not be for ever.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a client has to take the last answer and to close, before it is closed for it: to close
/// on what has not been read would throw the answer away.
const PARTING: Duration = Duration::from_millis(500);

/// What a client may send meanwhile.
const PARTING_BYTES: usize = 64 * 1024;

/// Room in the kernel for answers that wait for their reader. The longest has some 700 bytes.
const SEND_BUFFER: usize = 16 * 1024;

/// What a connection needs.
pub(super) struct Connection {
    pub(super) parts: TcpParts,
    pub(super) address: IpAddr,
    pub(super) closing: watch::Receiver<bool>,
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let socket = socket2::SockRef::from(&stream);
        // A connection that is gone already shows it when it is read.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let Ok(socket) = socket.try_clone().map(Arc::new) else {
            return;
        };
        match tls {
            None => self.converse(stream, &socket).await,
            Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.converse(stream, &socket).await,
                Ok(Err(error)) => log::debug!("no TLS with a terminal: {error}"),
                Err(_) => log::debug!("no TLS with a terminal in time"),
            },
        }
        // Others may still hold the socket, so that it is not closed with ours.
        let _ = socket.shutdown(Shutdown::Both);
    }

    async fn converse<S>(self, stream: S, socket: &Arc<socket2::Socket>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let socket = Some(Arc::clone(socket));
        let (session, leave) = TcpSession::new(self.parts, self.address, socket);
        let mut conversation = Conversation {
            stream,
            buffer: Buffer::default(),
            session: session.start(),
            leave,
            closing: self.closing,
        };
        let reason = conversation.hold().await;
        if conversation.session.send(HungUp(reason)).await.is_err() {
            log::debug!("a terminal's session ended before its connection");
        }
    }
}

/// What a client and its session say to each other.
struct Conversation<S> {
    stream: S,
    buffer: Buffer,
    session: Addr<TcpSession>,
    leave: watch::Receiver<Option<Leave>>,
    closing: watch::Receiver<bool>,
}

/// Nothing more can be said, for this reason.
struct Ended(&'static str);

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// Holds it to its end, and why it has ended.
    async fn hold(&mut self) -> &'static str {
        match self.greet_and_answer().await {
            Ok(Leave { text, reason }) => {
                if self.say(text, self.buffer.has_lines()).await.is_ok() {
                    self.part().await;
                }
                reason
            }
            Err(Ended(reason)) => reason,
        }
    }

    /// Greets, and answers one command after the other until there is a reason to leave.
    async fn greet_and_answer(&mut self) -> Result<Leave, Ended> {
        let mut said = self.session.send(Greet).await.map_err(|_| GONE)?;
        let mut has_newline = true;
        loop {
            self.say(&said.text, has_newline).await?;
            let patience = match said.then {
                Then::Listen(patience) => patience,
                Then::HangUp(reason) => {
                    self.part().await;
                    return Err(Ended(reason));
                }
            };
            let line = match self.listen(patience).await {
                Heard::Line(line) => line,
                Heard::Leave(leave) => return Ok(leave),
                Heard::End => return Err(Ended("closed")),
            };
            has_newline = line.has_newline;
            said = self.ask(line).await?;
        }
    }

    async fn ask(&self, line: Line) -> Result<Said, Ended> {
        match timeout(ANSWER, self.session.send(Ask(line.bytes))).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(_)) => Err(GONE),
            Err(_) => Err(Ended("unanswered")),
        }
    }

    /// The next command. Nothing is read while one is under way, so they are answered in order and
    /// a client that sends many waits.
    async fn listen(&mut self, patience: Duration) -> Heard {
        // For the whole command: whoever sends it byte by byte has no more time.
        let deadline = Instant::now() + patience;
        let heard = next_line(&mut self.stream, &mut self.buffer);
        tokio::select! {
            biased;
            leave = told_to_leave(&mut self.leave, &mut self.closing) => Heard::Leave(leave),
            heard = timeout_at(deadline, heard) => heard.unwrap_or(IDLE),
        }
    }

    async fn say(&mut self, text: &str, has_newline: bool) -> Result<(), Ended> {
        let end = if has_newline { "\n" } else { "" };
        let bytes = format!("{text}{end}");
        let said = async {
            self.stream.write_all(bytes.as_bytes()).await?;
            self.stream.flush().await
        };
        match timeout(PATIENCE, said).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended("closed")),
            Err(_) => Err(Ended("slow_reader")),
        }
    }

    /// Lets the client take what was said before the connection is closed.
    async fn part(&mut self) {
        let parted = async {
            let mut left = PARTING_BYTES;
            let mut bytes = [0; 1_024];
            self.stream.shutdown().await?;
            while let read @ 1.. = self.stream.read(&mut bytes).await? {
                left = left.saturating_sub(read);
                if left == 0 {
                    break;
                }
            }
            Ok::<_, std::io::Error>(())
        };
        // Whoever has not closed by then, or has badly, is closed.
        let _ = timeout(PARTING, parted).await;
    }
}

/// The session has ended by itself, as the whole process is about to.
const GONE: Ended = Ended("gone");

/// What comes next.
enum Heard {
    Line(Line),
    Leave(Leave),
    /// The client has closed.
    End,
}

const IDLE: Heard = Heard::Leave(Leave {
    text: answer::IDLE,
    reason: "idle",
});

const TOO_LONG: Heard = Heard::Leave(Leave {
    text: answer::TOO_LONG,
    reason: "protocol",
});

const CLOSING: Leave = Leave {
    text: answer::CLOSING,
    reason: "closing",
};

async fn next_line(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Buffer) -> Heard {
    loop {
        match buffer.line() {
            Ok(Some(line)) => return Heard::Line(line),
            Ok(None) => {}
            Err(_) => return TOO_LONG,
        }
        let awaits_pause = buffer.awaits_pause();
        let read = stream.read_buf(buffer.room());
        let read = if awaits_pause {
            timeout(PAUSE, read).await
        } else {
            Ok(read.await)
        };
        match read {
            Ok(Ok(1..)) => {}
            // The sender pauses, or has sent the last it wants to send and listens.
            Err(_) | Ok(Ok(0)) => return buffer.pause().map_or(Heard::End, Heard::Line),
            Ok(Err(_)) => return Heard::End,
        }
    }
}

async fn told_to_leave(
    leave: &mut watch::Receiver<Option<Leave>>,
    closing: &mut watch::Receiver<bool>,
) -> Leave {
    tokio::select! {
        told = leave.wait_for(Option::is_some) => told.ok().and_then(|told| *told).unwrap_or(CLOSING),
        _ = closing.wait_for(|closing| *closing) => CLOSING,
    }
}
