//! What all devices of a simulation share: the terminal, the tally and the journal.

use super::super::reply::Reply;
use super::tally::{Class, Entry, Tally};
use crate::cli::text::Shown;
use crate::clock::Clock;
use crate::wire::numbers::Moment;
use anstream::{eprintln, println};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

/// Lines a second on the terminal: nobody reads more, and writing them would slow the devices.
const LINES: u32 = 40;

/// What the devices are asked to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// What they do.
    Play,
    /// Nothing new; only wait for what is not answered yet.
    Drain,
    /// Say goodbye.
    Leave,
}

/// What all devices share. They run on one thread, so cells are enough.
pub(super) struct Stage {
    /// The counts.
    pub(super) tally: RefCell<Tally>,
    clock: Clock,
    /// Events go to stderr where the summary on stdout is for programs.
    json: bool,
    second: Cell<Instant>,
    lines: Cell<u32>,
    hidden: Cell<u64>,
    journal: RefCell<Option<BufWriter<File>>>,
}

impl Stage {
    /// A stage that writes its journal to `journal`.
    pub(super) fn new(tally: Tally, json: bool, journal: Option<File>) -> Self {
        Self {
            tally: RefCell::new(tally),
            clock: Clock::system(),
            json,
            second: Cell::new(Instant::now()),
            lines: Cell::new(0),
            hidden: Cell::new(0),
            journal: RefCell::new(journal.map(BufWriter::new)),
        }
    }

    /// Unix seconds, for `iat`.
    pub(super) fn unix(&self) -> i64 {
        self.clock.now().div_euclid(1_000_000)
    }

    /// The time on the wall at `instant`, which has passed.
    pub(super) fn wall(&self, instant: Instant) -> String {
        let passed = i64::try_from(instant.elapsed().as_micros()).unwrap_or(0);
        Moment(self.clock.now().saturating_sub(passed)).to_string()
    }

    /// Says what a device sees; what is more than anybody reads is counted instead.
    pub(super) fn say(&self, device: &str, text: &str) {
        self.next_second();
        if self.lines.get() >= LINES {
            self.hidden.set(self.hidden.get() + 1);
            return;
        }
        self.lines.set(self.lines.get() + 1);
        let now = Moment(self.clock.now()).to_string();
        let time = now.get(11..23).unwrap_or(&now);
        self.print(&format!("{time} {device:<16} {text}"));
    }

    /// Says what a stranger says: a broker's reason, a server's.
    pub(super) fn say_foreign(&self, device: &str, text: &str) {
        self.say(device, Shown::from(text).as_str());
    }

    /// Starts a new second, if one has begun.
    pub(super) fn next_second(&self) {
        if self.second.get().elapsed() < Duration::from_secs(1) {
            return;
        }
        self.second.set(Instant::now());
        self.lines.set(0);
        let hidden = self.hidden.take();
        if hidden > 0 {
            self.print(&format!("… y {hidden} líneas más"));
        }
    }

    fn print(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Writes a line of the journal. One that cannot be written ends the journal, loudly.
    pub(super) fn record(&self, entry: &Entry<'_>) {
        let mut journal = self.journal.borrow_mut();
        let Some(file) = journal.as_mut() else {
            return;
        };
        let written = serde_json::to_writer(&mut *file, entry)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            eprintln!("atalaya device simulate: no se puede escribir el diario: {error}");
            *journal = None;
            self.tally.borrow_mut().failed();
        }
    }

    /// Hands the journal to the system.
    ///
    /// # Errors
    /// Where that fails.
    pub(super) fn flush(&self) -> io::Result<()> {
        match self.journal.borrow_mut().as_mut() {
            Some(file) => file.flush(),
            None => Ok(()),
        }
    }

    /// Counts the answer to a message of `class`.
    pub(super) fn answered(&self, class: Class, reply: &Reply, time: Option<Duration>) {
        self.tally.borrow_mut().answered(class, reply, time);
    }
}
