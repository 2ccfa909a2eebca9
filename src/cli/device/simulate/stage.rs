//! What all devices of a simulation share: the terminal, the tally and the journal.

use super::super::reply::Reply;
use super::tally::{Class, Entry, Tally};
use crate::cli::text::Shown;
use crate::clock::Clock;
use crate::wire::numbers::Moment;
use anstream::eprintln;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

/// Lines a second on the terminal: nobody reads more, and writing them would slow the devices.
const LINES: u32 = 40;

/// Lines a second of one device, so that one that floods does not hide the others.
const LINES_EACH: u32 = 8;

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
    /// Lines of this second, of all and of each device.
    lines: RefCell<(u32, HashMap<String, u32>)>,
    hidden: Cell<u64>,
    /// Nobody reads what is written any more.
    unread: Cell<bool>,
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
            lines: RefCell::default(),
            hidden: Cell::new(0),
            unread: Cell::new(false),
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
        if !self.has_line_for(device) {
            self.hidden.set(self.hidden.get() + 1);
            return;
        }
        let now = Moment(self.clock.now()).to_string();
        let time = now.get(11..23).unwrap_or(&now);
        self.print(&format!("{time} {device:<16} {text}"));
    }

    fn has_line_for(&self, device: &str) -> bool {
        let (all, each) = &mut *self.lines.borrow_mut();
        let own = each.entry(device.to_owned()).or_default();
        if *all >= LINES || *own >= LINES_EACH {
            return false;
        }
        *all += 1;
        *own += 1;
        true
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
        self.lines.take();
        let hidden = self.hidden.take();
        if hidden > 0 {
            self.print(&format!("… y {hidden} líneas más"));
        }
    }

    fn print(&self, line: &str) {
        // Not `println!`, which panics where the reader has gone.
        let written = if self.json {
            writeln!(anstream::stderr(), "{line}")
        } else {
            writeln!(anstream::stdout(), "{line}")
        };
        self.unread.set(self.unread.get() || written.is_err());
    }

    /// Whether nobody reads what is written any more, as after `| head`.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
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
