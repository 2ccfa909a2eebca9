//! What an answer of the API means for an import. Pure: no network, no clock.

use crate::cli::api::{Again, Answer};
use crate::domain::Money;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Refusals that are known to be decisions under the key.
const DECISIONS: [&str; 3] = ["saldo_insuficiente", "saldo_excedido", "cuenta_no_existe"];

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// It is decided.
    Done(T),
    /// Ask again, with the same key.
    Again(Again),
    /// There is no use in going on: the import or the address is wrong.
    Stop(String),
}

/// What became of a movement or an opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is there.
    Accepted {
        /// It was there before this request.
        already: bool,
    },
    /// It will never be.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For programs.
    pub(super) code: String,
    /// For people.
    pub(super) detail: String,
}

/// The parts of a problem document that matter here.
#[derive(Deserialize)]
struct ProblemBody {
    codigo: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct AccountBody<'a> {
    // Raw, so that no float ever holds money.
    #[serde(borrow)]
    saldo: &'a RawValue,
}

/// Judges the answer to a deposit or a withdrawal.
pub(super) fn of_movement(reply: &Answer) -> Verdict<Decision> {
    if reply.status == 201 {
        return Verdict::Done(Decision::Accepted {
            already: reply.replayed,
        });
    }
    let Some(refusal) = refusal(reply) else {
        return other(reply);
    };
    match reply.status {
        // A refusal we do not know by name, or a first request still in flight under the key?
        // Asking again tells: what has been decided comes back marked as replayed.
        409 if !reply.replayed && !DECISIONS.contains(&refusal.code.as_str()) => {
            Verdict::Again(Again {
                after: reply.retry_after,
                reason: refusal.code,
                perhaps_done: true,
            })
        }
        409 | 422 => Verdict::Done(Decision::Refused(refusal)),
        404 if DECISIONS.contains(&refusal.code.as_str()) => {
            Verdict::Done(Decision::Refused(refusal))
        }
        _ => other(reply),
    }
}

/// Judges the answer to the opening of an account.
pub(super) fn of_opening(reply: &Answer) -> Verdict<Decision> {
    match (reply.status, refusal(reply)) {
        (201, _) => Verdict::Done(Decision::Accepted { already: false }),
        (409, Some(refusal)) if refusal.code == "cuenta_existe" => {
            Verdict::Done(Decision::Accepted { already: true })
        }
        // A cédula that this installation does not take (`CEDULA_CHECK`).
        (422, Some(refusal)) => Verdict::Done(Decision::Refused(refusal)),
        _ => other(reply),
    }
}

/// Judges the answer to a question for a balance.
pub(super) fn of_balance(reply: &Answer) -> Verdict<Money> {
    if reply.status != 200 {
        return other(reply);
    }
    let balance = serde_json::from_slice::<AccountBody<'_>>(&reply.body)
        .ok()
        .and_then(|body| Money::parse(body.saldo.get()).ok());
    match balance {
        Some(balance) => Verdict::Done(balance),
        None => Verdict::Stop("el servidor responde sin un saldo; ¿es Atalaya?".to_owned()),
    }
}

fn refusal(reply: &Answer) -> Option<Refusal> {
    let body: ProblemBody = serde_json::from_slice(&reply.body).ok()?;
    Some(Refusal {
        code: body.codigo,
        detail: body.detail,
    })
}

/// What is neither done nor refused: the server's trouble passes, ours does not.
fn other<T>(reply: &Answer) -> Verdict<T> {
    let code = refusal(reply).map_or_else(String::new, |r| format!(" {}", r.code));
    let reason = format!("HTTP {}{code}", reply.status);
    match reply.status {
        408 | 425 | 429 | 500.. => Verdict::Again(Again {
            after: reply.retry_after,
            reason,
            // The contract: a 503 is no decision. A proxy's 502 or a 500 may hide one.
            perhaps_done: !matches!(reply.status, 429 | 503),
        }),
        _ => {
            let detail = refusal(reply).map(|r| r.detail).filter(|d| !d.is_empty());
            let detail = detail.unwrap_or_else(|| "¿es esta la dirección de Atalaya?".to_owned());
            Verdict::Stop(format!(
                "respuesta inesperada del servidor: {reason}: {detail}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn reply(status: u16, replayed: bool, body: &'static str) -> Answer {
        Answer {
            status,
            replayed,
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn refused(code: &str) -> Verdict<Decision> {
        Verdict::Done(Decision::Refused(Refusal {
            code: code.into(),
            detail: String::new(),
        }))
    }

    #[test]
    fn overdrafts_and_bad_input_are_final() {
        let overdraft = r#"{"codigo":"saldo_insuficiente","saldo":1.00}"#;
        assert_eq!(
            of_movement(&reply(409, false, overdraft)),
            refused("saldo_insuficiente")
        );
        let unknown = r#"{"codigo":"cuenta_no_existe"}"#;
        assert_eq!(
            of_movement(&reply(404, false, unknown)),
            refused("cuenta_no_existe")
        );
        let date = r#"{"codigo":"fecha_invalida"}"#;
        assert_eq!(
            of_movement(&reply(422, false, date)),
            refused("fecha_invalida")
        );
    }

    #[test]
    fn a_conflict_without_a_name_is_final_once_it_is_replayed() {
        let frozen = r#"{"codigo":"sede_congelada"}"#;
        let first = of_movement(&reply(409, false, frozen));
        assert!(
            matches!(
                first,
                Verdict::Again(Again {
                    perhaps_done: true,
                    ..
                })
            ),
            "{first:?}"
        );
        assert_eq!(
            of_movement(&reply(409, true, frozen)),
            refused("sede_congelada")
        );
    }

    #[test]
    fn trouble_passes_and_a_wrong_address_does_not() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(
                of_movement(&reply(status, false, "")),
                Verdict::Again(_)
            ));
            assert!(matches!(
                of_opening(&reply(status, false, "<html>")),
                Verdict::Again(_)
            ));
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 415, 422] {
            let verdict = of_movement(&reply(status, false, "<html>"));
            assert!(matches!(verdict, Verdict::Stop(_)), "{status}: {verdict:?}");
        }
    }

    #[test]
    fn an_account_that_exists_is_as_good_as_opened() {
        let exists = r#"{"codigo":"cuenta_existe","detail":"La cuenta ya existe"}"#;
        for (status, body, already) in [(201, "{}", false), (409, exists, true)] {
            let decision = Verdict::Done(Decision::Accepted { already });
            assert_eq!(of_opening(&reply(status, false, body)), decision);
        }
        let check = r#"{"codigo":"cedula_invalida"}"#;
        assert_eq!(
            of_opening(&reply(422, false, check)),
            refused("cedula_invalida")
        );
    }

    #[test]
    fn balances_are_read_to_the_cent() {
        let body = r#"{"cedula":"1","nombres":"a","apellidos":"b","saldo":9007199254740993.07}"#;
        assert!(
            matches!(of_balance(&reply(200, false, body)), Verdict::Stop(_)),
            "16 digits"
        );
        let body = r#"{"saldo":900719925474099.07,"version":3}"#;
        let cents = Money::from_cents(90_071_992_547_409_907);
        assert_eq!(of_balance(&reply(200, false, body)), Verdict::Done(cents));
    }
}
