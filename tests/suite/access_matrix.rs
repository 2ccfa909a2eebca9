//! Every route, asked by every role of the company and of another one, and by whoever shows no
//! token, one that is over, or one that was revoked. Generated from the one table of routes: a route
//! without an expectation fails.

use crate::support::access::{ADMIN_TOKEN, make_token_for};
use crate::support::client::{Client, Response, finish};
use crate::support::device::{Device, create_place, register};
use atalaya::application::Application;
use atalaya::clock::Clock;
use atalaya::config::{Config, ServeArgs};
use atalaya::http::{PUBLIC, ROUTES};
use awc::http::Method;
use clap::Parser;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Stands in the name of everything that belongs to the company `banco`.
const MARK: &str = "xqz";

/// The role of whoever asks, in the company that the route's things belong to and in another.
const ROLES: [&str; 5] = ["admin", "operador", "cajero", "cliente", "auditor"];

/// What a route answers: to the roles of the company, and to those of another.
///
/// Each is a list like `operador=2 auditor=200`: a digit is a class of statuses. A role that is not
/// named gets 403. The admin is of no company and stands in the first list alone.
struct Expected {
    own: &'static str,
    foreign: &'static str,
}

const fn expect(own: &'static str, foreign: &'static str) -> Expected {
    Expected { own, foreign }
}

/// The expectations, in the order of the table of routes.
#[allow(
    clippy::too_many_lines,
    clippy::match_same_arms,
    reason = "it is a table in the order of the routes"
)]
fn expected(method: &str, path: &str) -> Option<Expected> {
    let everybody = "admin=2 operador=2 cajero=2 cliente=2 auditor=2";
    let readers = "admin=2 operador=2 auditor=2";
    // Nobody learns whether what is another company's exists.
    let hidden = "operador=404 auditor=404";
    let filtered = "operador=2 auditor=2";
    Some(match (method, path) {
        // Who opens an account opens it in their own company.
        ("POST", "/api/v1/cuentas") => expect("cajero=201", "cajero=201"),
        ("GET", "/api/v1/cuentas") => expect(
            "cajero=200 cliente=200 auditor=200",
            "cajero=200 cliente=200 auditor=200",
        ),
        ("GET", "/api/v1/cuentas/{cedula}" | "/api/v1/cuentas/{cedula}/movimientos") => expect(
            "cajero=200 cliente=200 auditor=200",
            "cajero=404 cliente=404 auditor=404",
        ),
        (
            "POST",
            "/api/v1/cuentas/{cedula}/depositos"
            | "/api/v1/cuentas/{cedula}/retiros"
            | "/api/v1/transferencias",
        ) => expect("cajero=201", "cajero=404"),
        ("GET", "/api/v1/estadisticas") => expect(
            "admin=200 operador=200 cajero=200 auditor=200",
            "operador=200 cajero=200 auditor=200",
        ),
        ("GET", "/api/v1/alertas") => expect("operador=200 auditor=200", filtered),
        ("POST", "/api/v1/alertas") => expect("operador=2", "operador=404"),
        ("POST", "/api/v1/alertas/validacion") => expect("operador=200", "operador=404"),
        ("GET", "/api/v1/alertas/{id}") => expect("operador=200 auditor=200", hidden),
        (
            "POST",
            "/api/v1/alertas/{id}/reconocer"
            | "/api/v1/alertas/{id}/resolver"
            | "/api/v1/alertas/{id}/descartar",
        ) => expect("operador=200", "operador=404"),
        (
            "GET",
            "/api/v1/empresas"
            | "/api/v1/sedes"
            | "/api/v1/hardware"
            | "/api/v1/tipos_hardware"
            | "/api/v1/tipos_alarma"
            | "/api/v1/reglas",
        ) => expect(readers, filtered),
        ("POST", "/api/v1/empresas" | "/api/v1/sedes") => expect("admin=201", ""),
        (
            "GET",
            "/api/v1/empresas/{empresa}"
            | "/api/v1/sedes/{empresa}/{sede}"
            | "/api/v1/hardware/{hardware}"
            | "/api/v1/hardware/{hardware}/claves"
            | "/api/v1/reglas/{id}"
            | "/api/v1/reglas/{id}/versiones",
        ) => expect(readers, hidden),
        ("PATCH", "/api/v1/empresas/{empresa}" | "/api/v1/sedes/{empresa}/{sede}") => {
            expect("admin=200", "")
        }
        ("PUT", "/api/v1/tipos_hardware/{tipo}") => expect("admin=200", ""),
        ("POST", "/api/v1/hardware" | "/api/v1/hardware/{hardware}/claves" | "/api/v1/reglas")
        | ("PATCH", "/api/v1/hardware/{hardware}" | "/api/v1/reglas/{id}")
        | ("DELETE", "/api/v1/hardware/{hardware}/claves/{kid}")
        | ("PUT", "/api/v1/tipos_alarma/{empresa}/{tipo_alarma}") => {
            expect("admin=2 operador=2", "operador=404")
        }
        (
            "POST" | "DELETE",
            "/api/v1/hardware/{hardware}/contrasena_mqtt"
            | "/api/v1/hardware/{hardware}/secreto_heredado",
        ) => expect("admin=2 operador=2", "operador=404"),
        ("POST", "/api/v1/reglas/prueba") => expect(readers, hidden),
        ("GET", "/api/v1/cuarentena") => expect("operador=200 auditor=200", filtered),
        ("GET", "/api/v1/cuarentena/{id}") => expect("operador=200 auditor=200", hidden),
        ("DELETE", "/api/v1/cuarentena/{id}") => expect("operador=204", "operador=404"),
        // Handed in again it is rejected again, which is what it was kept for.
        ("POST", "/api/v1/cuarentena/{id}/reenviar") => expect("operador=422", "operador=404"),
        // Nobody gets in with a wrong password, whoever they are already.
        ("POST", "/api/v1/sesiones") => expect(
            "admin=401 operador=401 cajero=401 cliente=401 auditor=401",
            "operador=401 cajero=401 cliente=401 auditor=401",
        ),
        // Everybody sees themselves.
        ("GET", "/api/v1/sesiones" | "/api/v1/sesiones/actual")
        | ("POST", "/api/v1/sesiones/actual/boleto") => {
            expect(everybody, "operador=2 cajero=2 cliente=2 auditor=2")
        }
        // Those who ask here are programs, which have neither session nor password.
        (
            _,
            "/api/v1/sesiones/actual"
            | "/api/v1/sesiones/actual/contrasena"
            | "/api/v1/sesiones/actual/segundo_factor",
        ) => expect("", ""),
        // To anybody but its owner and those who manage people a session is as if it were not.
        ("DELETE", "/api/v1/sesiones/{id}") => expect(
            "admin=204 operador=404 cajero=404 cliente=404 auditor=404",
            "operador=404 cajero=404 cliente=404 auditor=404",
        ),
        ("GET", "/api/v1/usuarios") => expect("admin=200 auditor=200", "auditor=200"),
        ("GET", "/api/v1/usuarios/{usuario}") => expect("admin=200 auditor=200", "auditor=404"),
        ("POST", "/api/v1/usuarios" | "/api/v1/tokens")
        | ("PATCH", "/api/v1/usuarios/{usuario}")
        | ("GET", "/api/v1/tokens")
        | ("DELETE", "/api/v1/tokens/{id}") => expect("admin=2", ""),
        ("GET", "/api/v1/auditoria") => expect("admin=200 auditor=200", "auditor=200"),
        // There is something of every company in them.
        ("GET", "/metrics" | "/api/v1/metricas" | "/api/v1/logs/{registro}") => {
            expect("admin=200", "")
        }
        ("GET", "/api/v1/cajas") => expect("cajero=200", "cajero=200"),
        ("GET", "/livez" | "/readyz" | "/health" | "/" | "/app/{archivo}") => {
            expect(everybody, "operador=2 cajero=2 cliente=2 auditor=2")
        }
        // Let in, and told that this is no handshake.
        ("GET", "/ws") => expect(
            "admin=400 operador=400 cajero=400 cliente=400 auditor=400",
            "operador=400 cajero=400 cliente=400 auditor=400",
        ),
        _ => return None,
    })
}

fn status_for(list: &str, role: &str) -> String {
    let named = list.split(' ').filter_map(|cell| cell.split_once('='));
    let mut own = named.filter(|(name, _)| *name == role);
    own.next().map_or("403", |(_, status)| status).to_owned()
}

fn is_as_expected(status: u16, expected: &str) -> bool {
    status.to_string().starts_with(expected)
}

/// What there is to be asked for, all of it the company `banco`'s.
struct Place {
    /// Asks as an admin.
    admin: Client,
    /// Asks as whoever may do the rest.
    operator: Client,
    device: std::cell::RefCell<Device>,
    rule: i64,
    made: Cell<u32>,
}

impl Place {
    /// A name that was not used before.
    fn fresh(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("n{}-{MARK}", self.made.get())
    }

    fn number(&self) -> u32 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    async fn alert(&self) -> String {
        let kinds = ["ROJO", "NARANJA", "AMARILLO", "VERDE", "AZUL"];
        let device = self.fresh();
        register(&self.operator, "banco", "principal", &device, "BOTONERA").await;
        let kind = kinds[self.made.get() as usize % kinds.len()];
        let raised = self.operator.raise(&device, kind).await;
        assert_eq!(raised.status, 201, "{}", raised.text());
        raised.json()["alerta_id"].as_str().unwrap().to_owned()
    }

    /// A message in quarantine that claims to be from a device of ours.
    async fn suspect(&self) -> String {
        let (message, name) = {
            let mut device = self.device.borrow_mut();
            let good = device.alert("ROJO");
            let (head, _) = good.rsplit_once('.').unwrap();
            (format!("{head}.AAAA"), device.name.clone())
        };
        let refused = self.operator.submit(&message).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        let path = format!("/api/v1/cuarentena?hardware={name}&limite=1");
        let list = crate::support::eventually("it is in quarantine", || async {
            let list = self.operator.json(&path).await;
            let digest = crate::support::device::fingerprint(message.as_bytes());
            (list["datos"][0]["huella"] == json!(digest)).then_some(list)
        })
        .await;
        list["datos"][0]["id"].as_i64().unwrap().to_string()
    }

    async fn key(&self) -> (String, String) {
        let device = self.fresh();
        let made =
            Device::enrol_at(&self.operator, "banco", "principal", &device, "BOTONERA").await;
        (device, made.kid.clone())
    }

    async fn session(&self) -> String {
        let name = self.fresh();
        let body = json!({"usuario": name, "roles": [{"rol": "operador", "empresa": "banco"}]});
        let made = self
            .admin
            .changes(Method::POST, "/api/v1/usuarios", &body, 201)
            .await;
        let body = json!({"usuario": name, "contrasena": made["contrasena"]});
        let anonymous = self.admin.anonymous();
        let opened = anonymous
            .changes(Method::POST, "/api/v1/sesiones", &body, 201)
            .await;
        opened["sesion"].as_i64().unwrap().to_string()
    }

    async fn token(&self) -> String {
        let body = json!({"nombre": self.fresh(), "dias": 1, "roles": []});
        let made = self
            .admin
            .changes(Method::POST, "/api/v1/tokens", &body, 201)
            .await;
        made["id"].as_i64().unwrap().to_string()
    }

    /// The address and body of a request that succeeds for whoever may make it.
    #[allow(clippy::too_many_lines, reason = "it is a table")]
    async fn request(&self, method: &str, path: &str) -> (String, Option<Value>) {
        let device = self.device.borrow().name.clone();
        let at = |value: &str| {
            let (before, rest) = path.split_once('{').unwrap();
            let after = rest.split_once('}').unwrap().1;
            format!("{before}{value}{after}")
        };
        let rule = json!({"nombre": self.fresh(), "empresa": "banco", "orden": 9,
            "condicion": "true", "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
        match (method, path) {
            ("POST", "/api/v1/cuentas") => {
                let body = json!({"cedula": format!("9{:09}", self.number()),
                    "nombres": "Ana", "apellidos": MARK});
                (path.to_owned(), Some(body))
            }
            ("POST", "/api/v1/transferencias") => (
                path.to_owned(),
                Some(json!({"cedula_origen": "1111", "cedula_destino": "3333", "monto": 1})),
            ),
            (_, path) if path.starts_with("/api/v1/cuentas/") => {
                (at("1111"), (method == "POST").then(|| json!({"monto": 1})))
            }
            ("POST", "/api/v1/alertas" | "/api/v1/alertas/validacion") => (
                path.to_owned(),
                Some(json!({"hardware": device, "tipo_alarma": "VERDE"})),
            ),
            (_, path) if path.starts_with("/api/v1/alertas/{id}") => (
                at(&self.alert().await),
                (method == "POST").then(|| json!({"motivo": "prueba"})),
            ),
            ("POST", "/api/v1/empresas") => {
                (path.to_owned(), Some(json!({"empresa": self.fresh()})))
            }
            (_, "/api/v1/empresas/{empresa}") => (
                at("banco"),
                (method == "PATCH").then(|| json!({"nombre": format!("Banco {MARK}")})),
            ),
            ("POST", "/api/v1/sedes") => (
                path.to_owned(),
                Some(json!({"empresa": "banco", "sede": self.fresh()})),
            ),
            (_, "/api/v1/sedes/{empresa}/{sede}") => (
                "/api/v1/sedes/banco/principal".to_owned(),
                (method == "PATCH").then(|| json!({"nombre": MARK})),
            ),
            ("POST", "/api/v1/hardware") => (
                path.to_owned(),
                Some(
                    json!({"hardware": self.fresh(), "empresa": "banco", "sede": "principal",
                    "tipo": "BOTONERA"}),
                ),
            ),
            ("DELETE", "/api/v1/hardware/{hardware}/claves/{kid}") => {
                let (device, kid) = self.key().await;
                (format!("/api/v1/hardware/{device}/claves/{kid}"), None)
            }
            ("POST", "/api/v1/hardware/{hardware}/claves") => {
                let (device, _) = self.key().await;
                (at(&device), Some(json!({"alg": "HS256"})))
            }
            ("POST", "/api/v1/hardware/{hardware}/secreto_heredado") => {
                let (device, _) = self.key().await;
                let path = format!("/api/v1/hardware/{device}");
                let body = json!({"confianza": "heredada"});
                self.operator
                    .changes(Method::PATCH, &path, &body, 200)
                    .await;
                (at(&device), None)
            }
            (_, path) if path.starts_with("/api/v1/hardware/") => (
                at(&device),
                (method == "PATCH").then(|| json!({"nombre": MARK})),
            ),
            ("PUT", "/api/v1/tipos_hardware/{tipo}") => {
                (at("BOTONERA"), Some(json!({"descripcion": "Botones"})))
            }
            ("PUT", "/api/v1/tipos_alarma/{empresa}/{tipo_alarma}") => (
                format!("/api/v1/tipos_alarma/banco/T{}", self.number()),
                Some(json!({"nombre": MARK, "prioridad": "baja", "color": "VERDE"})),
            ),
            ("POST", "/api/v1/reglas") => (path.to_owned(), Some(rule)),
            ("POST", "/api/v1/reglas/prueba") => (
                path.to_owned(),
                Some(json!({"regla_id": self.rule, "dias": 1})),
            ),
            (_, path) if path.starts_with("/api/v1/reglas/{id}") => (
                at(&self.rule.to_string()),
                (method == "PATCH").then(|| json!({"nombre": self.fresh()})),
            ),
            (_, path) if path.starts_with("/api/v1/cuarentena/{id}") => {
                (at(&self.suspect().await), None)
            }
            ("POST", "/api/v1/sesiones") => (
                path.to_owned(),
                Some(json!({"usuario": self.fresh(), "contrasena": "wrong"})),
            ),
            ("PUT", "/api/v1/sesiones/actual/contrasena") => (
                path.to_owned(),
                Some(json!({"actual": "wrong", "nueva": "correct horse battery"})),
            ),
            ("PUT", "/api/v1/sesiones/actual/segundo_factor") => {
                (path.to_owned(), Some(json!({"codigo": "000000"})))
            }
            ("POST" | "DELETE", "/api/v1/sesiones/actual/segundo_factor") => {
                (path.to_owned(), Some(json!({"contrasena": "wrong"})))
            }
            ("DELETE", "/api/v1/sesiones/{id}") => (at(&self.session().await), None),
            ("POST", "/api/v1/usuarios") => {
                (path.to_owned(), Some(json!({"usuario": self.fresh()})))
            }
            (_, "/api/v1/usuarios/{usuario}") => (
                at(&format!("ana-{MARK}")),
                (method == "PATCH").then(|| json!({"nombre": MARK})),
            ),
            ("POST", "/api/v1/tokens") => (
                path.to_owned(),
                Some(json!({"nombre": self.fresh(), "dias": 1, "roles": []})),
            ),
            ("DELETE", "/api/v1/tokens/{id}") => (at(&self.token().await), None),
            ("GET", "/api/v1/logs/{registro}") => (at("sistema"), None),
            ("GET", "/app/{archivo}") => (at("main.js"), None),
            _ => (path.to_owned(), None),
        }
    }

    async fn ask(&self, client: &Client, method: &str, path: &str) -> (Response, String) {
        let (address, body) = self.request(method, path).await;
        let request = client
            .request(method.parse().unwrap(), &address)
            .insert_header(("Idempotency-Key", format!("k{}", self.number())));
        let sent = match body {
            Some(body) => request
                .insert_header(("content-type", "application/json"))
                .send_body(body.to_string()),
            None => request.send(),
        };
        (finish(sent).await.unwrap(), address)
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// An Atalaya within the test, whose clock the test moves.
async fn start(now: &Arc<AtomicI64>, folder: &std::path::Path) -> Client {
    let data = folder.join("data");
    let flags = Flags::parse_from([
        "atalaya".to_owned(),
        "--mqtt=off".to_owned(),
        "--http-port=0".to_owned(),
        "--server-port=0".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--database-url=sqlite://{}/atalaya.db", data.display()),
        format!("--admin-token={ADMIN_TOKEN}"),
        "--admin-password=correct horse battery".to_owned(),
        "--device-rate=1000000".to_owned(),
        "--device-burst=1000000".to_owned(),
    ]);
    let clock = {
        let now = Arc::clone(now);
        Clock::from_fn(move || now.load(Ordering::Relaxed))
    };
    let config = Config::try_from(flags.serve).unwrap();
    let application = Application::build(config, clock).await.unwrap();
    let client = Client::new(format!("http://{}", application.http()));
    actix_web::rt::spawn(application.run_until(std::future::pending()));
    client
}

fn grant(role: &str, company: &str, account: &str) -> Value {
    match role {
        "admin" => json!([{"rol": role}]),
        "cliente" => json!([{"rol": role, "cedula": account}]),
        _ => json!([{"rol": role, "empresa": company}]),
    }
}

/// Everything that is asked for, in the company `banco`; a company `otra` beside it.
async fn furnish(client: &Client) -> Place {
    let admin = client.with_token(ADMIN_TOKEN);
    create_place(&admin, "otra", "principal").await;
    let all =
        json!([{"rol": "cajero", "empresa": "banco"}, {"rol": "operador"}, {"rol": "auditor"}]);
    let operator = client.with_token(&make_token_for(client, "todo", &all).await);
    for account in ["1111", "3333"] {
        operator.open_with(account, "1000.00").await;
    }
    let teller = json!([{"rol": "cajero", "empresa": "otra"}]);
    let teller = client.with_token(&make_token_for(client, "caja-otra", &teller).await);
    teller.open_with("2222", "1000.00").await;
    let name = format!("boton-{MARK}");
    let device = Device::enrol_at(&operator, "banco", "principal", &name, "BOTONERA").await;
    let person = json!({"usuario": format!("ana-{MARK}"), "roles": grant("operador", "banco", "")});
    admin
        .changes(Method::POST, "/api/v1/usuarios", &person, 201)
        .await;
    let rule = json!({"nombre": format!("regla-{MARK}"), "empresa": "banco", "orden": 5,
        "condicion": "true", "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
    let rule = operator
        .changes(Method::POST, "/api/v1/reglas", &rule, 201)
        .await;
    Place {
        admin,
        operator,
        device: device.into(),
        rule: rule["id"].as_i64().unwrap(),
        made: Cell::new(0),
    }
}

#[actix_web::test]
async fn every_route_answers_every_role_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(crate::support::device::now() * 1_000_000));
    let client = start(&now, folder.path()).await;
    let place = furnish(&client).await;
    let mut tokens: BTreeMap<(&str, bool), String> = BTreeMap::new();
    for role in ROLES {
        for (is_own, company, account) in [(true, "banco", "1111"), (false, "otra", "2222")] {
            let name = format!("{role}-{company}");
            let token = make_token_for(&client, &name, &grant(role, company, account)).await;
            tokens.insert((role, is_own), token);
        }
    }
    let mut asked = BTreeSet::new();
    for (path, methods) in ROUTES {
        for method in *methods {
            let expected = expected(method, path)
                .unwrap_or_else(|| panic!("{method} {path} has no expectation: declare one"));
            for ((role, is_own), token) in &tokens {
                if *role == "admin" && !is_own {
                    continue;
                }
                let list = if *is_own {
                    expected.own
                } else {
                    expected.foreign
                };
                let wanted = status_for(list, role);
                let who = client.with_token(token);
                let (answer, address) = place.ask(&who, method, path).await;
                let text = answer.text();
                assert!(
                    is_as_expected(answer.status, &wanted),
                    "{method} {address} by {role}, own: {is_own}: {} and not {wanted}: {text}",
                    answer.status
                );
                // What is refused or missing says nothing of what is there.
                let may_know = *is_own || *method != "GET" || *path == "/metrics";
                assert!(
                    may_know || !text.contains(MARK),
                    "{method} {address} tells {role} of another company: {text}"
                );
                asked.insert((*path, *method, *role, *is_own));
            }
        }
    }
    let routes: usize = ROUTES.iter().map(|(_, methods)| methods.len()).sum();
    assert_eq!(asked.len(), routes * (ROLES.len() * 2 - 1));

    no_token_no_answer(&client, &place).await;
    let list = place.admin.json("/api/v1/tokens?limite=200").await;
    let revoked = &tokens[&("operador", true)];
    let named = |name: &str| {
        let all = list["datos"].as_array().unwrap();
        let found = all.iter().find(|token| token["nombre"] == name).unwrap();
        found["id"].as_i64().unwrap()
    };
    let path = format!("/api/v1/tokens/{}", named("operador-banco"));
    let gone = place.admin.bare(Method::DELETE, &path).await;
    assert_eq!(gone.status, 204);
    dead_token_no_answer(&client, revoked, "revoked").await;

    // Two days later the tokens, which were good for one, are over.
    let over = tokens[&("auditor", true)].clone();
    now.fetch_add(2 * 86_400_000_000, Ordering::Relaxed);
    dead_token_no_answer(&client, &over, "expired").await;
}

/// Without a token everything is 401 but what is declared public.
async fn no_token_no_answer(client: &Client, place: &Place) {
    for (path, methods) in ROUTES {
        for method in *methods {
            let (answer, address) = place.ask(&client.anonymous(), method, path).await;
            let is_public = PUBLIC
                .iter()
                .any(|(open, methods)| open == path && methods.contains(method));
            let is_open =
                is_public && !matches!(*path, "/api/v1/sesiones" | "/api/v1/alertas" | "/ws");
            let wanted = if is_open { "200" } else { "401" };
            assert!(
                is_as_expected(answer.status, wanted),
                "{method} {address} without a token: {}",
                answer.text()
            );
            if !is_public {
                // Before anything of it is looked at, whatever it is.
                let garbage = client
                    .anonymous()
                    .request(method.parse().unwrap(), &address)
                    .insert_header(("content-type", "text/plain"));
                let answer = finish(garbage.send_body("{")).await.unwrap();
                assert_eq!(answer.status, 401, "{method} {address}: {}", answer.text());
            }
            if !is_open {
                assert_eq!(
                    answer.header("www-authenticate"),
                    Some("Bearer realm=\"atalaya\"")
                );
            }
        }
    }
}

/// A token that is no longer good is 401 everywhere.
async fn dead_token_no_answer(client: &Client, token: &str, what: &str) {
    let dead = client.with_token(token);
    for (path, methods) in ROUTES {
        for method in *methods {
            let address = path.replace(['{', '}'], "");
            let request = dead.request(method.parse().unwrap(), &address);
            let answer = finish(request.send()).await.unwrap();
            assert_eq!(
                answer.status,
                401,
                "{method} {path}, {what}: {}",
                answer.text()
            );
            assert_eq!(answer.code(), "token_invalido", "{method} {path}, {what}");
        }
    }
}

/// A method, an address that is another's and one that is nobody's, and a body for each.
type Pair = (&'static str, [String; 2], [Option<Value>; 2]);

/// What belongs to another company answers like what is not there, word for word.
#[actix_web::test]
async fn what_is_anothers_answers_like_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(crate::support::device::now() * 1_000_000));
    let client = start(&now, folder.path()).await;
    let place = furnish(&client).await;
    let roles = json!([{"rol": "cajero", "empresa": "otra"}, {"rol": "operador", "empresa": "otra"},
        {"rol": "auditor", "empresa": "otra"}]);
    let foreign = client.with_token(&make_token_for(&client, "otra", &roles).await);
    let device = format!("boton-{MARK}");
    let (alert, suspect) = (place.alert().await, place.suspect().await);
    let no_alert = "01990000-0000-7000-8000-000000000000";
    let money = json!({"monto": 1});
    let rule = |company: &str| json!({"nombre": "r", "empresa": company, "orden": 9, "condicion": "true", "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
    let thing = |company: &str| json!({"hardware": "nuevo", "empresa": company, "sede": "principal", "tipo": "BOTONERA"});
    let own_rule = place.rule.to_string();
    let pairs: Vec<Pair> = vec![
        (
            "GET",
            ["cuentas/1111".into(), "cuentas/4444".into()],
            [None, None],
        ),
        (
            "GET",
            [
                "cuentas/1111/movimientos".into(),
                "cuentas/4444/movimientos".into(),
            ],
            [None, None],
        ),
        (
            "POST",
            ["cuentas/1111/retiros".into(), "cuentas/4444/retiros".into()],
            [Some(money.clone()), Some(money)],
        ),
        (
            "POST",
            ["transferencias".into(), "transferencias".into()],
            [
                Some(json!({"cedula_origen": "2222", "cedula_destino": "1111", "monto": 1})),
                Some(json!({"cedula_origen": "2222", "cedula_destino": "4444", "monto": 1})),
            ],
        ),
        (
            "GET",
            [format!("alertas/{alert}"), format!("alertas/{no_alert}")],
            [None, None],
        ),
        (
            "GET",
            ["empresas/banco".into(), "empresas/nada".into()],
            [None, None],
        ),
        (
            "GET",
            [
                "sedes/banco/principal".into(),
                "sedes/nada/principal".into(),
            ],
            [None, None],
        ),
        (
            "GET",
            [format!("hardware/{device}"), "hardware/nada".into()],
            [None, None],
        ),
        (
            "GET",
            [format!("reglas/{own_rule}"), "reglas/999999".into()],
            [None, None],
        ),
        (
            "GET",
            [format!("cuarentena/{suspect}"), "cuarentena/999999".into()],
            [None, None],
        ),
        (
            "GET",
            [format!("usuarios/ana-{MARK}"), "usuarios/nada".into()],
            [None, None],
        ),
        (
            "POST",
            ["reglas".into(), "reglas".into()],
            [Some(rule("banco")), Some(rule("nada"))],
        ),
        (
            "POST",
            ["hardware".into(), "hardware".into()],
            [Some(thing("banco")), Some(thing("nada"))],
        ),
        (
            "POST",
            ["alertas".into(), "alertas".into()],
            [
                Some(json!({"hardware": device, "tipo_alarma": "ROJO"})),
                Some(json!({"hardware": "nada", "tipo_alarma": "ROJO"})),
            ],
        ),
    ];
    for (method, paths, bodies) in pairs {
        let mut answers = Vec::new();
        for (path, body) in paths.iter().zip(bodies) {
            let request = foreign
                .request(method.parse().unwrap(), &format!("/api/v1/{path}"))
                .insert_header(("Idempotency-Key", format!("k{}", place.number())));
            let sent = match body {
                Some(body) => request
                    .insert_header(("content-type", "application/json"))
                    .send_body(body.to_string()),
                None => request.send(),
            };
            let answer = finish(sent).await.unwrap();
            answers.push((answer.status, answer.text()));
        }
        assert_eq!(answers[0], answers[1], "{method} {paths:?}");
        assert_eq!(answers[0].0, 404, "{method} {paths:?}: {}", answers[0].1);
    }
}

/// A session ends when it is unused for an hour, and after twelve hours however much it is used.
#[actix_web::test]
async fn a_session_ends_unused_and_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(crate::support::device::now() * 1_000_000));
    let client = start(&now, folder.path()).await;
    let minutes = |count: i64| now.fetch_add(count * 60_000_000, Ordering::Relaxed);
    let enter = async || {
        let body = json!({"usuario": "admin", "contrasena": "correct horse battery"});
        let nobody = client.anonymous();
        let entered = nobody
            .changes(Method::POST, "/api/v1/sesiones", &body, 201)
            .await;
        client.with_token(entered["token"].as_str().unwrap())
    };
    let is_in = async |who: &Client| {
        let answer = who.get("/api/v1/sesiones/actual").await.unwrap();
        assert!(matches!(answer.status, 200 | 401), "{}", answer.text());
        answer.status == 200
    };
    let idle = enter().await;
    minutes(59);
    assert!(is_in(&idle).await, "used within the hour");
    minutes(61);
    assert!(!is_in(&idle).await, "unused for an hour");
    minutes(-30);
    let busy = enter().await;
    for half_hour in 1..24 {
        minutes(30);
        assert!(is_in(&busy).await, "in use, {half_hour} half hours");
    }
    minutes(31);
    assert!(!is_in(&busy).await, "twelve hours are over");
}
