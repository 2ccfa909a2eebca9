//! The real binary, in a folder of its own, to be killed and started again.

use super::mariadb::Schema;
use super::{Client, Mosquitto, access, eventually, free_port, logins};
use atalaya::storage::Location;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The password of the user `admin`.
pub const ADMIN_PASSWORD: &str = "correct horse battery";

/// A running Atalaya. It ends with the test.
pub struct Atalaya {
    folder: TempDir,
    settings: Vec<(String, String)>,
    /// Where it keeps its data on a server of databases, if it does.
    schema: Option<Schema>,
    child: Option<Child>,
    pub http_port: u16,
    pub tcp_port: u16,
    pub mqtt_port: u16,
    pub mqtt_ws_port: u16,
}

/// Settings on the way to a running Atalaya.
pub struct Settings(Vec<(String, String)>);

impl Settings {
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// Publishes to `broker`.
    pub fn broker(self, broker: &Mosquitto) -> Self {
        self.set("MQTT", "on")
            .set("MQTT_BROKER_HOST", "127.0.0.1")
            .set("MQTT_BROKER_PORT", broker.port)
    }

    pub async fn start(self) -> Atalaya {
        let mut atalaya = self.prepare();
        atalaya.start().await;
        atalaya
    }

    /// Ready to be started, but not running.
    pub fn prepare(self) -> Atalaya {
        Atalaya {
            folder: tempfile::tempdir().unwrap(),
            settings: self.0,
            schema: Schema::create(),
            child: None,
            http_port: free_port(),
            tcp_port: free_port(),
            mqtt_port: free_port(),
            mqtt_ws_port: free_port(),
        }
    }
}

impl Atalaya {
    /// Without MQTT, which is what most tests of the ledger want.
    pub fn without_mqtt() -> Settings {
        Settings(Vec::new()).set("MQTT", "off")
    }

    /// With the embedded broker.
    pub fn with_embedded_broker() -> Settings {
        Settings(Vec::new())
    }

    /// With an external broker.
    pub fn with_broker(broker: &Mosquitto) -> Settings {
        Settings(Vec::new()).broker(broker)
    }

    /// Starts it (again) and waits until it is ready.
    pub async fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let has_own_broker = !self
            .settings
            .iter()
            .any(|(name, _)| matches!(name.as_str(), "MQTT" | "MQTT_BROKER_HOST"));
        if has_own_broker {
            logins::open(self.client().base(), self.mqtt_port);
        }
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(self.log_file());
        self.child = Some(command.spawn().unwrap());
        let client = self.client();
        eventually("atalaya is ready", || async {
            (client.get("/readyz").await.ok()?.status == 200).then_some(())
        })
        .await;
        let named = |(name, _): &&(String, String)| name == "EMPRESA";
        let company = self.settings.iter().rev().find(named);
        let company = company.map_or("banco", |(_, company)| company);
        access::introduce(self.http_port, &client, company).await;
        if has_own_broker {
            logins::set_person(self.mqtt_port, "pruebas", &self.token());
        }
    }

    /// The token that tests show: every role but admin.
    pub fn token(&self) -> String {
        access::token(self.http_port).expect("it has been started")
    }

    /// The command that would start it, to be run by the test itself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HTTP_PORT", self.http_port.to_string())
            .env("SERVER_PORT", self.tcp_port.to_string())
            .env("MQTT_BROKER_PORT", self.mqtt_port.to_string())
            .env("MQTT_WS_PORT", self.mqtt_ws_port.to_string())
            .env("SHUTDOWN_TIMEOUT", "5")
            .env("ADMIN_TOKEN", access::ADMIN_TOKEN)
            // A hash takes its time, and most tests need no admin's password.
            .env("ADMIN_PASSWORD", ADMIN_PASSWORD)
            .envs(self.database_setting())
            .envs(
                self.settings
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            )
            .stdin(Stdio::null());
        command
    }

    fn log_file(&self) -> std::fs::File {
        let path = self.folder.path().join("stderr.log");
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.push((name.to_owned(), value.to_string()));
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        // It stays ours until it has ended, so that a test that fails here still ends it.
        let started = Instant::now();
        loop {
            let child = self.child.as_mut().expect("it runs");
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(started.elapsed() < super::DEADLINE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.http_port))
    }

    /// Where terminals connect.
    pub fn tcp(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tcp_port))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its database is.
    pub fn database(&self) -> Location {
        match &self.schema {
            Some(schema) => Location::parse(schema.url()).unwrap(),
            None => Location::Sqlite(self.file()),
        }
    }

    /// What says where its database is, if that is not where it would be by itself.
    pub fn database_setting(&self) -> Option<(&str, &str)> {
        Some(("DATABASE_URL", self.schema.as_ref()?.url()))
    }

    /// The file of its database, for tests that are about files.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("data/atalaya.db")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    /// The value of a metric, named as in the Prometheus text, labels included.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.client().get("/metrics").await.ok()?.text();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Atalaya {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- atalaya's log ---\n{}", self.log());
        } else {
            self.keeps_secrets();
        }
    }
}

impl Atalaya {
    /// No secret and no whole cédula stands in anything that it has logged.
    fn keeps_secrets(&self) {
        let files = std::fs::read_dir(self.folder.path().join("logs"));
        let files = files.into_iter().flatten().flatten();
        let logs = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        for log in logs.chain([self.log()]) {
            for line in log.lines() {
                let secret = access::secret_in(line);
                assert!(secret.is_none(), "{secret:?} stands in a log: {line}");
            }
        }
    }
}
