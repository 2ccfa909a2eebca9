//! A program whose output is read line by line while it runs.

use super::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// A running program. It ends with the test.
pub struct Watched {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Starts a program that is told on its standard input what to do.
    pub fn start_to_tell(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::spawn(command)
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it is to be told");
        writeln!(input, "{line}").unwrap();
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a line on standard output that holds `text`.
    pub async fn wait_for_line(&self, text: &str) -> String {
        eventually(&format!("a line with {text:?}"), || async {
            self.stdout().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    /// Waits for a line on standard error that holds `text`.
    pub async fn wait_for_error(&self, text: &str) -> String {
        eventually(&format!("an error line with {text:?}"), || async {
            self.stderr().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    pub fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        eventually("the program ends", || async {
            child.borrow_mut().try_wait().unwrap()
        })
        .await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stdout ---\n{}", self.stdout().join("\n"));
            eprintln!("--- stderr ---\n{}", self.stderr().join("\n"));
        }
    }
}

fn lines_of(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned();
            into.lock().unwrap().push(text);
            line.clear();
        }
    });
    lines
}
