//! How far an import is: a bar on a terminal, a line now and then in a log.

use anstream::eprintln;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use std::convert::Infallible;
use std::time::Duration;
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
        Self { bar, lines }
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
