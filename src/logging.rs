//! Logs: to the terminal, and to files that are made and rotated here.
//!
//! One record is one line whatever it says: control characters are escaped, so that nothing a
//! client sends can forge a line or reach a terminal as a command.

use crate::config::{ConfigError, LogArgs, LogFormat};
use env_logger::Target;
use env_logger::fmt::Formatter;
use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// The target of what goes to `alerts.log`.
pub const ALERTS: &str = "alerts";

/// The target of what the terminal is told otherwise: it goes to the files alone.
pub const FILES: &str = "files";

/// A file is rotated when it has grown beyond this.
const FILE_BYTES: usize = 10 * 1024 * 1024;

/// Rotated files that are kept, compressed but for the newest.
const FILES_KEPT: usize = 9;

/// Starts logging for this process.
///
/// # Errors
/// [`ConfigError`] where the folder cannot be used, or `RUST_LOG` does not parse.
pub fn start(args: &LogArgs) -> Result<(), ConfigError> {
    let folder = &args.log_dir;
    std::fs::create_dir_all(folder)
        .and_then(|()| probe(folder))
        .map_err(|e| {
            ConfigError(format!(
                "LOG_DIR: cannot write to {}: {e}",
                folder.display()
            ))
        })?;
    let terminal = logger(args, Target::Stderr)?;
    let file = |name: &str| logger(args, Target::Pipe(Box::new(rotating(&folder.join(name)))));
    let outlets = vec![
        Outlet {
            logger: terminal,
            takes: |record| record.target() != FILES,
        },
        Outlet {
            logger: file("system.log")?,
            takes: |_| true,
        },
        Outlet {
            logger: file("alerts.log")?,
            takes: |record| record.target() == ALERTS,
        },
        Outlet {
            logger: file("errors.log")?,
            takes: |record| record.level() <= Level::Error,
        },
    ];
    let most = outlets
        .iter()
        .map(|o| o.logger.filter())
        .max()
        .unwrap_or(LevelFilter::Off);
    log::set_boxed_logger(Box::new(Fan { outlets }))
        .map_err(|e| ConfigError(format!("logs are started already: {e}")))?;
    log::set_max_level(most);
    Ok(())
}

/// Files are opened when first written to; a folder that refuses them should be told at once.
fn probe(folder: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("system.log"))
        .map(drop)
}

fn logger(args: &LogArgs, target: Target) -> Result<env_logger::Logger, ConfigError> {
    let mut builder = env_logger::Builder::new();
    // env_logger prints a warning for a bad filter and goes on; we would rather say so and stop.
    env_filter(&args.rust_log)?;
    builder.parse_filters(&args.rust_log).target(target);
    match args.log_format {
        LogFormat::Text => builder.format(text_line),
        LogFormat::Json => builder.format(json_line),
    };
    Ok(builder.build())
}

/// Whether each directive of `RUST_LOG` ends in a level.
fn env_filter(directives: &str) -> Result<(), ConfigError> {
    let directives = directives.split('/').next().unwrap_or_default();
    for directive in directives
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
    {
        let level = directive.rsplit('=').next().unwrap_or_default();
        let is_target = !directive.contains('=') && level.contains("::");
        if level.parse::<LevelFilter>().is_err() && !is_target {
            return Err(ConfigError(format!(
                "RUST_LOG: {directive:?} has no level; use error, warn, info, debug, trace or off, \
                 or target=level"
            )));
        }
    }
    Ok(())
}

fn rotating(path: &Path) -> FileRotate<AppendCount> {
    // `BytesSurpassed` rotates between lines; `Bytes` would cut one.
    FileRotate::new(
        path,
        AppendCount::new(FILES_KEPT),
        ContentLimit::BytesSurpassed(FILE_BYTES),
        Compression::OnRotate(1),
        None,
    )
}

struct Outlet {
    logger: env_logger::Logger,
    takes: fn(&Record<'_>) -> bool,
}

struct Fan {
    outlets: Vec<Outlet>,
}

impl Log for Fan {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.outlets
            .iter()
            .any(|outlet| outlet.logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        for outlet in self.outlets.iter().filter(|outlet| (outlet.takes)(record)) {
            outlet.logger.log(record);
        }
    }

    fn flush(&self) {
        for outlet in &self.outlets {
            outlet.logger.flush();
        }
    }
}

fn text_line(line: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    writeln!(line, "{}", text_of(Timestamp::now(), record))
}

fn text_of(now: Timestamp, record: &Record<'_>) -> String {
    let message = escaped(&record.args().to_string());
    format!(
        "{now:.3} {:5} {} {message}",
        record.level(),
        record.target()
    )
}

#[derive(Serialize)]
struct JsonLine<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: String,
}

fn json_line(line: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    writeln!(line, "{}", json_of(Timestamp::now(), record)?)
}

fn json_of(now: Timestamp, record: &Record<'_>) -> serde_json::Result<String> {
    let body = JsonLine {
        timestamp: format!("{now:.6}"),
        level: record.level().as_str(),
        target: record.target(),
        message: record.args().to_string(),
    };
    // JSON itself escapes no more than the controls of ASCII. What is left stands within texts, where
    // an escape means the same character.
    Ok(escape(&serde_json::to_string(&body)?, |c, escaped| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }))
}

/// Whether `c` breaks lines, commands a terminal or shows what follows in another order than it
/// stands in.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with characters that mislead as escapes that people can read.
pub(crate) fn escaped(text: &str) -> String {
    escape(text, |c, escaped| escaped.extend(c.escape_default()))
}

/// `text` with characters that mislead as escapes.
fn escape(text: &str, escape_one: impl Fn(char, &mut String)) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if misleads(c) {
            escape_one(c, &mut escaped);
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOADS: [&str; 8] = [
        "a\r\n2026-01-01T00:00:00.000Z ERROR forged",
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "\u{9b}31m and \u{85} a next line",
        "x\u{2028}y\u{2029}z",
        "\",\"level\":\"ERROR\",\"message\":\"forged",
        "\\\",\"level\":\"ERROR\"}\n{\"level\":\"ERROR\"",
        "\u{202e}txt.exe \u{2066}",
        "\0Pérez\t\u{7f}",
    ];

    #[test]
    fn one_record_is_one_line() {
        for payload in PAYLOADS {
            let (text, json) = lines(payload);
            for line in [&text, &json] {
                assert!(!line.contains(misleads), "{line:?}");
            }
            assert!(
                text.starts_with("1970-01-01T00:00:00.000Z INFO  atalaya "),
                "{text}"
            );
            // No word of it is lost, and none is a field of its own.
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(read["message"], *payload, "{json}");
            assert_eq!(read["level"], "INFO", "{json}");
            assert_eq!(read.as_object().unwrap().len(), 4, "{json}");
        }
        assert!(lines("Pérez 13…25").0.ends_with("atalaya Pérez 13…25"));
    }

    /// The lines of a record that says `message`.
    fn lines(message: &str) -> (String, String) {
        let args = format_args!("{message}");
        let record = Record::builder()
            .level(Level::Info)
            .target("atalaya")
            .args(args)
            .build();
        let now = Timestamp::UNIX_EPOCH;
        (text_of(now, &record), json_of(now, &record).unwrap())
    }

    #[test]
    fn a_bad_filter_is_told() {
        for fine in [
            "info",
            "warn,atalaya=debug",
            "atalaya::mqtt=trace",
            "off",
            "",
            "info/x",
        ] {
            assert!(env_filter(fine).is_ok(), "{fine}");
        }
        for wrong in ["loud", "atalaya=loud", "info,x=y"] {
            assert!(env_filter(wrong).is_err(), "{wrong}");
        }
    }
}
