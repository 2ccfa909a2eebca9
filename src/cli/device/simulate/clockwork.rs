//! When a device does what it does by itself. Pure: the caller tells the time.

use super::super::jws::Alert;
use super::super::scenario::{Group, Schedule};
use crate::domain::registry::HEARTBEAT;
use std::time::{Duration, Instant};

/// Pseudo-random numbers that are the same for the same seed (`SplitMix64`, Steele et al. 2014). They
/// decide about jitter only; keys come from the system.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// The numbers of `seed` for the device `place`.
    pub(super) const fn new(seed: u64, place: u64) -> Self {
        Self(seed ^ place.wrapping_mul(0xD129_0D3B_3F9C_1A5B))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`; zero where that is zero.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    /// `around`, earlier or later by `jitter` at most.
    fn vary(&mut self, around: Duration, jitter: Duration) -> Duration {
        let nanos = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX / 2);
        let off = Duration::from_nanos(self.below(nanos.saturating_mul(2).saturating_add(1)));
        (around + off).saturating_sub(jitter)
    }
}

/// Something that a device does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    /// Sends an alert, until it is answered.
    Press(Alert),
    /// Sends an alert and forgets it.
    Flood(Alert),
    /// Sends its heartbeat.
    Beat,
    /// Sends this many old messages again.
    Replay(u32),
    /// Says nothing.
    Silence {
        /// For how long.
        span: Duration,
        /// Whether its connection breaks too.
        cut: bool,
    },
}

/// A deed and when it is done.
#[derive(Debug)]
pub(super) struct Clockwork {
    deed: Deed,
    schedule: Schedule,
    /// How many times in quick succession, and how quick.
    burst: (u32, Duration),
    /// How many are still to come of the burst under way.
    in_burst: u32,
    /// When the burst under way began.
    began: Instant,
    next: Option<Instant>,
    done: u64,
}

impl Clockwork {
    fn new(deed: Deed, schedule: Schedule, burst: (u32, Duration), start: Instant) -> Self {
        let began = start + schedule.start;
        Self {
            deed,
            burst,
            in_burst: burst.0,
            began,
            next: (schedule.times != Some(0)).then_some(began),
            schedule,
            done: 0,
        }
    }

    /// All that a device of `group` does by itself.
    pub(super) fn of(group: &Group, start: Instant, dice: &mut Dice) -> Vec<Self> {
        let one = (1, Duration::ZERO);
        let mut all = Vec::new();
        for press in &group.pulsar {
            let alert = Alert {
                kind: press.tipo_alarma.to_string(),
                description: press.descripcion.clone(),
                location: press.ubicacion.clone(),
                data: press.datos.clone(),
            };
            all.push(Self::new(Deed::Press(alert), press.schedule(), one, start));
        }
        for bounce in &group.rebotar {
            let alert = Alert::of_kind(bounce.tipo_alarma.to_string());
            let burst = (bounce.pulsos, bounce.en.0 / bounce.pulsos.max(1));
            all.push(Self::new(
                Deed::Press(alert),
                bounce.schedule(),
                burst,
                start,
            ));
        }
        for flood in &group.inundar {
            let alert = Alert::of_kind(flood.tipo_alarma.to_string());
            all.push(Self::new(Deed::Flood(alert), flood.schedule(), one, start));
        }
        for replay in &group.repetir {
            let deed = Deed::Replay(replay.mensajes);
            all.push(Self::new(deed, replay.schedule(), one, start));
        }
        for silence in &group.callar {
            let deed = Deed::Silence {
                span: silence.durante.0,
                cut: silence.desconectar,
            };
            let schedule = Schedule {
                start: silence.desde.0,
                every: Duration::ZERO,
                jitter: Duration::ZERO,
                times: Some(1),
            };
            all.push(Self::new(deed, schedule, one, start));
        }
        all.extend(group.latido.map(|span| {
            let schedule = Schedule {
                // Spread, so that many devices do not beat together.
                start: dice.vary(span.0 / 2, span.0 / 2),
                every: span.0,
                jitter: span.0 / 10,
                times: None,
            };
            Self::new(Deed::Beat, schedule, one, start)
        }));
        all
    }

    /// When it is next; `None` where it never is again.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether it waits for the replies of what it sent before.
    pub(super) const fn is_paced_by_replies(&self) -> bool {
        self.schedule.every.is_zero() && matches!(self.deed, Deed::Press(_))
    }

    /// Whether it has an end that is worth waiting for.
    pub(super) const fn is_endless(&self) -> bool {
        self.schedule.times.is_none()
    }

    /// Whether it is a heartbeat, which goes on beside everything else.
    pub(super) const fn is_heartbeat(&self) -> bool {
        matches!(self.deed, Deed::Beat)
    }

    /// Does it once: the deed, and the clockwork moves on. Late is made up for, so that a rate is
    /// kept on the whole.
    pub(super) fn fire(&mut self, dice: &mut Dice) -> Deed {
        if let Some(at) = self.next {
            self.next = self.after(at, dice);
        }
        self.deed.clone()
    }

    fn after(&mut self, at: Instant, dice: &mut Dice) -> Option<Instant> {
        self.in_burst = self.in_burst.saturating_sub(1);
        if self.in_burst > 0 {
            return Some(at + self.burst.1);
        }
        self.done += 1;
        self.in_burst = self.burst.0;
        if self.schedule.times.is_some_and(|times| self.done >= times) {
            return None;
        }
        self.began += self.schedule.every;
        // From the undisturbed beat: jitter must not add up.
        let early = self
            .began
            .checked_sub(self.schedule.jitter)
            .unwrap_or(self.began);
        Some(early + dice.vary(self.schedule.jitter, self.schedule.jitter))
    }
}

/// The heartbeat's content.
pub(super) fn heartbeat() -> Alert {
    Alert::of_kind(HEARTBEAT)
}

#[cfg(test)]
mod tests {
    use super::super::super::scenario::Scenario;
    use super::*;

    fn times(line: &str, count: usize) -> Vec<u128> {
        let text =
            format!("[[dispositivos]]\nhardware = \"b\"\nempresa = \"e\"\nsede = \"s\"\n{line}\n");
        let scenario = Scenario::parse(&text).unwrap();
        let start = Instant::now();
        let mut dice = Dice::new(1, 1);
        let mut all = Clockwork::of(&scenario.dispositivos[0], start, &mut dice);
        let clockwork = &mut all[0];
        let mut times = Vec::new();
        while let Some(next) = clockwork.next()
            && times.len() < count
        {
            times.push(next.duration_since(start).as_millis());
            clockwork.fire(&mut dice);
        }
        times
    }

    #[test]
    fn beats_are_even() {
        let line = "pulsar = [{ tipo_alarma = \"R\", desde = \"1s\", cada = \"2s\", veces = 3 }]";
        assert_eq!(times(line, 9), [1_000, 3_000, 5_000]);
        assert_eq!(times("pulsar = [{ tipo_alarma = \"R\" }]", 9), [0]);
        assert!(times("pulsar = [{ tipo_alarma = \"R\", veces = 0 }]", 9).is_empty());
    }

    #[test]
    fn bounces_come_in_bursts() {
        let line = "rebotar = [{ tipo_alarma = \"R\", pulsos = 3, en = \"30ms\", cada = \"1s\", veces = 2 }]";
        assert_eq!(times(line, 9), [0, 10, 20, 1_000, 1_010, 1_020]);
    }

    #[test]
    fn jitter_is_bounded_does_not_add_up_and_is_the_same_for_a_seed() {
        let line = "pulsar = [{ tipo_alarma = \"R\", cada = \"1s\", variacion = \"300ms\" }]";
        let times = times(line, 500);
        for (beat, &time) in times.iter().enumerate().skip(1) {
            let beat = beat as u128 * 1_000;
            assert!(
                (beat - 300..=beat + 300).contains(&time),
                "{time} at {beat}"
            );
        }
        assert_eq!(times, self::times(line, 500));
        assert!(times.windows(2).any(|pair| pair[1] - pair[0] != 1_000));
    }

    #[test]
    fn dice_differ_by_seed_and_by_device() {
        let roll = |seed, place| Dice::new(seed, place).below(u64::MAX);
        assert_eq!(roll(1, 1), roll(1, 1));
        assert_ne!(roll(1, 1), roll(1, 2));
        assert_ne!(roll(1, 1), roll(2, 1));
        assert_eq!(Dice::new(1, 1).below(0), 0);
    }
}
