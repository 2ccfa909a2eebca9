//! Who signs in where: a broker that asks for passwords is in this book by its port.
//!
//! Devices come in by themselves: whoever registers one at an Atalaya with an embedded broker gets it
//! a password too. A person is whoever [`set_person`] says, for all clients that are no devices.

use super::Client;
use awc::http::Method;
use rumqttc::v5::MqttOptions;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard};

#[derive(Default)]
struct Book {
    /// The port of the broker by the address of the API.
    brokers: HashMap<String, u16>,
    people: HashMap<u16, (String, String)>,
    devices: HashMap<(u16, String), String>,
}

static BOOK: LazyLock<Mutex<Book>> = LazyLock::new(Mutex::default);

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap()
}

/// The Atalaya whose API is at `base` has its broker at `port`, and asks who comes.
pub fn open(base: &str, port: u16) {
    book().brokers.insert(base.to_owned(), port);
}

/// Clients at `port` that are no devices sign in so.
pub fn set_person(port: u16, user: &str, password: &str) {
    let login = (user.to_owned(), password.to_owned());
    book().people.insert(port, login);
}

/// A device signs in at `port` with this password.
pub fn set_device(port: u16, device: &str, password: &str) {
    let key = (port, device.to_owned());
    book().devices.insert(key, password.to_owned());
}

/// Whether the client id belongs to a device that can sign in at `port`.
pub fn is_device(port: u16, id: &str) -> bool {
    book().devices.contains_key(&(port, id.to_owned()))
}

/// The user and password of the client called `id`, as far as the book knows.
pub fn of(port: u16, id: &str) -> Option<(String, String)> {
    let book = book();
    let device = book.devices.get(&(port, id.to_owned()));
    let device = device.map(|password| (id.to_owned(), password.clone()));
    device.or_else(|| book.people.get(&port).cloned())
}

/// Signs the client called `id` in, as far as the book knows how.
pub fn sign_in(options: &mut MqttOptions, port: u16, id: &str) {
    if let Some((user, password)) = of(port, id) {
        options.set_credentials(user, password);
    }
}

/// Has a password made for a device, and writes it down where its broker asks for one.
pub async fn new_password(client: &Client, device: &str) -> String {
    let path = format!("/api/v1/hardware/{device}/contrasena_mqtt");
    let made = client.changes(Method::POST, &path, &json!({}), 201).await;
    assert_eq!(made["usuario"], device);
    let password = made["contrasena"].as_str().expect("shown once").to_owned();
    let port = book().brokers.get(client.base()).copied();
    if let Some(port) = port {
        set_device(port, device, &password);
    }
    password
}

/// The same for a device that has just been registered, where it is of any use.
pub async fn enrol(client: &Client, device: &str) {
    let is_asked = book().brokers.contains_key(client.base());
    if is_asked {
        new_password(client, device).await;
    }
}
