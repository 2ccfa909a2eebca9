//! What the interfaces from before Atalaya have in common: names in one field, and local dates.

use super::numbers::Moment;
use super::resources::MovementResource;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Movements in a history.
pub const MOVEMENTS: u32 = 10;

/// Given names and surnames of a whole name: its first half of words, rounded down, and the rest.
/// `None` where there is no surname.
#[must_use]
pub fn split_name(words: &[&str]) -> Option<(String, String)> {
    if words.len() < 2 {
        return None;
    }
    let (given_names, surnames) = words.split_at(words.len() / 2);
    Some((given_names.join(" "), surnames.join(" ")))
}

/// The date of a movement. What happened on another day, such as before Atalaya, is told of that
/// day.
#[must_use]
pub fn date_of(movement: &MovementResource, zone: &TimeZone) -> String {
    match &movement.fecha_valor {
        Some(day) => format!("{day} 00:00:00"),
        None => local_date(movement.timestamp, zone),
    }
}

/// A moment as clients show it, `2026-01-15 14:30:00`, in `zone`.
fn local_date(moment: Moment, zone: &TimeZone) -> String {
    let moment = Timestamp::from_microsecond(moment.0).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = moment.to_zoned(zone.clone());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
