#![allow(
    clippy::print_stdout,
    reason = "what was made or found is what these commands are for"
)]
//! `atalaya user` and `atalaya token`: who may do what, over REST.

use super::api::{Api, Call};
use super::login::{ServerArgs, call, good};
use super::text::Shown;
use super::token::TokenArgs;
use crate::wire::events::json;
use anstream::{eprintln, println};
use awc::http::Method;
use clap::Subcommand;
use serde_json::{Value, json};
use std::error::Error;
use std::process::ExitCode;

/// Arguments of `atalaya user`.
#[derive(Debug, clap::Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a person; prints the first password, which they must change
    Add {
        /// The name to sign in with
        user: String,
        #[command(flatten)]
        role: RoleArgs,
        #[command(flatten)]
        at: At,
    },
    /// List people and what they may do
    List {
        #[command(flatten)]
        at: At,
    },
    /// Change a person
    Set {
        /// The name to sign in with
        user: String,
        /// Whether they are let in
        #[arg(long)]
        activo: Option<bool>,
        /// Make a new password, which they must change; their sessions end
        #[arg(long)]
        nueva_contrasena: bool,
        /// Take their second factor away
        #[arg(long)]
        sin_segundo_factor: bool,
        #[command(flatten)]
        role: OptionalRole,
        #[command(flatten)]
        at: At,
    },
}

/// Arguments of `atalaya token`.
#[derive(Debug, clap::Args)]
pub(super) struct TokensArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token for a program, and print it this once
    Add {
        /// What it is for; a name is used once
        name: String,
        /// For how many days it is good, 1 to 366
        #[arg(long, default_value_t = 90)]
        dias: i64,
        #[command(flatten)]
        role: RoleArgs,
        #[command(flatten)]
        at: At,
    },
    /// List tokens, without showing them
    List {
        #[command(flatten)]
        at: At,
    },
    /// Revoke a token; what is open with it ends at once
    Revoke {
        /// Its number in the list
        id: i64,
        #[command(flatten)]
        at: At,
    },
}

/// A role and where it holds.
#[derive(Debug, clap::Args)]
struct RoleArgs {
    /// admin, operador, cajero, cliente or auditor
    #[arg(long)]
    rol: String,
    #[command(flatten)]
    scope: ScopeArgs,
}

/// A role that replaces those that somebody has.
#[derive(Debug, clap::Args)]
struct OptionalRole {
    /// The role that replaces those they have
    #[arg(long)]
    rol: Option<String>,
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, clap::Args)]
struct ScopeArgs {
    /// Company; for cajero, and for operador and auditor of one company
    #[arg(long)]
    empresa: Option<String>,
    /// Site, for a cajero who is tied to one
    #[arg(long)]
    sede: Option<String>,
    /// Account, for a cliente
    #[arg(long)]
    cedula: Option<String>,
}

#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl At {
    fn api(&self) -> Result<Api, Box<dyn Error>> {
        Ok(Api::new(self.server.url.clone(), 1, self.token.resolve()?)?)
    }
}

fn grant(role: &str, scope: &ScopeArgs) -> Value {
    let mut grant = json!({ "rol": role });
    for (name, value) in [
        ("empresa", &scope.empresa),
        ("sede", &scope.sede),
        ("cedula", &scope.cedula),
    ] {
        if let Some(value) = value {
            grant[name] = json!(value);
        }
    }
    json!([grant])
}

/// Runs one of the commands about people.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run_user(args: &UserArgs) -> Result<ExitCode, Box<dyn Error>> {
    actix_web::rt::System::new().block_on(async {
        match &args.command {
            UserCommand::Add { user, role, at } => {
                let body = json!({"usuario": user, "roles": grant(&role.rol, &role.scope)});
                let call_ = Call::post("/usuarios", json(&body));
                tell_person(&good(&call(&at.api()?, &call_).await?)?);
            }
            UserCommand::List { at } => {
                let people = all(&at.api()?, "/usuarios").await?;
                println!("{:<24} {:<8} {:<4} roles", "usuario", "activo", "2fa");
                for person in people {
                    println!(
                        "{:<24} {:<8} {:<4} {}",
                        text(&person, "usuario"),
                        yes(&person["activo"]),
                        yes(&person["segundo_factor"]),
                        roles(&person)
                    );
                }
            }
            UserCommand::Set {
                user,
                activo,
                nueva_contrasena,
                sin_segundo_factor,
                role,
                at,
            } => {
                let mut body = json!({ "nueva_contrasena": nueva_contrasena });
                if let Some(active) = activo {
                    body["activo"] = json!(active);
                }
                if *sin_segundo_factor {
                    body["segundo_factor"] = json!(false);
                }
                if let Some(name) = &role.rol {
                    body["roles"] = grant(name, &role.scope);
                }
                let path = format!("/usuarios/{user}");
                let call_ = Call::change(Method::PATCH, path, json(&body));
                tell_person(&good(&call(&at.api()?, &call_).await?)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs one of the commands about tokens.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run_token(args: &TokensArgs) -> Result<ExitCode, Box<dyn Error>> {
    actix_web::rt::System::new().block_on(async {
        match &args.command {
            TokenCommand::Add {
                name,
                dias,
                role,
                at,
            } => {
                let roles = grant(&role.rol, &role.scope);
                let body = json!({"nombre": name, "dias": dias, "roles": roles});
                let made = good(&call(&at.api()?, &Call::post("/tokens", json(&body))).await?)?;
                eprintln!(
                    "Token {} hasta {}; no se vuelve a mostrar:",
                    made["id"],
                    text(&made, "vence")
                );
                println!("{}", text(&made, "token"));
            }
            TokenCommand::List { at } => {
                let tokens = all(&at.api()?, "/tokens").await?;
                println!(
                    "{:<6} {:<24} {:<26} {:<26} roles",
                    "id", "nombre", "vence", "revocado"
                );
                for token in tokens {
                    println!(
                        "{:<6} {:<24} {:<26} {:<26} {}",
                        token["id"],
                        text(&token, "nombre"),
                        text(&token, "vence"),
                        text(&token, "revocado"),
                        roles(&token)
                    );
                }
            }
            TokenCommand::Revoke { id, at } => {
                good(&call(&at.api()?, &Call::delete(format!("/tokens/{id}"))).await?)?;
                eprintln!("Token {id} revocado.");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Every item of a list, page by page.
async fn all(api: &Api, path: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = good(
            &call(
                api,
                &Call::get(format!("{path}?limite=200&cursor={cursor}")),
            )
            .await?,
        )?;
        items.extend(page["datos"].as_array().cloned().unwrap_or_default());
        match page["siguiente"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return Ok(items),
        }
    }
}

fn tell_person(person: &Value) {
    eprintln!("{}: {}", text(person, "usuario"), roles(person));
    if let Some(password) = person["contrasena"].as_str() {
        eprintln!("Contraseña provisional, que no se vuelve a mostrar:");
        println!("{password}");
    }
}

fn text(item: &Value, field: &str) -> String {
    let text = item[field].as_str().unwrap_or("-");
    format!("{}", Shown::from(text))
}

fn yes(value: &Value) -> &'static str {
    if *value == json!(true) { "sí" } else { "no" }
}

fn roles(item: &Value) -> String {
    let all = item["roles"].as_array().cloned().unwrap_or_default();
    let one = |grant: &Value| {
        let scope: Vec<String> = ["empresa", "sede", "cedula"]
            .into_iter()
            .filter_map(|field| grant[field].as_str().map(str::to_owned))
            .collect();
        if scope.is_empty() {
            text(grant, "rol")
        } else {
            format!("{}@{}", text(grant, "rol"), scope.join("/"))
        }
    };
    all.iter().map(one).collect::<Vec<_>>().join(" ")
}
