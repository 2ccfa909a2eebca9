//! A real Mosquitto, in a folder of its own, to be killed, frozen and started again.

use super::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running broker. It ends with the test.
pub struct Mosquitto {
    folder: TempDir,
    child: Option<Child>,
    pub port: u16,
}

impl Mosquitto {
    /// A broker that lets everybody do everything and keeps what it must.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true\n")
    }

    /// A broker with more lines in its configuration.
    pub fn start_with(lines: &str) -> Self {
        let mut broker = Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
            port: free_port(),
        };
        broker.configure(lines);
        broker.restart();
        broker
    }

    /// A folder to be filled, and a broker to be started in it by [`Self::start_as`].
    pub fn prepare() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
            port: free_port(),
        }
    }

    /// Where its files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts it with a configuration that was written with [`Self::write_file`], which listens on
    /// `port`.
    pub fn start_as(&mut self, configuration: &str, port: u16) {
        self.port = port;
        let from = self.folder.path().join(configuration);
        let text = std::fs::read_to_string(from).unwrap();
        let log = self.folder.path().join("log");
        // It gives up root before it reads what only root may read.
        let more = format!("user root\nlog_dest file {}\n", log.display());
        std::fs::write(self.folder.path().join("mosquitto.conf"), text + &more).unwrap();
        self.restart();
    }

    /// Writes the configuration for the next start.
    pub fn configure(&mut self, lines: &str) {
        let store = self.folder.path().display();
        let mut file = std::fs::File::create(self.folder.path().join("mosquitto.conf")).unwrap();
        write!(
            file,
            "listener {} 127.0.0.1\npersistence true\npersistence_location {store}/\n\
             autosave_interval 100\nautosave_on_changes true\nmax_queued_messages 0\n\
             max_inflight_messages 1000\nlog_dest file {store}/log\nuser root\n{lines}",
            self.port
        )
        .unwrap();
    }

    /// A file beside the configuration, for password and ACL files.
    pub fn write_file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Starts it (again) on the same port and waits until it listens.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let program = if std::path::Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto (tests/run installs it)");
        self.child = Some(child);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                started.elapsed() < super::DEADLINE,
                "mosquitto does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM: it stores what it has and goes.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.child.take().expect("it runs").wait().unwrap();
    }

    /// Removes what it has stored: a broker that has lost everything.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "stop it first");
        let _ = std::fs::remove_file(self.folder.path().join("mosquitto.db"));
    }

    /// What it has stored, to be given back later as if it had lost all since.
    pub fn memory(&self) -> Vec<u8> {
        assert!(self.child.is_none(), "stop it first");
        std::fs::read(self.folder.path().join("mosquitto.db")).unwrap()
    }

    /// Replaces what it has stored.
    pub fn remember(&self, memory: &[u8]) {
        assert!(self.child.is_none(), "stop it first");
        std::fs::write(self.folder.path().join("mosquitto.db"), memory).unwrap();
    }

    /// Reads its password and ACL files again.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// It accepts and stalls, until [`Self::resume`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("--- mosquitto's log ---\n{}", log.unwrap_or_default());
        }
    }
}
