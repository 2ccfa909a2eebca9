//! The yardstick of the benchmark: an actix-web handler that takes the same request as a deposit,
//! parses it as strictly and answers the same JSON, and stores nothing.
//!
//! `cargo run --release --example bare -- PORT`

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use atalaya::domain::Money;
use atalaya::wire::events::{Transaction, kind_name};
use atalaya::wire::numbers::{Decimal, Moment};
use atalaya::wire::requests::{self, MovementBody};
use uuid::Uuid;

async fn deposit(
    request: HttpRequest,
    account: web::Path<String>,
    body: web::Bytes,
) -> Option<HttpResponse> {
    request.headers().get(CONTENT_TYPE)?;
    request.headers().get("Idempotency-Key")?.to_str().ok()?;
    let account = requests::account_id(&account).ok()?;
    let body: MovementBody = serde_json::from_slice(&body).ok()?;
    let amount = requests::amount(&body.monto).ok()?;
    Some(HttpResponse::Created().json(Transaction {
        cedula: account.as_str(),
        tipo: kind_name(atalaya::domain::PostingKind::Deposit),
        monto: Decimal(amount.money()),
        saldo_nuevo: Decimal(Money::from_cents(115_000)),
        timestamp: Moment(atalaya::clock::Clock::system().now()),
        tx_id: Uuid::now_v7(),
        version: 42,
    }))
}

async fn handler(
    request: HttpRequest,
    account: web::Path<String>,
    body: web::Bytes,
) -> HttpResponse {
    deposit(request, account, body)
        .await
        .unwrap_or_else(|| HttpResponse::BadRequest().finish())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(5999);
    HttpServer::new(|| {
        App::new().route(
            "/api/v1/cuentas/{cedula}/depositos",
            web::post().to(handler),
        )
    })
    .bind(("127.0.0.1", port))?
    .run()
    .await
}
