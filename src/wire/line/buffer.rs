//! Where a command ends.
//!
//! Old terminals send a command without a newline and wait for its answer; newer ones send lines.
//! Until the first newline whatever has come when the sender pauses is a command; from then on
//! each line is one.

use bytes::{Buf, BytesMut};
use std::fmt;

/// The longest command in bytes. A name of two hundred characters fits.
pub const LONGEST: usize = 1_024;

/// A command as it came, without what ended it.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// Its bytes.
    pub bytes: BytesMut,
    /// Whether a newline ended it, as one then ends its answer.
    pub has_newline: bool,
}

/// A cédula or a token may stand in it.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes)", self.bytes.len())
    }
}

/// It is longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// What has come and has not been answered.
#[derive(Default)]
pub struct Buffer {
    bytes: BytesMut,
    has_lines: bool,
}

impl Buffer {
    /// Where to read into.
    pub fn room(&mut self) -> &mut BytesMut {
        self.bytes.reserve(LONGEST);
        &mut self.bytes
    }

    /// Whether the sender ends commands with a newline.
    #[must_use]
    pub const fn has_lines(&self) -> bool {
        self.has_lines
    }

    /// Whether a pause of the sender ends a command.
    #[must_use]
    pub fn awaits_pause(&self) -> bool {
        !self.has_lines && !self.bytes.is_empty()
    }

    /// The next line, if it is there as a whole.
    ///
    /// # Errors
    /// [`TooLong`], also where its end has not come yet.
    pub fn line(&mut self) -> Result<Option<Line>, TooLong> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.bytes.len()) > LONGEST {
            return Err(TooLong);
        }
        let Some(end) = end else {
            return Ok(None);
        };
        self.has_lines = true;
        let bytes = self.bytes.split_to(end);
        self.bytes.advance(1);
        Ok(Some(line(bytes, true)))
    }

    /// The sender pauses: what has come is a command, if pauses end commands. What a sender of lines
    /// has not ended stays, and is no command if the end of the connection comes first.
    pub fn pause(&mut self) -> Option<Line> {
        self.awaits_pause().then(|| line(self.bytes.split(), false))
    }
}

fn line(mut bytes: BytesMut, has_newline: bool) -> Line {
    if bytes.last() == Some(&b'\r') {
        bytes.truncate(bytes.len() - 1);
    }
    Line { bytes, has_newline }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.room().extend_from_slice(bytes);
        buffer
    }

    fn text(line: Option<Line>) -> Option<(String, bool)> {
        line.map(|line| {
            let text = String::from_utf8_lossy(&line.bytes).into_owned();
            (text, line.has_newline)
        })
    }

    fn next(buffer: &mut Buffer) -> Option<(String, bool)> {
        text(buffer.line().unwrap())
    }

    #[test]
    fn a_pause_ends_a_command_until_the_first_newline() {
        let mut old = buffer(b"CONSULTA");
        assert_eq!(next(&mut old), None);
        old.room().extend_from_slice(b" 1");
        assert_eq!(text(old.pause()), Some(("CONSULTA 1".to_owned(), false)));
        assert_eq!(old.pause(), None);

        old.room().extend_from_slice(b"STATS\r\nCONS");
        assert_eq!(next(&mut old), Some(("STATS".to_owned(), true)));
        assert_eq!(next(&mut old), None);
        assert_eq!(old.pause(), None);
        old.room().extend_from_slice(b"ULTA 1\n\nx");
        assert_eq!(next(&mut old), Some(("CONSULTA 1".to_owned(), true)));
        assert_eq!(next(&mut old), Some((String::new(), true)));
        assert_eq!(next(&mut old), None);
    }

    #[test]
    fn a_line_has_a_bound() {
        let longest = "x".repeat(LONGEST);
        let mut fits = buffer(format!("{longest}\n").as_bytes());
        assert_eq!(next(&mut fits), Some((longest.clone(), true)));
        for end in ["x", "x\n", "xx\r\nSALIR\n"] {
            let mut over = buffer(format!("{longest}{end}").as_bytes());
            assert_eq!(over.line(), Err(TooLong));
        }
    }

    proptest! {
        /// However lines are cut on the way, they come out the same.
        #[test]
        fn cuts_change_nothing(
            lines in proptest::collection::vec("[^\n\r]{0,20}", 1..6),
            cuts in proptest::collection::vec(1..30usize, 1..20),
        ) {
            let sent: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let (mut rest, mut cuts) = (sent.as_bytes(), cuts.into_iter().cycle());
            let (mut buffer, mut heard) = (Buffer::default(), Vec::new());
            while !rest.is_empty() {
                let cut = cuts.next().unwrap_or(1).min(rest.len());
                buffer.room().extend_from_slice(&rest[..cut]);
                rest = &rest[cut..];
                while let Some((line, true)) = next(&mut buffer) {
                    heard.push(line);
                }
            }
            prop_assert_eq!(heard, lines);
        }
    }
}
