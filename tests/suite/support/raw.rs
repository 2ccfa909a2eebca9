//! HTTP by hand, for what no well-behaved client sends.

use super::access;
use super::client::Response;
use awc::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a port of this machine.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request` as it is and reads until the server closes; ask it to (`Connection: close`).
pub async fn exchange(port: u16, request: impl Into<Vec<u8>>) -> Response {
    let request = signed(port, request.into());
    let bytes = actix_web::rt::task::spawn_blocking(move || {
        let mut stream = connect(port);
        stream.write_all(&request).unwrap();
        read_all(&mut stream)
    })
    .await
    .unwrap();
    parse(&bytes)
}

/// `request` with the token of the tests, unless it says itself who sends it.
pub fn signed(port: u16, request: Vec<u8>) -> Vec<u8> {
    let end_of = |what: &[u8]| request.windows(what.len()).position(|part| part == what);
    let head = &request[..end_of(b"\r\n\r\n").unwrap_or(request.len())];
    let says = String::from_utf8_lossy(head).to_lowercase();
    let line = end_of(b"\r\n").filter(|_| !says.contains("\r\nauthorization:"));
    let mut words = says.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let token = access::token_for(
        port,
        &method.unwrap_or_default().to_uppercase(),
        &path.unwrap_or_default(),
    );
    match (line, token) {
        (Some(end), Some(token)) => {
            let header = format!("\r\nAuthorization: Bearer {token}");
            [&request[..end], header.as_bytes(), &request[end..]].concat()
        }
        _ => request,
    }
}

/// All that arrives until the other side closes. A reset after the answer loses nothing of it.
pub fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..length]);
    }
    bytes
}

/// The response in `bytes`.
pub fn parse(bytes: &[u8]) -> Response {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("not a response: {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    Response {
        status: status.parse().unwrap(),
        headers,
        body: bytes[end + 4..].to_vec(),
    }
}

/// What arrives before the read timeout, and whether the other side has closed.
pub fn read_some(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(0) => (Vec::new(), true),
        Ok(length) => (chunk[..length].to_vec(), false),
        Err(error) => {
            use std::io::ErrorKind::{TimedOut, WouldBlock};
            (Vec::new(), !matches!(error.kind(), TimedOut | WouldBlock))
        }
    }
}
