//! Who comes in at the broker, and what they may do there: devices by their passwords.

use crate::support::device::{Device, register};
use crate::support::hub::assert_refused;
use crate::support::{Atalaya, Client, audit};
use atalaya::domain::device::{PasswordDigest, Secret};
use atalaya::storage::registry_queries::{BrokerLogin, broker_logins};
use atalaya::storage::vault::Vault;
use awc::http::Method;
use serde_json::json;

/// Has a password made for a device.
async fn new_password(client: &Client, device: &str) -> String {
    let path = format!("/api/v1/hardware/{device}/contrasena_mqtt");
    let made = client.changes(Method::POST, &path, &json!({}), 201).await;
    assert_eq!(made["usuario"], device);
    made["contrasena"].as_str().expect("shown once").to_owned()
}

/// How devices sign in, as another program reads it.
fn logins(atalaya: &Atalaya) -> Vec<BrokerLogin> {
    let vault = Vault::open(&atalaya.folder().join("data/device-kek"), true).unwrap();
    broker_logins(&mut audit::open(&atalaya.database()), &vault).unwrap()
}

/// Ends a device's password.
async fn remove_password(client: &Client, device: &str) {
    let path = format!("/api/v1/hardware/{device}/contrasena_mqtt");
    assert_eq!(client.bare(Method::DELETE, &path).await.status, 204);
}

#[actix_web::test]
async fn a_password_is_shown_once_and_kept_sealed() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    Device::enrol(&client, "boton-1").await;
    register(&client, "banco", "principal", "boton-2", "BOTONERA").await;
    let state = async || client.json("/api/v1/hardware/boton-1").await["contrasena_mqtt"].clone();
    assert!(state().await.is_null());
    let first = new_password(&client, "boton-1").await;
    let second = new_password(&client, "boton-1").await;
    assert_ne!(first, second);
    assert!(state().await.is_string());
    let nobody = client
        .bare(Method::POST, "/api/v1/hardware/nadie/contrasena_mqtt")
        .await;
    assert_refused(&nobody, 404, "hardware_no_existe", "no such device");
    let inactive = json!({"activo": false});
    let path = "/api/v1/hardware/boton-2";
    client.changes(Method::PATCH, path, &inactive, 200).await;

    let found: Vec<_> = logins(&atalaya)
        .iter()
        .map(|login| {
            let password = login.password.as_ref().map(Secret::reveal);
            (login.address.to_string(), login.active, password)
        })
        .collect();
    let expected = [
        (
            "banco/principal/boton-1".to_owned(),
            true,
            Some(second.clone()),
        ),
        ("banco/principal/boton-2".to_owned(), false, None),
    ];
    assert_eq!(found, expected);
    let secret = logins(&atalaya).remove(0).password.unwrap();
    assert!(PasswordDigest::of(&secret).admits(second.as_bytes()));

    // In no file but the one that seals it, which holds another secret.
    atalaya.terminate().await;
    for entry in walkdir(atalaya.folder()) {
        let content = std::fs::read(&entry).unwrap();
        for secret in [first.as_bytes(), second.as_bytes(), &secret.0] {
            let found = content.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!found, "a password is in {}", entry.display());
        }
    }
    audit(&atalaya.database()).unwrap();

    atalaya.start().await;
    assert!(state().await.is_string(), "it outlives a restart");
    remove_password(&client, "boton-1").await;
    remove_password(&client, "boton-1").await;
    assert!(state().await.is_null());
    assert!(logins(&atalaya)[0].password.is_none());
}

#[actix_web::test]
async fn passwords_do_not_open_without_their_key_file() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    new_password(&client, "boton-1").await;
    atalaya.terminate().await;
    std::fs::remove_file(atalaya.folder().join("data/device-kek")).unwrap();
    let ended = atalaya.command().output().unwrap();
    assert!(!ended.status.success());
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(error.contains("DEVICE_KEK_FILE"), "{error}");
}

/// All files below `folder`.
fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walkdir(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
