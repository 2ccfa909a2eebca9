//! What `atalaya monitor` is told on its command line and by its environment.

use crate::cli::broker::BrokerArgs;
use crate::cli::token::TokenArgs;
use crate::domain::AccountId;
use std::num::NonZeroU64;

/// The bank, Atalaya's presence, and the alerts and the presence of hardware of every company. What
/// devices send is signed and not for people to read, and what they are told is for them.
const DEFAULT_FILTERS: [&str; 4] = [
    "banco/#",
    "atalaya/estado",
    "empresas/+/alertas",
    "empresas/+/+/+/estado",
];

/// Arguments of `atalaya monitor`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MonitorArgs {
    /// MQTT filters to show [default: banco/# atalaya/estado empresas/+/alertas empresas/+/+/+/estado]
    ///
    /// Live balances (banco/saldo/…) are shown only where no filter includes the movements, whose
    /// lines already say the new balance.
    #[arg(value_name = "FILTER", value_parser = filter)]
    filters: Vec<String>,

    /// One more filter, the same as a positional one; repeatable
    #[arg(short, long = "topic", value_name = "FILTER", value_parser = filter)]
    topics: Vec<String>,

    /// Show only what concerns this account
    #[arg(long, value_parser = AccountId::parse)]
    pub(super) cedula: Option<AccountId>,

    /// Print every message, repeats included, as a JSON object a line: tema, retenido, datos
    #[arg(long)]
    pub(super) json: bool,

    /// Exit after this many lines
    #[arg(long, value_name = "N")]
    pub(super) count: Option<NonZeroU64>,

    #[command(flatten)]
    pub(super) token: TokenArgs,

    #[command(flatten)]
    pub(super) broker: BrokerArgs,
}

impl MonitorArgs {
    /// The filters to subscribe to.
    pub(super) fn filters(&self) -> Vec<String> {
        let chosen: Vec<String> = self.filters.iter().chain(&self.topics).cloned().collect();
        if chosen.is_empty() {
            DEFAULT_FILTERS.map(str::to_owned).into()
        } else {
            chosen
        }
    }
}

fn filter(text: &str) -> Result<String, String> {
    // MQTT 5, 1.5.4 and 4.7.3: no NUL, at most 65,535 bytes.
    let fine = rumqttc::valid_filter(text) && !text.contains('\0') && text.len() <= 65_535;
    if fine {
        Ok(text.to_owned())
    } else {
        Err("not an MQTT filter like banco/#".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: MonitorArgs,
    }

    fn parse(flags: &[&str]) -> Result<MonitorArgs, clap::Error> {
        let words = std::iter::once("monitor").chain(flags.iter().copied());
        Wrapper::try_parse_from(words).map(|wrapper| wrapper.args)
    }

    #[test]
    fn filters_by_place_and_by_flag() {
        assert_eq!(parse(&[]).unwrap().filters(), DEFAULT_FILTERS);
        let args = parse(&["banco/#", "--topic", "a/+", "-t", "b"]).unwrap();
        assert_eq!(args.filters(), ["banco/#", "a/+", "b"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for flags in [["--topic", "a/#/b"], ["--cedula", "12a"], ["--count", "0"]] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
    }
}
