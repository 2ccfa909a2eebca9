//! `atalaya device send`: one alert, until it is answered.

use super::credentials::{Credentials, Numbers, Vault};
use super::jws::{Alert, Message};
use super::link::{Link, LinkSettings, News};
use super::outbox::{FIRST_WAIT, Heard, LONGEST_WAIT, Outbox};
use super::registry::Refusal;
use super::reply::{Reply, Verdict};
use crate::cli::api::{Answer, Api, BaseUrl, Call, Failure};
use crate::cli::broker::BrokerArgs;
use crate::cli::text::Shown;
use crate::clock::Clock;
use crate::domain::{DeviceAddress, Slug};
use anstream::{eprintln, println};
use serde_json::{Map, Value};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A message was rejected.
const EXIT_REJECTED: u8 = 1;
/// Nobody answered.
const EXIT_UNANSWERED: u8 = 2;

/// Arguments of `atalaya device send`.
///
/// The exit code is 0 where the alert is in the database, 1 where it was rejected, and 2 where
/// nobody answered in time.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// Credentials file that `atalaya device enrol` wrote
    file: PathBuf,

    /// Kind of the alert (ROJO, …), or LATIDO for a heartbeat
    #[arg(value_parser = super::enrol::slug)]
    tipo_alarma: Slug,

    /// What happened
    #[arg(long)]
    descripcion: Option<String>,

    /// Where, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    ubicacion: Option<JsonObject>,

    /// Anything else, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    datos: Option<JsonObject>,

    /// Send over HTTP instead of MQTT
    #[arg(long)]
    http: bool,

    /// How long to wait for the answer, in seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,

    /// Address of the server, for --http
    #[arg(
        long,
        env = "ATALAYA_URL",
        default_value = "http://127.0.0.1:5001",
        value_parser = BaseUrl::parse
    )]
    url: BaseUrl,

    #[command(flatten)]
    broker: BrokerArgs,
}

/// An object on the command line.
type JsonObject = Map<String, Value>;

/// Why a message cannot be sent at all.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    Denied(String),
    #[error("el servidor no toma el mensaje: {0}")]
    Refused(Refusal),
    #[error("respuesta inesperada del servidor (HTTP {0}); ¿es esta la dirección de Atalaya?")]
    Strange(u16),
    #[error("{0}")]
    Impossible(String),
}

/// What came of a message.
enum Outcome {
    /// An answer.
    Answered(Reply),
    /// None in time, though the message may have arrived.
    Silence,
    /// There was nobody to send it to: where, and which options say so.
    Unreached(String, &'static str),
}

/// Sends one alert.
///
/// # Errors
/// What has to be mended before it can be sent.
pub(super) async fn run(args: &SendArgs) -> Result<ExitCode, Box<dyn Error>> {
    let patience = Duration::from_secs(args.timeout);
    let deadline = Instant::now() + patience;
    let vault = Vault::wait_for(&args.file, patience).await?;
    let mut numbers = Numbers::open(vault, 1)?;
    let message = sign(args, &mut numbers)?;
    let credentials = numbers.credentials().clone();
    let outcome = if args.http {
        // Whoever comes next need not wait: HTTP knows no client ids that could collide.
        drop(numbers);
        over_http(args, &message, deadline).await?
    } else {
        let outcome = over_mqtt(args, &credentials, &message, deadline).await?;
        drop(numbers);
        outcome
    };
    Ok(tell(&credentials.address, &message, &outcome))
}

fn sign(args: &SendArgs, numbers: &mut Numbers) -> Result<Message, Box<dyn Error>> {
    let alert = Alert {
        kind: args.tipo_alarma.to_string(),
        description: args.descripcion.clone(),
        location: args.ubicacion.clone(),
        data: args.datos.clone(),
    };
    let seq = numbers.take()?;
    let now = Clock::system().now().div_euclid(1_000_000);
    Ok(numbers.credentials().signature().sign(&alert, seq, now))
}

/// Publishes until the answer is there, or the time is up.
async fn over_mqtt(
    args: &SendArgs,
    credentials: &Credentials,
    message: &Message,
    deadline: Instant,
) -> Result<Outcome, Box<dyn Error>> {
    let device = &credentials.address;
    let mut link = Link::open(LinkSettings {
        host: args.broker.host.clone(),
        port: args.broker.port,
        login: args
            .broker
            .login_of(&device.device, credentials.password_text())?,
        tls: args.broker.tls()?,
        device: device.clone(),
        publishes_as: device.clone(),
        presence: false,
        session: 0,
    });
    let outcome = until_answered(&mut link, &args.broker, message, deadline).await;
    match outcome {
        // The time is up: no more of it for a goodbye.
        Ok(Outcome::Silence | Outcome::Unreached(..)) => link.cut(),
        _ => link.close().await,
    }
    Ok(outcome?)
}

async fn until_answered(
    link: &mut Link,
    broker: &BrokerArgs,
    message: &Message,
    deadline: Instant,
) -> Result<Outcome, SendError> {
    let mut outbox = Outbox::default();
    outbox.add(message.clone(), Instant::now());
    let (mut up, mut reached, mut throttled) = (false, false, None);
    loop {
        let now = Instant::now();
        if up && outbox.due(now).is_some() && link.send(message.bytes.clone()) {
            outbox.sent(message.seq, now);
        }
        let due = outbox.next_due().filter(|_| up).unwrap_or(deadline);
        let news = tokio::select! {
            news = link.news() => news,
            () = tokio::time::sleep_until(due.min(deadline).into()) => {
                if Instant::now() >= deadline {
                    return Ok(match throttled {
                        Some(reply) => Outcome::Answered(reply),
                        None if reached => Outcome::Silence,
                        None => Outcome::Unreached(broker.to_string(), "--host y --port"),
                    });
                }
                continue;
            }
        };
        match news {
            News::Up => {
                (up, reached) = (true, true);
                outbox.reconnected(Instant::now());
            }
            News::Down(reason) => {
                up = false;
                status(&format!(
                    "sin conexión con el broker {broker}, se reintenta: {reason}"
                ));
            }
            News::Denied(reason) | News::Refused(reason) => return Err(SendError::Denied(reason)),
            News::Order(order) => println!("{order}"),
            News::Reply(reply) => match outbox.hear(&reply, Instant::now()) {
                Heard::Settled(_) => return Ok(Outcome::Answered(reply)),
                Heard::Later => {
                    status("demasiados mensajes por ahora; se reintenta");
                    throttled = Some(reply);
                }
                Heard::Stranger => {}
            },
        }
    }
}

/// Posts until the answer is there, or the time is up.
async fn over_http(
    args: &SendArgs,
    message: &Message,
    deadline: Instant,
) -> Result<Outcome, SendError> {
    let api = Api::new(args.url.clone(), 1, None)
        .map_err(|error| SendError::Impossible(error.to_string()))?;
    let call = Call::post("/alertas", message.bytes.clone()).of_type("application/jose");
    let (mut wait, mut reached) = (FIRST_WAIT, false);
    loop {
        let Ok(result) = tokio::time::timeout_at(deadline.into(), api.send(&call)).await else {
            return Ok(Outcome::Silence);
        };
        reached |= !matches!(&result, Err(Failure::Passing(again)) if !again.perhaps_done);
        let (reason, after) = match result {
            Ok(answer) if !matches!(answer.status, 408 | 429 | 500..) => {
                return read(message, &answer).map(Outcome::Answered);
            }
            Ok(answer) => (format!("HTTP {}", answer.status), answer.retry_after),
            Err(Failure::Passing(again)) => (again.reason, again.after),
            Err(Failure::Lasting(reason)) => return Err(SendError::Impossible(reason)),
        };
        status(&format!(
            "sin respuesta de {}, se reintenta: {reason}",
            args.url
        ));
        let next = Instant::now() + wait.max(after.unwrap_or_default());
        tokio::time::sleep_until(next.min(deadline).into()).await;
        if next >= deadline {
            return Ok(if reached {
                Outcome::Silence
            } else {
                Outcome::Unreached(args.url.to_string(), "--url")
            });
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// The reply in an answer: a rejection is a problem document.
fn read(message: &Message, answer: &Answer) -> Result<Reply, SendError> {
    if matches!(answer.status, 200 | 201) {
        return Reply::parse(&answer.body)
            .filter(|reply| reply.fingerprint() == Some(message.fingerprint))
            .ok_or(SendError::Strange(answer.status));
    }
    let refusal: Refusal =
        serde_json::from_slice(&answer.body).map_err(|_| SendError::Strange(answer.status))?;
    let Some(motivo) = refusal.motivo else {
        return Err(SendError::Refused(refusal));
    };
    Ok(Reply {
        alerta_id: None,
        estado: Verdict::Rejected,
        motivo: Some(motivo),
        seq: refusal.seq,
        huella: refusal
            .huella
            .unwrap_or_else(|| message.fingerprint.to_string()),
        timestamp: None,
    })
}

fn tell(device: &DeviceAddress, message: &Message, outcome: &Outcome) -> ExitCode {
    let reply = match outcome {
        Outcome::Answered(reply) => reply,
        Outcome::Silence => {
            status(&format!(
                "nadie respondió al mensaje {} (huella {}); no se sabe si llegó: vuelva a enviar \
                 la alerta",
                message.seq, message.fingerprint
            ));
            return ExitCode::from(EXIT_UNANSWERED);
        }
        Outcome::Unreached(address, options) => {
            status(&format!(
                "no se pudo conectar con {address} y la alerta no salió: ¿está en marcha? Indique \
                 otra dirección con {options}"
            ));
            return ExitCode::from(EXIT_UNANSWERED);
        }
    };
    println!("{reply}");
    if reply.estado != Verdict::Rejected {
        return ExitCode::SUCCESS;
    }
    if let Some(advice) = reply.advice(device, &message.kind) {
        status(&advice);
    }
    ExitCode::from(EXIT_REJECTED)
}

/// A broker's and a server's reasons are a stranger's text.
fn status(text: &str) {
    eprintln!("atalaya device send: {}", Shown::from(text));
}

fn object(text: &str) -> Result<JsonObject, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("a JSON object, like {{\"piso\":2}}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::device::jws::{Key, Signature};
    use crate::domain::Algorithm;
    use bytes::Bytes;
    use clap::Parser;

    fn message() -> Message {
        Signature {
            audience: "atalaya",
            subject: &"banco/principal/boton-1".parse().unwrap(),
            kid: "k1",
            key: &Key::new(Algorithm::EdDsa, [7; 32]),
        }
        .sign(&Alert::of_kind("ROJO"), 1, 0)
    }

    fn answer(status: u16, body: String) -> Answer {
        Answer {
            status,
            replayed: false,
            retry_after: None,
            body: Bytes::from(body),
        }
    }

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: SendArgs,
    }

    /// How long a second's patience lasts at `port`.
    async fn patience_at(port: u16, http: bool) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boton-1.json");
        Vault::open(&file)
            .unwrap()
            .write(&Credentials {
                address: "banco/principal/boton-1".parse().unwrap(),
                audience: "atalaya".to_owned(),
                kid: "k1".to_owned(),
                key: Key::new(Algorithm::EdDsa, [7; 32]),
                password: None,
                seq: 0,
            })
            .unwrap();
        let (file, port) = (file.display().to_string(), port.to_string());
        let url = format!("http://127.0.0.1:{port}");
        let mut words = vec!["send", &file, "ROJO", "--timeout", "1", "--url", &url];
        words.extend(["--host", "127.0.0.1", "--port", &port]);
        words.extend(http.then_some("--http"));
        let args = Wrapper::try_parse_from(words).unwrap().args;
        let began = Instant::now();
        assert_eq!(run(&args).await.unwrap(), ExitCode::from(EXIT_UNANSWERED));
        began.elapsed()
    }

    #[actix_web::test]
    async fn the_wait_is_as_long_as_it_was_told() {
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = mute.local_addr().unwrap().port();
        let mut waits = vec![
            patience_at(port, false).await,
            patience_at(port, true).await,
        ];
        drop(mute);
        waits.extend([
            patience_at(port, false).await,
            patience_at(port, true).await,
        ]);
        let told = Duration::from_secs(1)..Duration::from_millis(1_500);
        assert!(waits.iter().all(|wait| told.contains(wait)), "{waits:?}");
    }

    #[test]
    fn http_answers_become_replies() {
        let message = message();
        let huella = message.fingerprint;
        let accepted = format!(r#"{{"alerta_id":"1","estado":"ACEPTADA","huella":"{huella}"}}"#);
        let reply = read(&message, &answer(201, accepted)).unwrap();
        assert_eq!(reply.estado, Verdict::Accepted);

        let rejected = format!(
            r#"{{"codigo":"alerta_rechazada","detail":"d","motivo":"TIPO","seq":1,"huella":"{huella}"}}"#
        );
        let reply = read(&message, &answer(422, rejected)).unwrap();
        assert_eq!(reply.motivo.as_deref(), Some("TIPO"));

        let refused = r#"{"codigo":"json_invalido"}"#.to_owned();
        let error = read(&message, &answer(400, refused)).unwrap_err();
        assert!(error.to_string().contains("json_invalido"), "{error}");
        for body in [r#"{"estado":"ACEPTADA","huella":"00"}"#, "<html>"] {
            let error = read(&message, &answer(200, body.to_owned())).unwrap_err();
            assert!(matches!(error, SendError::Strange(200)), "{error}");
        }
    }
}
