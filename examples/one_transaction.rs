//! What a benchmark compares the group commit with: the same deposits on the same MariaDB, each in a
//! transaction of its own, as a service would write it that has no groups.
//!
//! `cargo run --release --features mysql --example one_transaction -- PORT URL`
//!
//! It does what a deposit cannot do without: the key that it comes under is looked at by a unique
//! index, the balance is changed under a lock, the movement is written, and then it is committed. It
//! has no chain, no outbox and no refusals, so it is the cheaper of the two for each request.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use sha2::{Digest, Sha256};

type Connections = r2d2::Pool<Server>;

/// Where the database is.
struct Server(String);

impl r2d2::ManageConnection for Server {
    type Connection = MysqlConnection;
    type Error = ConnectionError;

    fn connect(&self) -> ConnectionResult<MysqlConnection> {
        MysqlConnection::establish(&self.0)
    }

    fn is_valid(&self, _: &mut MysqlConnection) -> ConnectionResult<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut MysqlConnection) -> bool {
        false
    }
}

/// Connections at once: more wait for each other's flushes and locks without being faster.
const CONNECTIONS: u32 = 16;

#[derive(QueryableByName)]
struct Balance {
    #[diesel(sql_type = BigInt)]
    balance: i64,
}

fn deposit(connections: &Connections, account: &str, key: &str) -> Result<i64, String> {
    let mut connection = connections.get().map_err(|e| e.to_string())?;
    let digest: [u8; 32] = Sha256::digest(key).into();
    let done = connection.transaction::<i64, diesel::result::Error, _>(|connection| {
        let found: Balance =
            diesel::sql_query("SELECT balance FROM plain_accounts WHERE id = ? FOR UPDATE")
                .bind::<Text, _>(account)
                .get_result(connection)?;
        let balance = found.balance + 100;
        diesel::sql_query("UPDATE plain_accounts SET balance = ? WHERE id = ?")
            .bind::<BigInt, _>(balance)
            .bind::<Text, _>(account)
            .execute(connection)?;
        diesel::sql_query(
            "INSERT INTO plain_movements (account, amount, balance, idempotency) VALUES (?, 100, ?, ?)",
        )
        .bind::<Text, _>(account)
        .bind::<BigInt, _>(balance)
        .bind::<Binary, _>(digest[..16].to_vec())
        .execute(connection)?;
        Ok(balance)
    });
    done.map_err(|e| e.to_string())
}

async fn handle(
    request: HttpRequest,
    account: web::Path<String>,
    connections: web::Data<Connections>,
) -> HttpResponse {
    let key = request.headers().get("Idempotency-Key");
    let Some(key) = key.and_then(|key| key.to_str().ok()).map(str::to_owned) else {
        return HttpResponse::BadRequest().finish();
    };
    let account = account.into_inner();
    match web::block(move || deposit(&connections, &account, &key)).await {
        Ok(Ok(balance)) => HttpResponse::Created().json(balance),
        Ok(Err(error)) => HttpResponse::InternalServerError().body(error),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

fn prepare(connections: &Connections) -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = connections.get()?;
    connection.batch_execute(
        "CREATE TABLE IF NOT EXISTS plain_accounts (id VARCHAR(20) PRIMARY KEY, balance BIGINT NOT NULL) ENGINE = InnoDB; \
         CREATE TABLE IF NOT EXISTS plain_movements (id BIGINT PRIMARY KEY AUTO_INCREMENT, \
             account VARCHAR(20) NOT NULL, amount BIGINT NOT NULL, balance BIGINT NOT NULL, \
             idempotency BINARY(16) NOT NULL UNIQUE, INDEX of_account (account, id)) ENGINE = InnoDB; \
         INSERT IGNORE INTO plain_accounts SELECT LPAD(seq, 10, '0'), 0 FROM seq_0_to_999;",
    )?;
    Ok(())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("PORT")?.parse()?;
    let url = arguments.next().ok_or("URL")?;
    // Looked at once, as a service would whose server does not go away.
    let connections = r2d2::Pool::builder()
        .max_size(CONNECTIONS)
        .test_on_check_out(false)
        .build(Server(url))?;
    prepare(&connections)?;
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(connections.clone()))
            .route("/api/v1/cuentas/{cedula}/depositos", web::post().to(handle))
    })
    .bind(("127.0.0.1", port))?
    .run()
    .await?;
    Ok(())
}
