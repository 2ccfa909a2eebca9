#![allow(clippy::print_stdout, reason = "the token is what this command is for")]
//! `atalaya login`: from a name and a password to a token, and back out with `logout`.

use super::api::{Answer, Api, BaseUrl, Call, Failure};
use super::text::Shown;
use super::token::TokenArgs;
use crate::domain::token::Token;
use crate::wire::events::json;
use anstream::{eprint, eprintln, println};
use awc::http::Method;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, IsTerminal, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `atalaya login`.
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    /// As whom; asked for where it is missing
    user: Option<String>,

    /// File that holds the password; without it the password is asked for at the terminal, or read
    /// from standard input (a second line is the new password, where one must be chosen)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Code of the second factor; asked for where one is needed
    #[arg(long)]
    codigo: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `atalaya logout`.
#[derive(Debug, clap::Args)]
pub(super) struct LogoutArgs {
    #[command(flatten)]
    token: TokenArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerArgs {
    /// Address of the server
    #[arg(
        long,
        env = "ATALAYA_URL",
        default_value = "http://127.0.0.1:5001",
        value_parser = BaseUrl::parse
    )]
    pub(super) url: BaseUrl,
}

/// Signs in and prints the token.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run(args: &LoginArgs) -> Result<ExitCode, Box<dyn Error>> {
    actix_web::rt::System::new().block_on(log_in(args))
}

async fn log_in(args: &LoginArgs) -> Result<ExitCode, Box<dyn Error>> {
    let user = match &args.user {
        Some(user) => user.clone(),
        None => ask("Usuario: ")?,
    };
    let password = match &args.password_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| format!("{}: {e}", path.display()))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        None => ask_secret("Contraseña: ")?,
    };
    let api = Api::new(args.server.url.clone(), 1, None)?;
    let mut body = json!({"usuario": user, "contrasena": password});
    if let Some(code) = &args.codigo {
        body["codigo"] = json!(code);
    }
    let mut answer = call(&api, &Call::post("/sesiones", json(&body))).await?;
    if code_of(&answer) == "falta_codigo" && args.codigo.is_none() {
        body["codigo"] = json!(ask("Código del segundo factor: ")?);
        answer = call(&api, &Call::post("/sesiones", json(&body))).await?;
    }
    let identity = good(&answer)?;
    let token = identity["token"].as_str().ok_or("respuesta inesperada")?;
    if identity["cambiar_contrasena"] == true {
        let token = Token::parse(token)?;
        let api = Api::new(args.server.url.clone(), 1, Some(token))?;
        choose_password(&api, &password).await?;
    }
    let until = identity["vence"].as_str().unwrap_or("?");
    eprintln!("Sesión de {} hasta {until}.", Shown::from(user.as_str()));
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

/// A password that somebody else has made must be changed before anything else.
async fn choose_password(api: &Api, old: &str) -> Result<(), Box<dyn Error>> {
    eprintln!("La contraseña es provisional: elija otra, de 12 caracteres o más.");
    let new = ask_secret("Contraseña nueva: ")?;
    if stdin().is_terminal() && ask_secret("Otra vez: ")? != new {
        return Err("no son iguales; no se ha cambiado nada".into());
    }
    let body = json(&json!({"actual": old, "nueva": new}));
    let path = "/sesiones/actual/contrasena";
    good(&call(api, &Call::change(Method::PUT, path, body)).await?)?;
    eprintln!("Contraseña cambiada.");
    Ok(())
}

/// Ends the session of the token.
///
/// # Errors
/// Whatever a person has to mend.
pub(super) fn log_out(args: &LogoutArgs) -> Result<ExitCode, Box<dyn Error>> {
    let token = args.token.resolve()?.ok_or("no hay ATALAYA_TOKEN")?;
    let api = Api::new(args.server.url.clone(), 1, Some(token))?;
    actix_web::rt::System::new().block_on(async {
        good(&call(&api, &Call::delete("/sesiones/actual")).await?)?;
        eprintln!("Sesión cerrada.");
        Ok(ExitCode::SUCCESS)
    })
}

/// Sends `call` once; the text of a failure says what to do.
pub(super) async fn call(api: &Api, call: &Call) -> Result<Answer, Box<dyn Error>> {
    api.send(call).await.map_err(|failure| {
        let reason = match failure {
            Failure::Passing(again) => again.reason,
            Failure::Lasting(reason) => reason,
        };
        format!(
            "el servidor no responde ({reason}); ¿está Atalaya en marcha? Indique otra con --url"
        )
        .into()
    })
}

/// The body of a good answer, or the server's reason.
pub(super) fn good(answer: &Answer) -> Result<Value, Box<dyn Error>> {
    if answer.status == 204 {
        return Ok(Value::Null);
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("respuesta inesperada (HTTP {})", answer.status))?;
    if answer.status < 400 {
        return Ok(body);
    }
    let detail = body["detail"].as_str().unwrap_or("sin detalle");
    let wait = answer
        .retry_after
        .map(|wait| format!(" (pruebe en {} s)", wait.as_secs()));
    let text = format!("{}{}", Shown::from(detail), wait.unwrap_or_default());
    let advice = match code_of(answer).as_str() {
        "no_autenticado" | "token_invalido" => {
            ": inicie sesión con export ATALAYA_TOKEN=$(atalaya login USUARIO)"
        }
        "no_permitido" => ": hace falta el rol admin",
        _ => "",
    };
    Err(format!("{text}{advice}").into())
}

fn code_of(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["codigo"].as_str().unwrap_or_default().to_owned()
}

/// A line of standard input.
fn ask(prompt: &str) -> Result<String, Box<dyn Error>> {
    if stdin().is_terminal() {
        eprint!("{prompt}");
    }
    let mut line = String::new();
    if stdin().lock().read_line(&mut line)? == 0 {
        return Err(format!("falta una línea en la entrada ({})", prompt.trim_end()).into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The same, without showing what is typed at a terminal.
fn ask_secret(prompt: &str) -> Result<String, Box<dyn Error>> {
    let _silence = Silence::begin();
    let line = ask(prompt);
    if stdin().is_terminal() {
        eprintln!();
    }
    line
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let shown = stdin()
            .is_terminal()
            .then(|| tcgetattr(stdin()).ok())
            .flatten();
        if let Some(shown) = &shown {
            let mut silent = shown.clone();
            silent.local_flags.remove(LocalFlags::ECHO);
            // Keep Ctrl-C from leaving the terminal silent: without signals it is a character,
            // which no password has.
            silent.local_flags.remove(LocalFlags::ISIG);
            // Where the terminal does not obey, what is typed is seen, which its owner sees too.
            let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent);
        }
        Self(shown)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, shown);
        }
    }
}
