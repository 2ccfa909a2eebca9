//! A scenario in a real browser: the script in `tests/browser` sees the page, and asks the test that
//! owns the server for what happens around it.

use super::{Atalaya, Client, free_port};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// How long a scenario may take. The suite shares two cores.
const LONGEST: Duration = Duration::from_secs(150);

/// A way to the server that can be cut: connections break, and none are made until it is mended.
pub struct Wire {
    pub port: u16,
    whole: Arc<watch::Sender<bool>>,
}

impl Wire {
    /// A wire to `port`.
    pub async fn to(port: u16) -> Self {
        let own = free_port();
        let listener = TcpListener::bind(("127.0.0.1", own)).await.unwrap();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        actix_web::rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = state.subscribe();
                if !*cut.borrow() {
                    continue;
                }
                actix_web::rt::spawn(async move {
                    tokio::select! {
                        () = carry(client, port) => {}
                        _ = cut.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { port: own, whole }
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut client: TcpStream, port: u16) {
    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

/// A scenario that is being played.
pub struct Stage {
    pub wire: Wire,
    child: Child,
    answers: ChildStdin,
    questions: mpsc::Receiver<String>,
}

/// Where the scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

impl Stage {
    /// Begins a scenario against the server at `atalaya`; `told` is more for its script.
    pub async fn open(scenario: &str, atalaya: &Atalaya, told: &[(&str, &str)]) -> Self {
        let wire = Wire::to(atalaya.http_port).await;
        let mut child = Command::new("node")
            .arg("play.mjs")
            .arg(scenario)
            .current_dir(scripts())
            .env("BASE_URL", format!("http://127.0.0.1:{}", wire.port))
            .envs(told.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node runs; tests/run installs it");
        let output = child.stdout.take().unwrap();
        let (tell, questions) = mpsc::channel(16);
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let Ok(line) = line else { return };
                match line.strip_prefix('@') {
                    Some(question) => {
                        if tell.blocking_send(question.to_owned()).is_err() {
                            return;
                        }
                    }
                    None => eprintln!("{line}"),
                }
            }
        });
        Self {
            wire,
            answers: child.stdin.take().unwrap(),
            child,
            questions,
        }
    }

    /// What the script asks next; `None` when it has ended, as it has to: well.
    pub async fn question(&mut self) -> Option<Value> {
        let asked = tokio::time::timeout(LONGEST, self.questions.recv()).await;
        let Some(line) = asked.expect("the scenario goes on") else {
            let ended = self.child.wait().unwrap();
            assert!(
                ended.success(),
                "the scenario failed; its reason stands above"
            );
            return None;
        };
        Some(serde_json::from_str(&line).unwrap())
    }

    pub fn answer(&mut self, answer: &Value) {
        writeln!(self.answers, "{answer}").unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The browser ends with the script, which sees that nobody listens any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Presses a button with the command that people use, which registers it where it is new.
pub fn press(atalaya: &Atalaya, broker: u16, device: &str, kind: &str, text: &str) {
    let file = atalaya.folder().join(format!("{device}.json"));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(atalaya.folder())
            .env("ATALAYA_TOKEN", atalaya.token())
            .args(arguments);
        let ended = super::run::run(command);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    };
    if !file.exists() {
        let url = format!("http://127.0.0.1:{}", atalaya.http_port);
        command(&["device", "enrol", device, "--url", &url]);
    }
    let (name, port) = (format!("{device}.json"), broker.to_string());
    let send = [
        "device",
        "send",
        &name,
        kind,
        "--port",
        &port,
        "--descripcion",
        text,
    ];
    command(&send);
}

/// The newest alert of a device.
pub async fn newest(client: &Client, device: &str) -> Value {
    let list = client
        .json(&format!("/api/v1/alertas?hardware={device}&limite=1"))
        .await;
    list["datos"].get(0).cloned().unwrap_or_else(|| json!({}))
}
