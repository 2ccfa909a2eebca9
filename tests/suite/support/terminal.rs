//! A teller's terminal: the line protocol over a socket of the standard library.

use super::{Atalaya, DEADLINE};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// What is said to whoever connects.
pub const WELCOME: &str = "BIENVENIDO|Sistema Bancario Distribuido v1.0\n";

/// An open connection, over TCP or what is spoken on it.
pub struct Terminal<S = TcpStream> {
    pub stream: S,
}

impl Terminal {
    /// Connects and is welcomed.
    pub fn open(atalaya: &Atalaya) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST, atalaya)
    }

    /// Connects from another address of this machine.
    pub fn open_from(address: Ipv4Addr, atalaya: &Atalaya) -> Self {
        Self::over(connect_from(address, atalaya.tcp()))
    }

    /// Says no more, and listens on.
    pub fn ends_talk(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A connection on which nothing has been read yet.
pub fn connect_from(address: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.into()
}

impl<S: Read + Write> Terminal<S> {
    /// A terminal on an open connection; it is welcomed.
    pub fn over(stream: S) -> Self {
        let mut terminal = Self { stream };
        assert_eq!(terminal.line(), WELCOME);
        terminal
    }

    pub fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a command without a newline and reads until data comes, as old terminals do.
    pub fn asks(&mut self, command: &str) -> String {
        self.sends(command);
        self.chunk()
    }

    /// Sends a line and reads one; its newline is asserted and taken off.
    pub fn asks_line(&mut self, command: &str) -> String {
        self.sends(format!("{command}\n"));
        let line = self.line();
        let line = line.strip_suffix('\n').expect("a whole line");
        line.to_owned()
    }

    /// What one read finds.
    pub fn chunk(&mut self) -> String {
        let mut bytes = [0; 4_096];
        let length = self.stream.read(&mut bytes).expect("an answer");
        String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
    }

    /// What comes up to a newline or the end.
    pub fn line(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while bytes.last() != Some(&b'\n') && self.stream.read(&mut byte).expect("a line") == 1 {
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// What still comes before the server closes, which it does.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("an orderly end");
        String::from_utf8(bytes).expect("UTF-8")
    }
}
