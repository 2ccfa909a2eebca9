//! Reading the log files that [`crate::logging`] writes: a page at a time from the newest line back,
//! or on from where one has read, across rotations and compressed files.
//!
//! A place in the logs is the file's fingerprint (a digest of its first line, which stays the same
//! when the file is renamed or compressed) and an offset in it. A request reads so much and no more.

use crate::logging;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that a request looks at before it answers with what it has. A compressed file cannot be read
/// backwards and counts as one look, whatever its size (10 MiB before it is rotated).
const BUDGET: u64 = 2 * 1024 * 1024;

/// The most of a first line that makes the fingerprint.
const FINGERPRINT_BYTES: u64 = 1_024;

/// A line longer than this is shown cut.
const LINE_BYTES: usize = 64 * 1024;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogName {
    /// `sistema`: everything.
    System,
    /// `alertas`: the life of alerts and low balances.
    Alerts,
    /// `errores`: errors alone.
    Errors,
}

impl LogName {
    /// The log called so on the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "sistema" => Self::System,
            "alertas" => Self::Alerts,
            "errores" => Self::Errors,
            _ => return None,
        })
    }

    const fn file(self) -> &'static str {
        match self {
            Self::System => "system.log",
            Self::Alerts => "alerts.log",
            Self::Errors => "errors.log",
        }
    }
}

/// How grave a line is; the lower, the graver.
#[must_use]
pub fn gravity(level: &str) -> Option<u8> {
    let levels = ["error", "warn", "info", "debug", "trace"];
    let found = levels
        .iter()
        .position(|one| one.eq_ignore_ascii_case(level));
    found.and_then(|index| u8::try_from(index).ok())
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// This grave or graver.
    pub gravity: Option<u8>,
    /// Containing this, in lower case.
    pub text: String,
    /// Not before this moment, in microseconds since 1970 UTC.
    pub from: Option<i64>,
    /// Before this moment.
    pub until: Option<i64>,
}

/// A place in the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    file: u64,
    offset: u64,
}

impl std::fmt::Display for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.file, self.offset)
    }
}

impl std::str::FromStr for LogPlace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (file, offset) = text.split_once('-').ok_or(())?;
        Ok(Self {
            file: u64::from_str_radix(file, 16).map_err(drop)?,
            offset: offset.parse().map_err(drop)?,
        })
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "LineaDeRegistro")]
pub struct LogLine {
    /// When, RFC 3339; `null` where the line does not say.
    #[schema(required = true)]
    pub timestamp: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[schema(required = true)]
    pub nivel: Option<String>,
    /// The part of the program.
    #[schema(required = true)]
    pub modulo: Option<String>,
    /// What it says, controls escaped as in the file.
    pub mensaje: String,
}

/// A page of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "PaginaDeRegistro")]
pub struct LogPage {
    /// The lines: the newest first, with `despues` the oldest first. There may be none although
    /// `siguiente` says that there is more: a rare text is looked for a part at a time.
    pub datos: Vec<LogLine>,
    /// The cursor of older lines; `null` where there are none.
    #[schema(required = true)]
    pub siguiente: Option<String>,
    /// Where the newest line ends: `despues` answers what is written from then on.
    pub posicion: String,
}

/// The folder where the logs are.
#[derive(Debug, Clone)]
pub struct LogFolder(PathBuf);

/// One file of a log, the newest first in lists.
struct LogFile {
    path: PathBuf,
    fingerprint: u64,
    compressed: bool,
}

impl LogFolder {
    /// The logs in this folder.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// At most `limit` lines before `cursor`, or before the end, the newest first.
    ///
    /// # Errors
    /// Where the files cannot be read.
    pub fn page(
        &self,
        log: LogName,
        filter: &LogFilter,
        cursor: Option<LogPlace>,
        limit: usize,
    ) -> io::Result<LogPage> {
        let files = self.files(log)?;
        let mut found: Vec<LogLine> = Vec::new();
        let mut budget = BUDGET;
        let mut next = None;
        let start = match cursor {
            Some(place) => files.iter().position(|file| file.fingerprint == place.file),
            None => Some(0),
        };
        let mut offset = cursor.map(|place| place.offset);
        let rest = start.map_or(&[][..], |start| &files[start.min(files.len())..]);
        for (index, file) in rest.iter().enumerate() {
            let older = rest.get(index + 1);
            let seen = file.back(offset.take(), filter, limit - found.len(), budget)?;
            budget = budget.saturating_sub(seen.looked);
            found.extend(seen.lines);
            next = match seen.rest {
                Rest::At(offset) => Some(LogPlace {
                    file: file.fingerprint,
                    offset,
                }),
                Rest::Begin => older.map(|older| LogPlace {
                    file: older.fingerprint,
                    offset: u64::MAX,
                }),
                Rest::TooOld => None,
            };
            let is_done = matches!(seen.rest, Rest::At(_) | Rest::TooOld);
            if is_done || found.len() >= limit || budget == 0 {
                break;
            }
        }
        let end = files.first().map(|file| {
            file.end().map(|offset| LogPlace {
                file: file.fingerprint,
                offset,
            })
        });
        let end = end.transpose()?.unwrap_or(LogPlace { file: 0, offset: 0 });
        Ok(LogPage {
            datos: found,
            siguiente: next.map(|place| place.to_string()),
            posicion: end.to_string(),
        })
    }

    /// At most `limit` lines that were written after `place`, the oldest first.
    ///
    /// # Errors
    /// Where the files cannot be read.
    pub fn after(
        &self,
        log: LogName,
        filter: &LogFilter,
        place: LogPlace,
        limit: usize,
    ) -> io::Result<LogPage> {
        let files = self.files(log)?;
        let known = files.iter().position(|file| file.fingerprint == place.file);
        let mut at = place;
        let mut found = Vec::new();
        let mut budget = BUDGET;
        // A place that is gone lies before all that is left of what is not compressed.
        let start = known.unwrap_or(0).min(files.len().saturating_sub(1));
        for (index, file) in files.iter().enumerate().take(start + 1).rev() {
            let offset = if known == Some(index) {
                place.offset
            } else {
                0
            };
            let (lines, end, looked) = file.forward(offset, filter, limit - found.len(), budget)?;
            found.extend(lines);
            at = LogPlace {
                file: file.fingerprint,
                offset: end,
            };
            budget = budget.saturating_sub(looked);
            if found.len() >= limit || budget == 0 {
                break;
            }
        }
        Ok(LogPage {
            datos: found,
            siguiente: None,
            posicion: at.to_string(),
        })
    }

    /// The files of a log that have lines, the newest first.
    fn files(&self, log: LogName) -> io::Result<Vec<LogFile>> {
        let base = log.file();
        let mut numbered: Vec<(u32, PathBuf)> = Vec::new();
        let folder = match std::fs::read_dir(&self.0) {
            Ok(folder) => folder,
            // Nothing has been logged.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        for entry in folder {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(rest) = name.strip_prefix(base) else {
                continue;
            };
            let number = match rest.strip_suffix(".gz").unwrap_or(rest) {
                "" => Some(0),
                rest => rest.strip_prefix('.').and_then(|n| n.parse().ok()),
            };
            if let Some(number) = number {
                numbered.push((number, self.0.join(name)));
            }
        }
        numbered.sort();
        let mut files: Vec<LogFile> = Vec::new();
        for (_, path) in numbered {
            match LogFile::open(path) {
                // While a file is being compressed it is there twice.
                Ok(Some(file)) if files.iter().all(|f| f.fingerprint != file.fingerprint) => {
                    files.push(file);
                }
                // Rotated away between the list and now, or a rest of a compression.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }
}

/// What looking back through a file has found.
struct Back {
    /// The newest first.
    lines: Vec<LogLine>,
    rest: Rest,
    looked: u64,
}

/// Where to go on.
enum Rest {
    /// Before this offset of the same file.
    At(u64),
    /// The file has been read to its beginning.
    Begin,
    /// What is older is not wanted.
    TooOld,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        let mut first = Vec::new();
        let mut reader = reader(&path, compressed)?.take(FINGERPRINT_BYTES);
        reader.read_until(b'\n', &mut first)?;
        let is_whole = first.ends_with(b"\n")
            || u64::try_from(first.len()).is_ok_and(|length| length == FINGERPRINT_BYTES);
        let digest = Sha256::digest(&first);
        let bytes: Option<[u8; 8]> = digest.get(..8).and_then(|bytes| bytes.try_into().ok());
        Ok(bytes.filter(|_| is_whole).map(|bytes| Self {
            path,
            fingerprint: u64::from_be_bytes(bytes),
            compressed,
        }))
    }

    /// Where its last whole line ends.
    fn end(&self) -> io::Result<u64> {
        if self.compressed {
            let mut all = reader(&self.path, true)?;
            return io::copy(&mut all, &mut io::sink());
        }
        let mut file = File::open(&self.path)?;
        let mut end = file.seek(SeekFrom::End(0))?;
        let mut chunk = [0; 4_096];
        while end > 0 {
            let begin = end.saturating_sub(4_096);
            let length = usize::try_from(end - begin).unwrap_or(0);
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(&mut chunk[..length])?;
            if let Some(at) = chunk[..length].iter().rposition(|byte| *byte == b'\n') {
                return Ok(begin + u64::try_from(at).unwrap_or(0) + 1);
            }
            end = begin;
        }
        Ok(0)
    }

    /// Looks back from `offset`, or from the end.
    fn back(
        &self,
        offset: Option<u64>,
        filter: &LogFilter,
        limit: usize,
        budget: u64,
    ) -> io::Result<Back> {
        let offset = offset.unwrap_or(u64::MAX);
        let (begin, end) = if self.compressed {
            (0, offset)
        } else {
            let end = offset.min(self.end()?);
            (self.line_begin(end.saturating_sub(budget))?, end)
        };
        let mut newest: VecDeque<(u64, LogLine)> = VecDeque::with_capacity(limit);
        let mut dropped = false;
        let mut too_old = false;
        let walked = self.walk(begin, end, |at, line| {
            let is_old = filter
                .from
                .is_some_and(|from| line.moment.is_some_and(|moment| moment < from));
            too_old |= is_old;
            if line.is_wanted(filter) {
                if newest.len() == limit {
                    newest.pop_front();
                    dropped = true;
                }
                newest.push_back((at, line.line));
            }
            true
        })?;
        let rest = match newest.front() {
            Some((at, _)) if dropped => Rest::At(*at),
            _ if too_old => Rest::TooOld,
            _ if begin > 0 => Rest::At(begin),
            _ => Rest::Begin,
        };
        Ok(Back {
            lines: newest.into_iter().rev().map(|(_, line)| line).collect(),
            rest,
            looked: if self.compressed {
                budget
            } else {
                walked - begin
            },
        })
    }

    /// Reads on from `offset`: the lines, where they end, and how much was looked at.
    fn forward(
        &self,
        offset: u64,
        filter: &LogFilter,
        limit: usize,
        budget: u64,
    ) -> io::Result<(Vec<LogLine>, u64, u64)> {
        let mut found = Vec::new();
        let begin = if self.compressed { 0 } else { offset };
        let until = offset.saturating_add(budget);
        let end = self.walk(begin, u64::MAX, |at, line| {
            if at >= offset && line.is_wanted(filter) {
                found.push(line.line);
            }
            found.len() < limit && at < until
        })?;
        Ok((found, end, end.saturating_sub(begin)))
    }

    /// The beginning of the first line at or after `offset`.
    fn line_begin(&self, offset: u64) -> io::Result<u64> {
        if offset == 0 {
            return Ok(0);
        }
        let mut reader = BufReader::new(File::open(&self.path)?);
        reader.seek(SeekFrom::Start(offset - 1))?;
        let mut rest = Vec::new();
        let skipped = reader.read_until(b'\n', &mut rest)?;
        Ok(offset - 1 + u64::try_from(skipped).unwrap_or(0))
    }

    /// Hands whole lines from `begin` and before `end` to `take`, until it says that it has enough.
    /// Gives where the last of them ends.
    fn walk(
        &self,
        begin: u64,
        end: u64,
        mut take: impl FnMut(u64, Parsed) -> bool,
    ) -> io::Result<u64> {
        let mut reader: Box<dyn BufRead> = if self.compressed {
            reader(&self.path, true)?
        } else {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(begin))?;
            Box::new(BufReader::new(file))
        };
        let mut at = begin;
        let mut line = Vec::new();
        while at < end {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            // What has no end yet is still being written.
            if !line.ends_with(b"\n") {
                break;
            }
            line.pop();
            let length = line.len().min(LINE_BYTES);
            let text = String::from_utf8_lossy(&line[..length]);
            let next = at + u64::try_from(read).unwrap_or(0);
            let goes_on = take(at, Parsed::of(&text));
            at = next;
            if !goes_on {
                break;
            }
        }
        Ok(at)
    }
}

fn reader(path: &Path, compressed: bool) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    Ok(if compressed {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// A line taken to pieces.
struct Parsed {
    line: LogLine,
    /// In microseconds since 1970 UTC.
    moment: Option<i64>,
    gravity: Option<u8>,
}

/// A line in the format `json`.
#[derive(Deserialize)]
struct JsonLine {
    timestamp: String,
    level: String,
    target: String,
    message: String,
}

impl Parsed {
    fn of(text: &str) -> Self {
        let parts = if text.starts_with('{') {
            serde_json::from_str::<JsonLine>(text).ok().map(|line| {
                (
                    line.timestamp,
                    line.level,
                    line.target,
                    logging::escaped(&line.message),
                )
            })
        } else {
            Self::split(text)
        };
        let known = parts.and_then(|(timestamp, level, target, message)| {
            let moment: Timestamp = timestamp.parse().ok()?;
            Some((timestamp, moment, gravity(&level)?, level, target, message))
        });
        match known {
            Some((timestamp, moment, gravity, level, target, message)) => Self {
                line: LogLine {
                    timestamp: Some(timestamp),
                    nivel: Some(level.to_ascii_lowercase()),
                    modulo: Some(target),
                    mensaje: message,
                },
                moment: Some(moment.as_microsecond()),
                gravity: Some(gravity),
            },
            None => Self {
                line: LogLine {
                    timestamp: None,
                    nivel: None,
                    modulo: None,
                    mensaje: text.to_owned(),
                },
                moment: None,
                gravity: None,
            },
        }
    }

    /// A line in the format `text`.
    fn split(text: &str) -> Option<(String, String, String, String)> {
        let (timestamp, rest) = text.split_once(' ')?;
        let (level, rest) = rest.split_once(' ')?;
        let (target, message) = rest.trim_start().split_once(' ')?;
        let owned = str::to_owned;
        Some((
            owned(timestamp),
            owned(level),
            owned(target),
            owned(message),
        ))
    }

    fn is_wanted(&self, filter: &LogFilter) -> bool {
        let grave = filter
            .gravity
            .is_none_or(|most| self.gravity.is_some_and(|own| own <= most));
        let late = filter
            .from
            .is_none_or(|from| self.moment.is_some_and(|own| own >= from));
        let early = filter
            .until
            .is_none_or(|until| self.moment.is_some_and(|own| own < until));
        grave && late && early && (filter.text.is_empty() || self.contains(&filter.text))
    }

    fn contains(&self, text: &str) -> bool {
        let module = self.line.modulo.as_deref().unwrap_or_default();
        self.line.mensaje.to_lowercase().contains(text) || module.to_lowercase().contains(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(index: usize) -> String {
        let level = ["ERROR", "WARN ", "INFO ", "DEBUG"][index % 4];
        format!(
            "2026-01-15T14:{:02}:{:02}.000Z {level} atalaya::part line {index} Pérez\n",
            index / 60 % 60,
            index % 60
        )
    }

    fn write(path: &Path, lines: std::ops::Range<usize>) {
        let text: String = lines.map(line).collect();
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut packed = flate2::write::GzEncoder::new(
                File::create(path).unwrap(),
                flate2::Compression::fast(),
            );
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            std::fs::write(path, text).unwrap();
        }
    }

    /// 0..100 compressed, 100..200 rotated, 200..300 the newest.
    fn folder() -> (tempfile::TempDir, LogFolder) {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("system.log.2.gz"), 0..100);
        write(&folder.path().join("system.log.1"), 100..200);
        write(&folder.path().join("system.log"), 200..300);
        let logs = LogFolder::new(folder.path().to_owned());
        (folder, logs)
    }

    fn micros(moment: &str) -> i64 {
        moment.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn number(line: &LogLine) -> usize {
        line.mensaje.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn all(logs: &LogFolder, filter: &LogFilter, limit: usize) -> Vec<usize> {
        let (mut numbers, mut cursor) = (Vec::new(), None);
        for _ in 0..1_000 {
            let page = logs.page(LogName::System, filter, cursor, limit).unwrap();
            assert!(page.datos.len() <= limit);
            numbers.extend(page.datos.iter().map(number));
            match page.siguiente {
                Some(next) => cursor = Some(next.parse().unwrap()),
                None => return numbers,
            }
        }
        panic!("pages without end");
    }

    #[test]
    fn pages_are_all_lines_once_from_the_newest() {
        let (_folder, logs) = folder();
        let expected: Vec<usize> = (0..300).rev().collect();
        for limit in [1, 7, 100, 200] {
            assert_eq!(
                all(&logs, &LogFilter::default(), limit),
                expected,
                "{limit}"
            );
        }
    }

    #[test]
    fn filters_hold_together() {
        let (_folder, logs) = folder();
        let filter = LogFilter {
            gravity: gravity("WARN"),
            text: "pérez".to_owned(),
            from: Some(micros("2026-01-15T14:01:00Z")),
            until: Some(micros("2026-01-15T14:02:00Z")),
        };
        let expected: Vec<usize> = (60..120).rev().filter(|index| index % 4 < 2).collect();
        assert_eq!(all(&logs, &filter, 9), expected);
        let none = LogFilter {
            text: "nowhere".to_owned(),
            ..LogFilter::default()
        };
        assert!(all(&logs, &none, 9).is_empty());
    }

    #[test]
    fn what_is_written_later_is_followed_across_a_rotation() {
        let (folder, logs) = folder();
        let newest = folder.path().join("system.log");
        let end: LogPlace = logs
            .page(LogName::System, &LogFilter::default(), None, 1)
            .unwrap()
            .posicion
            .parse()
            .unwrap();
        let follow = |place| {
            logs.after(LogName::System, &LogFilter::default(), place, 4)
                .unwrap()
        };
        assert!(follow(end).datos.is_empty());
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&newest)
            .unwrap();
        file.write_all((300..303).map(line).collect::<String>().as_bytes())
            .unwrap();
        file.write_all(b"2026-01-15T15:00:00.000Z INFO  atalaya half a li")
            .unwrap();
        let first = follow(end);
        assert_eq!(
            first.datos.iter().map(number).collect::<Vec<_>>(),
            [300, 301, 302]
        );
        std::fs::write(
            &newest,
            std::fs::read_to_string(&newest)
                .unwrap()
                .replace("2026-01-15T15:00:00.000Z INFO  atalaya half a li", ""),
        )
        .unwrap();
        std::fs::rename(
            folder.path().join("system.log.1"),
            folder.path().join("system.log.3"),
        )
        .unwrap();
        std::fs::rename(&newest, folder.path().join("system.log.1")).unwrap();
        write(&newest, 303..310);
        let second = follow(first.posicion.parse().unwrap());
        assert_eq!(
            second.datos.iter().map(number).collect::<Vec<_>>(),
            [303, 304, 305, 306]
        );
        let third = follow(second.posicion.parse().unwrap());
        assert_eq!(
            third.datos.iter().map(number).collect::<Vec<_>>(),
            [307, 308, 309]
        );
    }

    #[test]
    fn a_page_goes_on_after_its_file_was_compressed() {
        let (folder, logs) = folder();
        let page = logs
            .page(LogName::System, &LogFilter::default(), None, 150)
            .unwrap();
        write(&folder.path().join("system.log.3.gz"), 100..200);
        std::fs::remove_file(folder.path().join("system.log.1")).unwrap();
        let rest = logs
            .page(
                LogName::System,
                &LogFilter::default(),
                Some(page.siguiente.unwrap().parse().unwrap()),
                10,
            )
            .unwrap();
        assert_eq!(number(&rest.datos[0]), 149);
    }

    #[test]
    fn a_request_looks_at_so_much_and_says_where_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("errors.log"), 0..60_000);
        let logs = LogFolder::new(folder.path().to_owned());
        let filter = LogFilter {
            text: "line 3 ".to_owned(),
            ..LogFilter::default()
        };
        let page = logs.page(LogName::Errors, &filter, None, 10).unwrap();
        assert!(page.datos.is_empty());
        let next: LogPlace = page.siguiente.unwrap().parse().unwrap();
        let page = logs.page(LogName::Errors, &filter, Some(next), 10).unwrap();
        assert_eq!(page.datos.iter().map(number).collect::<Vec<_>>(), [3]);
        assert!(page.siguiente.is_none());
    }

    #[test]
    fn both_formats_are_read_and_what_is_neither_is_shown() {
        let json = r#"{"timestamp":"2026-01-15T14:00:00.000000Z","level":"WARN","target":"atalaya","message":"a\nb"}"#;
        let parsed = Parsed::of(json).line;
        assert_eq!(
            (parsed.nivel.as_deref(), parsed.mensaje.as_str()),
            (Some("warn"), "a\\nb")
        );
        let odd = Parsed::of("half a line").line;
        assert_eq!((odd.nivel, odd.mensaje.as_str()), (None, "half a line"));
        let place = LogPlace {
            file: 7,
            offset: 42,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!("x".parse::<LogPlace>().is_err());
    }
}
