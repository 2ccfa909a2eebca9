//! Which messages are news: the filter by account, and one line for each event however many
//! topics carry it and however often it is repeated. Pure.

use super::format::{Line, Notice, json_line};
use super::hub::Hub;
use crate::cli::text::Shown;
use crate::domain::AccountId;
use crate::wire::topics;
use std::collections::{HashSet, VecDeque};

/// Lines that are remembered. A repeat follows its original within one reconnection of the
/// publisher, which has far fewer messages in flight; a movement takes up to three places.
const MEMORY: usize = 30_000;
/// Bytes of an id that is remembered: a UUID has 36. Longer ones are nobody's, and remembering
/// them would let a stranger fill our memory.
const MAX_ID: usize = 64;

/// One message from the broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// Where it was published.
    pub(super) topic: &'a str,
    /// What was published.
    pub(super) payload: &'a [u8],
    /// Whether the broker had kept it from before we subscribed.
    pub(super) retained: bool,
}

/// What has been shown and what is to be shown.
#[derive(Debug)]
pub(super) struct View {
    json: bool,
    account: Option<AccountId>,
    /// `banco/transacciones` is subscribed to, so the same movement on its other topic is no news.
    transactions: bool,
    /// No movement is subscribed to, so a new balance is news.
    live_balances: bool,
    recent: Recent,
}

impl View {
    /// A view of what `filters` let through: every message as JSON, or lines for people; of one
    /// account or of all.
    pub(super) fn new(json: bool, account: Option<AccountId>, filters: &[String]) -> Self {
        let covers = |topic: &str| filters.iter().any(|filter| covers(filter, topic));
        let movements = [
            topics::TRANSACTIONS,
            topics::DEPOSITS,
            topics::WITHDRAWALS,
            topics::TRANSFERS,
        ];
        Self {
            json,
            account,
            transactions: covers(topics::TRANSACTIONS),
            live_balances: !movements.into_iter().any(covers),
            recent: Recent::new(MEMORY),
        }
    }

    /// The line that this message is worth, if any.
    pub(super) fn line(&mut self, message: &Message<'_>) -> Option<Line> {
        let Message {
            topic,
            payload,
            retained,
        } = *message;
        let notice = Notice::read(topic, payload);
        if self
            .account
            .as_ref()
            .is_some_and(|account| !concerns(&notice, topic, account))
        {
            return None;
        }
        if self.json {
            return Some(json_line(topic, payload, retained));
        }
        let news = self.is_news(&notice, topic, retained) && self.recent.admit(&notice);
        news.then(|| notice.line(topic, payload))
    }

    /// Whether another line does not already say it, now or soon.
    fn is_news(&self, notice: &Notice, topic: &str, retained: bool) -> bool {
        match notice {
            // With an id the first of the two topics is shown, whichever the broker lets us see;
            // without one only the topic can tell them apart.
            Notice::Deposit(body) | Notice::Withdrawal(body) => {
                body.tx_id.is_some() || !self.transactions || topic == topics::TRANSACTIONS
            }
            Notice::Balance(..) => retained || self.live_balances,
            _ => true,
        }
    }
}

/// Whether a message on `topic` comes through `filter`, a shared subscription included.
fn covers(filter: &str, topic: &str) -> bool {
    let shared = filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'));
    rumqttc::matches(topic, shared.map_or(filter, |(_, filter)| filter))
}

fn concerns(notice: &Notice, topic: &str, account: &AccountId) -> bool {
    let is = |cedula: &Shown| cedula.as_str() == account.as_str();
    match notice {
        Notice::Deposit(body) | Notice::Withdrawal(body) => is(&body.cedula),
        Notice::Transfer(body) => is(&body.cedula_origen) || is(&body.cedula_destino),
        Notice::Alert(body) => is(&body.cedula),
        Notice::Balance(of, _) => of == account,
        Notice::Statistics(_) | Notice::Presence(_) | Notice::Hub(_) => false,
        Notice::Other => topics::account_of(topic).as_ref() == Some(account),
    }
}

/// What a line is about; the same `tx_id` may rightly have a line of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Deposit,
    Withdrawal,
    Transfer,
    Alert,
    Balance,
    Hub,
}

/// A line by its subject, `tx_id` and account; or by its alert and what happened to it when.
type Key = (Subject, String, String);

/// The last lines shown, oldest first, within a bound.
#[derive(Debug)]
struct Recent {
    limit: usize,
    order: VecDeque<Key>,
    known: HashSet<Key>,
}

impl Recent {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            order: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Whether `notice` is new; what has no id always is.
    fn admit(&mut self, notice: &Notice) -> bool {
        let mut keys = keys(notice).into_iter();
        let new = keys.next().is_none_or(|first| self.remember(first));
        if new {
            for implied in keys {
                self.remember(implied);
            }
        }
        new
    }

    /// Whether it was not known before.
    fn remember(&mut self, key: Key) -> bool {
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The key of a notice's own line, then those of the balances that its line says as well: the
/// broker sends retained ones again at every reconnection.
fn keys(notice: &Notice) -> Vec<Key> {
    use Subject::{Alert, Balance, Deposit, Transfer, Withdrawal};
    let (tx_id, subjects) = match notice {
        Notice::Deposit(b) => (
            &b.tx_id,
            vec![(Deposit, b.cedula.as_str()), (Balance, b.cedula.as_str())],
        ),
        Notice::Withdrawal(b) => (
            &b.tx_id,
            vec![
                (Withdrawal, b.cedula.as_str()),
                (Balance, b.cedula.as_str()),
            ],
        ),
        Notice::Transfer(b) => {
            let (from, to) = (b.cedula_origen.as_str(), b.cedula_destino.as_str());
            (
                &b.tx_id,
                vec![(Transfer, from), (Balance, from), (Balance, to)],
            )
        }
        Notice::Alert(b) => (&b.tx_id, vec![(Alert, b.cedula.as_str())]),
        Notice::Balance(account, b) => (&b.tx_id, vec![(Balance, account.as_str())]),
        Notice::Hub(Hub::Alert(news)) => {
            let step = format!("{}{}", news.cambio, news.timestamp);
            let (alert, fits) = (news.alerta_id.as_str(), step.len() <= MAX_ID);
            let key = (Subject::Hub, alert.to_owned(), step);
            return if fits && alert.len() <= MAX_ID {
                vec![key]
            } else {
                Vec::new()
            };
        }
        Notice::Hub(_) | Notice::Statistics(_) | Notice::Presence(_) | Notice::Other => {
            return Vec::new();
        }
    };
    let Some(tx_id) = tx_id.as_ref().map(Shown::as_str) else {
        return Vec::new();
    };
    if tx_id.len() > MAX_ID || subjects.iter().any(|(_, account)| account.len() > MAX_ID) {
        return Vec::new();
    }
    subjects
        .into_iter()
        .map(|(s, account)| (s, tx_id.to_owned(), account.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&str] = &["banco/#", "atalaya/estado", "empresas/#"];

    fn view(filters: &[&str], account: Option<&str>) -> View {
        let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
        View::new(
            false,
            account.map(|a| AccountId::parse(a).unwrap()),
            &filters,
        )
    }

    fn shows(view: &mut View, topic: &str, payload: &str, retained: bool) -> bool {
        view.line(&Message {
            topic,
            payload: payload.as_bytes(),
            retained,
        })
        .is_some()
    }

    fn movement(kind: &str, tx_id: &str) -> String {
        format!(
            r#"{{"cedula":"1","tipo":"{kind}","monto":5.00,"saldo_nuevo":9.00{}}}"#,
            id(tx_id)
        )
    }

    fn balance(tx_id: &str) -> String {
        format!(
            r#"{{"cedula":"1","saldo_nuevo":9.00,"saldo_anterior":4.00{}}}"#,
            id(tx_id)
        )
    }

    fn transfer(tx_id: &str) -> String {
        let tx_id = id(tx_id);
        format!(
            r#"{{"cedula_origen":"1","cedula_destino":"2","monto":1.00,"saldo_origen":8.00,"saldo_destino":1.00{tx_id}}}"#
        )
    }

    fn id(tx_id: &str) -> String {
        if tx_id.is_empty() {
            String::new()
        } else {
            format!(r#","tx_id":"{tx_id}""#)
        }
    }

    #[test]
    fn one_deposit_one_line_in_any_order() {
        let topics = ["banco/transacciones", "banco/depositos", "banco/saldo/1"];
        for first in 0..3 {
            let mut view = view(ALL, None);
            let mut lines = 0;
            // Twice round: at-least-once repeats are no news either.
            for step in 0..6 {
                let topic = topics[(first + step) % 3];
                let payload = if topic == "banco/saldo/1" {
                    balance("a")
                } else {
                    movement("DEPOSITO", "a")
                };
                lines += usize::from(shows(&mut view, topic, &payload, false));
            }
            assert_eq!(lines, 1, "starting with {}", topics[first]);
        }
    }

    #[test]
    fn without_an_id_the_topic_decides() {
        let mut all = view(ALL, None);
        assert!(shows(
            &mut all,
            "banco/transacciones",
            &movement("RETIRO", ""),
            false
        ));
        assert!(!shows(
            &mut all,
            "banco/retiros",
            &movement("RETIRO", ""),
            false
        ));
        let mut one = view(&["banco/retiros"], None);
        assert!(shows(
            &mut one,
            "banco/retiros",
            &movement("RETIRO", ""),
            false
        ));
        assert!(shows(
            &mut one,
            "banco/retiros",
            &movement("RETIRO", ""),
            false
        ));
    }

    #[test]
    fn one_tx_id_has_a_line_of_each_subject() {
        let mut view = view(ALL, None);
        let alert = r#"{"type":"LOW_BALANCE","message":"m","cedula":"1","tx_id":"a"}"#;
        assert!(shows(
            &mut view,
            "banco/transacciones",
            &movement("RETIRO", "a"),
            false
        ));
        assert!(shows(&mut view, "banco/alertas", alert, false));
        assert!(!shows(&mut view, "banco/alertas", alert, false));
        assert!(shows(
            &mut view,
            "banco/transferencias",
            &transfer("b"),
            false
        ));
        assert!(!shows(
            &mut view,
            "banco/transferencias",
            &transfer("b"),
            false
        ));
    }

    #[test]
    fn a_step_of_an_alert_is_told_once() {
        let mut view = view(ALL, None);
        let step = |change: &str, at: &str| {
            format!(
                r#"{{"alerta_id":"a","cambio":"{change}","estado":"NUEVA","empresa":"e","sede":"s","hardware":"h","tipo_alarma":"ROJO","prioridad":"alta","timestamp":"{at}"}}"#
            )
        };
        for (change, at, news) in [
            ("CREADA", "1", true),
            ("CREADA", "1", false),
            ("REPETIDA", "2", true),
            ("REPETIDA", "3", true),
            ("REPETIDA", "2", false),
        ] {
            let shown = shows(&mut view, "empresas/e/alertas", &step(change, at), false);
            assert_eq!(shown, news, "{change} {at}");
        }
    }

    #[test]
    fn balances_are_news_when_nothing_else_says_them() {
        let mut all = view(ALL, None);
        assert!(!shows(&mut all, "banco/saldo/1", &balance("a"), false));
        assert!(shows(&mut all, "banco/saldo/1", &balance("b"), true));
        assert!(
            !shows(&mut all, "banco/saldo/1", &balance("b"), true),
            "after a reconnection"
        );
        shows(&mut all, "banco/transferencias", &transfer("c"), false);
        for topic in ["banco/saldo/1", "banco/saldo/2"] {
            assert!(
                !shows(&mut all, topic, &balance("c"), true),
                "the transfer's line said it"
            );
        }

        let mut alone = view(&["banco/saldo/#"], None);
        assert!(shows(&mut alone, "banco/saldo/1", &balance("a"), false));
        assert!(
            shows(&mut alone, "banco/saldo/2", &balance("a"), false),
            "the other half"
        );
        assert!(!shows(&mut alone, "banco/saldo/1", &balance("a"), false));
    }

    #[test]
    fn one_account_alone() {
        let mut view = view(ALL, Some("2"));
        assert!(!shows(
            &mut view,
            "banco/transacciones",
            &movement("DEPOSITO", "a"),
            false
        ));
        assert!(shows(
            &mut view,
            "banco/transferencias",
            &transfer("b"),
            false
        ));
        assert!(shows(&mut view, "banco/saldo/2", &balance("c"), true));
        assert!(shows(&mut view, "banco/saldo/2", "", false));
        assert!(!shows(&mut view, "empresas/e/s/h/estado", "{}", false));
        assert!(!shows(
            &mut view,
            "atalaya/estado",
            r#"{"estado":"en_linea","nodo":"n"}"#,
            true
        ));
    }

    #[test]
    fn programs_get_every_message() {
        let mut view = View::new(true, None, &["banco/#".to_owned()]);
        for topic in ["banco/transacciones", "banco/depositos", "banco/saldo/1"] {
            assert!(shows(&mut view, topic, &movement("DEPOSITO", "a"), false));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::new(2);
        let key = |id: &str| (Subject::Alert, id.to_owned(), "1".to_owned());
        assert!(
            recent.remember(key("a")) && recent.remember(key("b")) && recent.remember(key("c"))
        );
        assert_eq!((recent.order.len(), recent.known.len()), (2, 2));
        assert!(!recent.remember(key("c")));
        assert!(recent.remember(key("a")), "forgotten");

        let huge = "x".repeat(MAX_ID + 1);
        let mut view = view(ALL, None);
        shows(
            &mut view,
            "banco/transacciones",
            &movement("DEPOSITO", &huge),
            false,
        );
        assert!(view.recent.known.is_empty());
    }

    #[test]
    fn shared_filters_cover_too() {
        assert!(covers("$share/g/banco/#", "banco/retiros"));
        assert!(covers("#", "banco/retiros"));
        assert!(!covers("banco/saldo/#", "banco/retiros"));
    }
}
