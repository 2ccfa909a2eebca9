//! What a device does because of what it hears: a table of conditions. Pure.

use super::super::reply::{Order, Reply};
use super::super::scenario::{Group, OnOrder, OnReply, Reaction};
use std::collections::BTreeSet;

/// Alerts for which one device may be on; beyond that it stays on and stops counting.
const MAX_LIT: usize = 1_000;

/// The reflexes of one device, and what it has heard so far.
#[derive(Debug)]
pub(super) struct Reflexes {
    to_orders: Vec<OnOrder>,
    to_replies: Vec<OnReply>,
    orders: u64,
    replies: u64,
    lit: BTreeSet<String>,
}

impl Reflexes {
    /// The reflexes of a device of `group`.
    pub(super) fn new(group: &Group) -> Self {
        Self {
            to_orders: group.al_comando.clone(),
            to_replies: group.al_responder.clone(),
            orders: 0,
            replies: 0,
            lit: BTreeSet::new(),
        }
    }

    /// What to do about an order: every condition that holds, in the order of the file.
    pub(super) fn order(&mut self, order: &Order) -> Vec<Reaction> {
        self.orders += 1;
        let holds = |on: &&OnOrder| {
            is(on.accion.as_deref(), order.text("accion"))
                && is(on.tipo_alarma.as_deref(), order.text("tipo_alarma"))
                && on.numero.is_none_or(|number| number == self.orders)
        };
        let held = self.to_orders.iter().filter(holds);
        held.map(|on| on.hacer.clone()).collect()
    }

    /// What to do about the reply to a message of kind `kind`.
    pub(super) fn reply(&mut self, reply: &Reply, kind: &str) -> Vec<Reaction> {
        self.replies += 1;
        let holds = |on: &&OnReply| {
            on.estado.is_none_or(|verdict| verdict == reply.estado)
                && is(on.motivo.as_deref(), reply.motivo.as_deref())
                && is(on.tipo_alarma.as_deref(), Some(kind))
                && on.numero.is_none_or(|number| number == self.replies)
        };
        let held = self.to_replies.iter().filter(holds);
        held.map(|on| on.hacer.clone()).collect()
    }

    /// Switches on for an alert; whether that changes anything.
    pub(super) fn light(&mut self, alert: &str) -> bool {
        let was_dark = self.lit.is_empty();
        if self.lit.len() < MAX_LIT {
            self.lit.insert(alert.to_owned());
        }
        was_dark
    }

    /// Switches off for an alert; whether it is dark now and was not before.
    pub(super) fn darken(&mut self, alert: &str) -> bool {
        self.lit.remove(alert) && self.lit.is_empty()
    }

    /// Whether it is on for any alert.
    pub(super) fn is_lit(&self) -> bool {
        !self.lit.is_empty()
    }
}

/// Whether a condition holds; one that is not there always does.
fn is(wanted: Option<&str>, found: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| found == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::super::super::scenario::Scenario;
    use super::*;
    use Reaction::{Apagar, Avisar, Detener, Encender};

    fn reflexes(lines: &str) -> Reflexes {
        let text =
            format!("[[dispositivos]]\nhardware = \"b\"\nempresa = \"e\"\nsede = \"s\"\n{lines}\n");
        Reflexes::new(&Scenario::parse(&text).unwrap().dispositivos[0])
    }

    fn order(json: &str) -> Order {
        Order::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn orders_meet_their_conditions() {
        let mut reflexes = reflexes(
            "al_comando = [{ accion = \"ENCENDER\", hacer = \"encender\" }, \
             { accion = \"ENCENDER\", tipo_alarma = \"ROJO\", hacer = \"avisar\" }, \
             { tipo_alarma = \"NORMAL\", hacer = \"apagar\" }, { numero = 5, hacer = \"detener\" }]",
        );
        for (json, expected) in [
            (
                r#"{"accion":"ENCENDER","tipo_alarma":"ROJO"}"#,
                vec![Encender, Avisar],
            ),
            (
                r#"{"accion":"ENCENDER","tipo_alarma":"AZUL"}"#,
                vec![Encender],
            ),
            (r#"{"accion":"APAGAR","tipo_alarma":"ROJO"}"#, vec![]),
            (r#"{"tipo_alarma":"NORMAL"}"#, vec![Apagar]),
            (r#"{"accion":1}"#, vec![Detener]),
            (r#"{"accion":1}"#, vec![]),
        ] {
            assert_eq!(reflexes.order(&order(json)), expected, "{json}");
        }
    }

    #[test]
    fn replies_meet_their_conditions() {
        let mut reflexes = reflexes(
            "al_responder = [{ estado = \"RECHAZADA\", motivo = \"FECHA\", hacer = \"avisar\" }, \
             { estado = \"RECHAZADA\", hacer = \"detener\" }, \
             { numero = 3, tipo_alarma = \"ROJO\", hacer = \"encender\" }]",
        );
        for (verdict, reason, kind, expected) in [
            ("ACEPTADA", "null", "ROJO", vec![]),
            ("RECHAZADA", "\"FECHA\"", "ROJO", vec![Avisar, Detener]),
            ("ACEPTADA", "null", "ROJO", vec![Encender]),
            ("RECHAZADA", "\"TIPO\"", "ROJO", vec![Detener]),
        ] {
            let json = format!(
                r#"{{"alerta_id":null,"estado":"{verdict}","motivo":{reason},"huella":""}}"#
            );
            let reply = Reply::parse(json.as_bytes()).unwrap();
            assert_eq!(reflexes.reply(&reply, kind), expected, "{json}");
        }
    }

    #[test]
    fn it_is_off_once_it_is_off_for_all() {
        let mut reflexes = reflexes("");
        assert!(reflexes.light("a"));
        assert!(!reflexes.light("b") && !reflexes.light("a"));
        assert!(!reflexes.darken("a") && reflexes.is_lit());
        assert!(!reflexes.darken("x"));
        assert!(reflexes.darken("b") && !reflexes.is_lit());
    }
}
