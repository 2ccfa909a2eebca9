//! The web front end from before Atalaya, as far as it is a client of Socket.IO.

use super::{Atalaya, Watched};
use std::path::Path;
use std::process::Command;

/// Where the front end is served from.
pub const FRONT_END: &str = "https://banco.example:8443";

/// A client of Socket.IO as the front end has one.
pub fn socket_io(atalaya: &Atalaya, token: Option<&str>) -> Watched {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/socketio.mjs");
    let mut command = Command::new("node");
    command
        .arg(script)
        .arg(format!("http://127.0.0.1:{}", atalaya.http_port))
        .args(token)
        .env("ORIGIN", FRONT_END);
    Watched::start_to_tell(command)
}
