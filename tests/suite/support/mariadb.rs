//! A real MariaDB, in a folder of its own, to be killed, frozen and started again; and the
//! databases that the suite uses where it is told to run on one.

#[cfg(feature = "mysql")]
use diesel::prelude::*;

/// Names the server (`mysql://root@localhost/?unix_socket=…`) on which every Atalaya of the suite
/// keeps its data; in files where there is none.
const SERVER: &str = "TEST_DATABASE_URL";

/// Whether the suite runs on files. Tests that are about files say so and do nothing elsewhere.
pub fn on_files() -> bool {
    let on_files = std::env::var_os(SERVER).is_none();
    if !on_files {
        eprintln!("SKIPPED: it is about files");
    }
    on_files
}

/// A database of one Atalaya on the server of the suite. It goes with the test.
pub struct Schema {
    url: String,
    #[cfg(feature = "mysql")]
    name: String,
}

impl Schema {
    /// A new database, where the suite runs on a server.
    pub fn create() -> Option<Self> {
        #[cfg(feature = "mysql")]
        {
            let server = std::env::var(SERVER).ok()?;
            Some(Self::on(&server))
        }
        #[cfg(not(feature = "mysql"))]
        {
            let named = std::env::var_os(SERVER).is_some();
            assert!(!named, "{SERVER} needs the feature mysql");
            None
        }
    }

    /// `DATABASE_URL` of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is, as the application's own code reads it.
    #[cfg(feature = "mysql")]
    pub fn location(&self) -> atalaya::storage::Location {
        atalaya::storage::Location::parse(&self.url).unwrap()
    }

    /// Its name on the server.
    #[cfg(feature = "mysql")]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(feature = "mysql")]
mod server {
    use super::{Schema, execute};
    use crate::support::DEADLINE;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, waitpid};
    use nix::unistd::Pid;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    /// Many servers at once would use up what the kernel has for asynchronous input and output.
    const SHARED_IO: &str = "--innodb-use-native-aio=0";

    impl Schema {
        /// A new database on the server at `server`.
        pub fn on(server: &str) -> Self {
            let name = format!("t_{}", uuid::Uuid::new_v4().simple());
            execute(
                server,
                &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"),
            );
            let url = server.replacen("/?", &format!("/{name}?"), 1);
            Self { url, name }
        }
    }

    impl Drop for Schema {
        fn drop(&mut self) {
            let server = self.url.replacen(&self.name, "", 1);
            // The server may have been killed by the test.
            let _ = super::try_execute(&server, &format!("DROP DATABASE IF EXISTS {}", self.name));
        }
    }

    /// A running server. It ends with the test.
    pub struct MariaDb {
        folder: TempDir,
        options: Vec<String>,
        child: Option<Child>,
    }

    impl MariaDb {
        /// A server that is reached by a socket alone.
        pub fn start() -> Self {
            Self::start_with(&["--skip-networking"])
        }

        /// A server with these options.
        pub fn start_with(options: &[&str]) -> Self {
            let mut server = Self {
                folder: tempfile::tempdir().unwrap(),
                options: options.iter().map(ToString::to_string).collect(),
                child: None,
            };
            server.install();
            server.restart();
            server
        }

        /// Makes the system's tables. Beside others that do the same the script fails now and then
        /// without a word in its logs, and does it right the next time.
        fn install(&self) {
            for _ in 0..3 {
                let made = Command::new("mariadb-install-db")
                    .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                    .args(["--skip-test-db", "--user=root", SHARED_IO])
                    .arg(format!("--datadir={}", self.data().display()))
                    .arg(format!("--tmpdir={}", self.folder.path().display()))
                    .stdin(Stdio::null())
                    .output()
                    .expect("mariadb-install-db (tests/run installs it)");
                if made.status.success() {
                    return;
                }
                eprintln!("mariadb-install-db failed, and is run again: {made:?}");
                let _ = std::fs::remove_dir_all(self.data());
            }
            panic!("mariadb-install-db fails");
        }

        fn data(&self) -> PathBuf {
            self.folder.path().join("data")
        }

        /// The server's address, without a database.
        pub fn url(&self) -> String {
            let socket = self.folder.path().join("socket");
            format!("mysql://root@localhost/?unix_socket={}", socket.display())
        }

        /// Starts it (again) and waits until it answers.
        pub fn restart(&mut self) {
            assert!(self.child.is_none(), "it runs already");
            let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
            let child = Command::new("mariadbd")
                .args([
                    "--no-defaults",
                    "--user=root",
                    "--innodb-buffer-pool-size=32M",
                ])
                .args([
                    "--innodb-log-file-size=8M",
                    "--lc-messages=es_ES",
                    SHARED_IO,
                ])
                .arg(format!("--datadir={}", self.data().display()))
                .arg(format!(
                    "--socket={}",
                    self.folder.path().join("socket").display()
                ))
                .args(&self.options)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("mariadbd (tests/run installs it)");
            self.child = Some(child);
            let started = Instant::now();
            while super::try_execute(&self.url(), "DO 1").is_err() {
                assert!(started.elapsed() < DEADLINE, "mariadbd does not answer");
                std::thread::sleep(Duration::from_millis(20));
            }
        }

        /// kill -9, and waits for the end.
        pub fn kill(&mut self) {
            let mut child = self.child.take().expect("it runs");
            child.kill().unwrap();
            child.wait().unwrap();
        }

        pub fn signal(&self, signal: Signal) {
            let id = self.child.as_ref().expect("it runs").id();
            let id = Pid::from_raw(i32::try_from(id).unwrap());
            kill(id, signal).unwrap();
            if signal == Signal::SIGSTOP {
                // It is told by the last of its threads: until then others may still answer.
                waitpid(id, Some(WaitPidFlag::WUNTRACED)).unwrap();
            }
        }

        /// Runs statements on it.
        pub fn execute(&self, sql: &str) {
            execute(&self.url(), sql);
        }
    }

    impl Drop for MariaDb {
        fn drop(&mut self) {
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

#[cfg(feature = "mysql")]
pub use server::MariaDb;

#[cfg(feature = "mysql")]
fn execute(server: &str, sql: &str) {
    try_execute(server, sql).unwrap();
}

#[cfg(feature = "mysql")]
fn try_execute(server: &str, sql: &str) -> Result<(), String> {
    use diesel::connection::SimpleConnection;
    let mut connection = MysqlConnection::establish(server).map_err(|e| e.to_string())?;
    connection.batch_execute(sql).map_err(|e| e.to_string())
}
