//! What moving in comes to, for people and for programs: a line as soon as something is to be told,
//! and the totals at the end. Nothing is gathered meanwhile, however many lines there are.

use crate::domain::moving::{MovePlan, OldMovement};
use crate::domain::{AccountId, Money};
use crate::wire::numbers::Decimal;
use serde::Serialize;
use std::fmt;

/// An account whose old system does not add up.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Discrepancy {
    cedula: String,
    saldo: Decimal,
    historia: Decimal,
    ajuste_inicial: Option<Decimal>,
    ajuste_final: Option<Decimal>,
    detalle: String,
}

impl Discrepancy {
    /// What is to be told of `plan`, if anything.
    pub(super) fn of(
        account: &AccountId,
        plan: &MovePlan,
        history: &[OldMovement],
    ) -> Option<Self> {
        if plan.is_explained() && plan.contradiction.is_none() {
            return None;
        }
        let some = |money: Money| (money != Money::ZERO).then_some(Decimal(money));
        Some(Self {
            cedula: account.to_string(),
            saldo: Decimal(plan.balance),
            historia: Decimal(plan.explained),
            ajuste_inicial: some(plan.opening),
            ajuste_final: some(plan.closing),
            detalle: details(plan, history),
        })
    }
}

fn details(plan: &MovePlan, history: &[OldMovement]) -> String {
    let mut details = Vec::new();
    if history.is_empty() {
        details.push("sin historia".to_owned());
    }
    if plan.lowest < Money::ZERO {
        details.push(format!("la historia sola bajaría a {}", plan.lowest));
    }
    if plan.closing < Money::ZERO {
        let text = if plan.opening > Money::ZERO {
            "el ajuste inicial evita un saldo negativo y el final lleva al saldo"
        } else {
            "la historia suma más que el saldo"
        };
        details.push(text.to_owned());
    }
    if let Some(found) = plan.contradiction {
        let id = history.get(found.index).map_or("", |row| row.id.as_str());
        let more = match found.count {
            1 => String::new(),
            count => format!(" (y {} más)", count - 1),
        };
        details.push(format!(
            "transacciones {id}: saldo_final {} donde sigue {}{more}",
            found.stated, found.follows
        ));
    }
    details.join("; ")
}

/// The heading of the lines of discrepancies.
pub(super) const HEADING: &str = "cédula                          saldo         historia   ajuste inicial     ajuste final  detalle";

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = |money: Option<Decimal>| match money {
            None => "-".to_owned(),
            Some(Decimal(money)) if money > Money::ZERO => format!("+{money}"),
            Some(Decimal(money)) => money.to_string(),
        };
        let Self {
            cedula,
            saldo,
            historia,
            ajuste_inicial,
            ajuste_final,
            detalle,
        } = self;
        let (saldo, historia) = (saldo.0.to_string(), historia.0.to_string());
        let (before, after) = (signed(*ajuste_inicial), signed(*ajuste_final));
        write!(
            f,
            "{cedula:<20} {saldo:>16} {historia:>16} {before:>16} {after:>16}  {detalle}"
        )
    }
}

/// An account, or rows, that cannot be moved in.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    /// The account, as it is safe to show.
    pub(super) cedula: String,
    /// Why.
    pub(super) rechazo: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RECHAZADA {}: {}", self.cedula, self.rechazo)
    }
}

/// Counts of what was moved in, or would be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) completo: bool,
    pub(super) simulacion: bool,
    /// Rows of `clientes`.
    pub(super) clientes: u64,
    pub(super) cuentas_traidas: u64,
    pub(super) cuentas_ya_estaban: u64,
    pub(super) rechazos: u64,
    pub(super) movimientos_traidos: u64,
    pub(super) movimientos_ya_estaban: u64,
    pub(super) cuentas_con_discrepancias: u64,
    pub(super) ajustes_iniciales: u64,
    pub(super) ajustes_finales: u64,
    pub(super) cifras_redondeadas: u64,
    /// Of the accounts that are in, in cents: wider than any sum of balances.
    #[serde(serialize_with = "decimal")]
    pub(super) total_saldos: i128,
    #[serde(serialize_with = "decimal")]
    pub(super) total_ajustes: i128,
}

fn decimal<S: serde::Serializer>(cents: &i128, to: S) -> Result<S::Ok, S::Error> {
    match i64::try_from(*cents) {
        Ok(cents) => Decimal(Money::from_cents(cents)).serialize(to),
        Err(_) => to.serialize_none(),
    }
}

/// Cents as an amount of money, however many.
fn wide(cents: i128) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

impl Totals {
    /// Counts an account that is in, or would be.
    pub(super) fn account(&mut self, plan: &MovePlan, is_new: bool) {
        *(if is_new {
            &mut self.cuentas_traidas
        } else {
            &mut self.cuentas_ya_estaban
        }) += 1;
        self.ajustes_iniciales += u64::from(plan.opening != Money::ZERO);
        self.ajustes_finales += u64::from(plan.closing != Money::ZERO);
        self.total_saldos += i128::from(plan.balance.cents());
        self.total_ajustes += i128::from(plan.opening.cents()) + i128::from(plan.closing.cents());
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Clientes: {}", self.clientes)?;
        writeln!(
            f,
            "Cuentas traídas: {} (ya estaban completas: {})",
            self.cuentas_traidas, self.cuentas_ya_estaban
        )?;
        writeln!(
            f,
            "Movimientos traídos: {} (ya estaban: {})",
            self.movimientos_traidos, self.movimientos_ya_estaban
        )?;
        writeln!(
            f,
            "Cuentas con discrepancias: {} (ajustes iniciales: {}, finales: {}, en total {})",
            self.cuentas_con_discrepancias,
            self.ajustes_iniciales,
            self.ajustes_finales,
            wide(self.total_ajustes)
        )?;
        if self.cifras_redondeadas > 0 {
            writeln!(
                f,
                "Cifras DOUBLE llevadas al centavo más cercano: {}",
                self.cifras_redondeadas
            )?;
        }
        writeln!(f, "Rechazos: {}", self.rechazos)?;
        writeln!(f, "Total de saldos: {}", wide(self.total_saldos))?;
        write!(
            f,
            "{}",
            match (self.completo, self.simulacion) {
                (_, true) => "Simulación: no se cambió nada",
                (true, false) => "Mudanza completa",
                (false, false) => "Mudanza incompleta",
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::moving::plan;
    use crate::domain::{Amount, IdempotencyKey, PostingKind};

    fn deposit(cents: i64, stated: Option<i64>) -> OldMovement {
        OldMovement {
            id: "7".to_owned(),
            key: IdempotencyKey::parse("k").unwrap(),
            kind: PostingKind::Deposit,
            amount: Amount::from_cents(cents).unwrap(),
            day: 0,
            stated: stated.map(Money::from_cents),
        }
    }

    fn told(balance: i64, history: &[OldMovement]) -> Option<String> {
        let account = AccountId::parse("1350509525").unwrap();
        let plan = plan(Money::from_cents(balance), history, 0).unwrap();
        Discrepancy::of(&account, &plan, history).map(|found| found.to_string())
    }

    #[test]
    fn figures_stand_under_their_headings() {
        let line = told(15_000, &[deposit(20_000, None)]).unwrap();
        assert!(
            line.ends_with("  la historia suma más que el saldo"),
            "{line}"
        );
        for (heading, figure) in [
            ("saldo", "150.00"),
            ("historia", "200.00"),
            ("ajuste inicial", "-"),
            ("ajuste final", "-50.00"),
        ] {
            let end = |text: &str, part: &str| {
                let start = text.find(&format!(" {part} ")).unwrap();
                text[..=start].chars().count() + part.chars().count()
            };
            assert_eq!(end(HEADING, heading), end(&line, figure), "{heading}");
        }
    }

    #[test]
    fn what_adds_up_is_not_told() {
        assert_eq!(told(20_000, &[deposit(20_000, Some(20_000))]), None);
        let line = told(20_000, &[deposit(20_000, Some(1))]).unwrap();
        assert!(line.contains("transacciones 7: saldo_final 0.01 donde sigue 200.00"));
        assert!(told(1, &[]).unwrap().contains("sin historia"));
    }

    #[test]
    fn sums_are_wider_than_any_balance() {
        assert_eq!(wide(-5), "-0.05");
        assert_eq!(wide(i128::from(i64::MAX) * 100), "9223372036854775807.00");
        let totals = Totals {
            total_saldos: i128::MAX,
            ..Totals::default()
        };
        let json = serde_json::to_value(&totals).unwrap();
        assert!(json["total_saldos"].is_null());
    }
}
