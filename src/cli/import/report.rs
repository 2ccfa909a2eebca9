//! What an import came to, for people and for programs.

use super::courier::Stopped;
use super::plan::{AccountPlan, Movement};
use super::verdict::Refusal;
use crate::domain::{AccountId, Money};
use crate::wire::events::kind_name;
use crate::wire::numbers::Decimal;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How many refused movements of one kind are shown.
const EXAMPLES: usize = 5;

/// Counts what was decided.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: u64,
    already: u64,
    opened: u64,
    existing: u64,
    refused: BTreeMap<String, Refused>,
    /// Accepted deposits less accepted withdrawals, in cents: wider than any sum of amounts.
    net: i128,
}

#[derive(Debug, Default)]
struct Refused {
    count: u64,
    examples: Vec<Example>,
}

/// A refused movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Example {
    linea: u64,
    cedula: String,
    fecha: String,
    tipo: &'static str,
    monto: Decimal,
    detalle: String,
}

impl Tally {
    /// A movement is in the ledger, since an earlier run if `already`.
    pub(super) fn accept(&mut self, movement: &Movement, already: bool) {
        let cents = i128::from(movement.amount.cents());
        self.net += if movement.kind.is_credit() {
            cents
        } else {
            -cents
        };
        self.accepted += 1;
        self.already += u64::from(already);
    }

    /// A movement of `account` will never be in the ledger.
    pub(super) fn refuse(&mut self, account: &AccountId, movement: &Movement, why: &Refusal) {
        let refused = self.refused.entry(why.code.clone()).or_default();
        refused.count += 1;
        refused.examples.push(example(account, movement, why));
        // The first of the file, not the first to be answered: the same in every run.
        refused.examples.sort_by_key(|example| example.linea);
        refused.examples.truncate(EXAMPLES);
    }

    /// No movement of `account` will ever be in the ledger.
    pub(super) fn refuse_all(&mut self, account: &AccountPlan, why: &Refusal) {
        for movement in &account.movements {
            self.refuse(&account.id, movement, why);
        }
    }

    /// An account is there, since before this run if `already`.
    pub(super) fn open(&mut self, already: bool) {
        *(if already {
            &mut self.existing
        } else {
            &mut self.opened
        }) += 1;
    }

    fn refused(&self) -> u64 {
        self.refused.values().map(|refused| refused.count).sum()
    }
}

fn example(account: &AccountId, movement: &Movement, why: &Refusal) -> Example {
    Example {
        linea: movement.line,
        cedula: account.to_string(),
        fecha: movement.date(),
        tipo: kind_name(movement.kind),
        monto: Decimal(movement.amount.money()),
        detalle: why.detail.clone(),
    }
}

/// The summary of an import: `Display` is for people, `Serialize` for programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    completo: bool,
    error: Option<String>,
    movimientos: u64,
    aceptados: u64,
    ya_estaban: u64,
    rechazados: u64,
    rechazos: Vec<Rejections>,
    cuentas_abiertas: u64,
    cuentas_existentes: u64,
    neto_archivo: Option<Decimal>,
    total_saldos: Option<Decimal>,
}

#[derive(Debug, Serialize)]
struct Rejections {
    codigo: String,
    cantidad: u64,
    ejemplos: Vec<Example>,
}

impl Summary {
    /// The summary of a plan of `movements`, with the total of balances or why there is none.
    pub(super) fn new(movements: u64, tally: Tally, total: &Result<Money, Stopped>) -> Self {
        let rechazados = tally.refused();
        let rejections = |(codigo, refused): (String, Refused)| Rejections {
            codigo,
            cantidad: refused.count,
            ejemplos: refused.examples,
        };
        Self {
            completo: total.is_ok(),
            error: total.as_ref().err().map(ToString::to_string),
            movimientos: movements,
            aceptados: tally.accepted,
            ya_estaban: tally.already,
            rechazados,
            rechazos: tally.refused.into_iter().map(rejections).collect(),
            cuentas_abiertas: tally.opened,
            cuentas_existentes: tally.existing,
            neto_archivo: i64::try_from(tally.net)
                .ok()
                .map(Money::from_cents)
                .map(Decimal),
            total_saldos: total.as_ref().ok().copied().map(Decimal),
        }
    }

    /// Whether every movement was decided and every balance read.
    pub(super) const fn is_complete(&self) -> bool {
        self.completo
    }

    fn write_rejections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in &self.rechazos {
            writeln!(f, "  {}: {}", kind.codigo, kind.cantidad)?;
            for example in &kind.ejemplos {
                let Example {
                    linea,
                    cedula,
                    fecha,
                    tipo,
                    monto,
                    detalle,
                } = example;
                let monto = monto.0;
                writeln!(
                    f,
                    "    línea {linea}: {cedula} {fecha} {tipo} {monto} ({detalle})"
                )?;
            }
            let more = kind.cantidad.saturating_sub(EXAMPLES as u64);
            if more > 0 {
                writeln!(f, "    … y {more} más")?;
            }
        }
        Ok(())
    }

    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Decimal(total)) = self.total_saldos else {
            return write!(f, "Importación incompleta");
        };
        write!(f, "Total de saldos: {total}")?;
        match self.neto_archivo {
            Some(Decimal(net)) if net != total => write!(
                f,
                "\nEste archivo suma {net}: sus cuentas tienen además otros movimientos"
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Movimientos: {}", self.movimientos)?;
        writeln!(
            f,
            "Aceptados: {} (de ellos ya estaban: {})",
            self.aceptados, self.ya_estaban
        )?;
        writeln!(f, "Rechazados: {}", self.rechazados)?;
        self.write_rejections(f)?;
        let pending = self
            .movimientos
            .saturating_sub(self.aceptados + self.rechazados);
        if pending > 0 {
            writeln!(f, "Pendientes: {pending}")?;
        }
        let (opened, existing) = (self.cuentas_abiertas, self.cuentas_existentes);
        writeln!(f, "Cuentas abiertas: {opened} (ya existían: {existing})")?;
        self.write_totals(f)
    }
}
