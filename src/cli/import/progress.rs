//! How far an import is: a bar on a terminal, a line now and then in a log.

use anstream::eprintln;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
#[cfg(feature = "mysql")]
use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;
#[cfg(feature = "mysql")]
use std::time::Instant;
use tokio::time::sleep;

/// How often a bar is redrawn while nothing happens, so that its clock moves.
const REDRAW: Duration = Duration::from_millis(200);

/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(5);

const BAR: &str = "{bar:30} {pos}/{len} movimientos, {per_sec}, faltan {eta_precise} {wide_msg}";

/// The progress of one import, on stderr.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: bool,
    /// When a log last got a line of [`Progress::advance`].
    #[cfg(feature = "mysql")]
    told: Cell<Instant>,
}

impl Progress {
    /// The progress of `movements` movements.
    pub(super) fn new(movements: u64) -> Self {
        let bar = ProgressBar::new(movements);
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        // The library hides its bar where stderr is no terminal.
        let lines = bar.is_hidden();
        Self {
            bar,
            lines,
            #[cfg(feature = "mysql")]
            told: Cell::new(Instant::now()),
        }
    }

    /// One more movement is decided.
    pub(super) fn decided(&self) {
        self.bar.inc(1);
    }

    /// The server does not answer as it should.
    pub(super) fn waiting(&self, reason: &str) {
        self.bar
            .set_message(format!("servidor no disponible, reintentando ({reason})"));
    }

    /// The server answers.
    pub(super) fn flowing(&self) {
        if !self.bar.message().is_empty() {
            self.bar.set_message("");
        }
    }

    /// Keeps people informed for as long as it is polled.
    pub(super) async fn narrate(&self) -> Infallible {
        loop {
            if self.lines {
                sleep(LINE).await;
                eprintln!("{}", self.line());
            } else {
                sleep(REDRAW).await;
                self.bar.tick();
            }
        }
    }

    /// It became known that there are `movements` movements, and nobody polls
    /// [`Progress::narrate`].
    #[cfg(feature = "mysql")]
    pub(super) fn expect(&self, movements: u64) {
        self.bar.set_length(movements);
        if !self.lines {
            self.bar.enable_steady_tick(REDRAW);
        }
    }

    /// Some more movements are decided; a log is told now and then.
    #[cfg(feature = "mysql")]
    pub(super) fn advance(&self, movements: usize) {
        self.bar.inc(movements as u64);
        if self.lines && self.told.get().elapsed() >= LINE {
            self.told.set(Instant::now());
            eprintln!("{}", self.line());
        }
    }

    /// Does what writes to the terminal without disturbing the bar.
    #[cfg(feature = "mysql")]
    pub(super) fn beside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    fn line(&self) -> String {
        let line = format!(
            "{}/{} movimientos, {:.0}/s, faltan {} {}",
            self.bar.position(),
            self.bar.length().unwrap_or_default(),
            self.bar.per_sec(),
            FormattedDuration(self.bar.eta()),
            self.bar.message()
        );
        line.trim_end().to_owned()
    }

    /// Leaves the place to the summary.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
