//! What the plugin should have, and the commands that bring it there. Pure.

use crate::domain::DeviceAddress;
use crate::wire::topics;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What the description of each client of ours begins with; behind it stands a fingerprint of the
/// password, since the plugin tells none and a changed one must be noticed.
const MARK: &str = "atalaya:";

/// A device that may sign in.
pub(super) struct DeviceUser {
    pub(super) address: DeviceAddress,
    /// Whether it and all above it are switched on.
    pub(super) active: bool,
    pub(super) password: String,
}

/// What the registry says.
pub(super) struct Desired {
    pub(super) devices: Vec<DeviceUser>,
}

/// What a role allows: pairs of type and topic.
pub(super) type Rights = BTreeSet<(String, String)>;

/// A client as the plugin has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ClientState {
    pub(super) description: String,
    pub(super) client_id: String,
    pub(super) disabled: bool,
    pub(super) roles: BTreeSet<String>,
}

/// What the plugin has.
#[derive(Debug, Default)]
pub(super) struct Actual {
    pub(super) clients: BTreeMap<String, ClientState>,
    pub(super) roles: BTreeMap<String, Rights>,
    /// What is allowed where no role says anything, by type.
    pub(super) defaults: BTreeMap<String, bool>,
}

/// One command, and what it does in words.
pub(super) struct Step {
    pub(super) command: Value,
    pub(super) said: String,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    fn step(&mut self, command: Value, said: impl Into<String>) {
        self.steps.push(Step {
            command,
            said: said.into(),
        });
    }
}

/// The commands from `actual` to `desired`.
pub(super) fn plan(desired: &Desired, actual: &Actual) -> Plan {
    let mut plan = Plan::default();
    defaults(actual, &mut plan);
    for (name, rights) in standing_roles() {
        role(name, &rights, actual, &mut plan);
    }
    for device in &desired.devices {
        role(
            &role_of(&device.address),
            &rights_of(&device.address),
            actual,
            &mut plan,
        );
        client(device, actual, &mut plan);
    }
    let names: BTreeSet<&str> = desired
        .devices
        .iter()
        .map(|d| d.address.device.as_str())
        .collect();
    for (name, state) in &actual.clients {
        if state.description.starts_with(MARK) && !names.contains(name.as_str()) {
            let command = json!({"command": "deleteClient", "username": name});
            plan.step(command, format!("- usuario {name}: ya no tiene contraseña"));
        }
    }
    plan
}

/// Without a role nothing is published and nothing read.
fn defaults(actual: &Actual, plan: &mut Plan) {
    let wanted = [("publishClientSend", false), ("subscribe", false)];
    let wrong: Vec<Value> = wanted
        .iter()
        .filter(|(kind, allow)| actual.defaults.get(*kind) != Some(allow))
        .map(|(kind, allow)| json!({"acltype": kind, "allow": allow}))
        .collect();
    if !wrong.is_empty() {
        let command = json!({"command": "setDefaultACLAccess", "acls": wrong});
        plan.step(command, "~ por defecto: ni publicar ni suscribirse");
    }
}

/// Roles for an administrator to give: everything under `banco/` but the statistics says balances.
fn standing_roles() -> Vec<(&'static str, Rights)> {
    let rights = |writes: &[&str], reads: &[&str]| -> Rights {
        let writes = writes.iter().map(|topic| ("publishClientSend", topic));
        let reads = reads.iter().map(|topic| ("subscribePattern", topic));
        let all = writes.chain(reads);
        all.map(|(kind, topic)| (kind.to_owned(), (*topic).to_owned()))
            .collect()
    };
    vec![
        (
            "atalaya-servidor",
            rights(
                &[
                    "banco/#",
                    "atalaya/#",
                    "empresas/+/+/+/respuesta",
                    "empresas/+/+/+/comando",
                    "empresas/+/alertas",
                ],
                &["atalaya/#", topics::EVERY_ALERT, topics::EVERY_STATUS],
            ),
        ),
        (
            "atalaya-auditor",
            rights(&[], &["banco/#", "atalaya/#", "empresas/#"]),
        ),
        (
            "atalaya-suscriptor",
            rights(&[], &[topics::STATISTICS, topics::PRESENCE]),
        ),
    ]
}

fn role_of(device: &DeviceAddress) -> String {
    format!("atalaya-hardware-{}", device.device)
}

fn rights_of(device: &DeviceAddress) -> Rights {
    let writes = [topics::alert(device), topics::status(device)];
    let reads = [topics::reply(device), topics::command(device)];
    let writes = writes
        .into_iter()
        .map(|t| ("publishClientSend".to_owned(), t));
    let reads = reads
        .into_iter()
        .map(|t| ("subscribeLiteral".to_owned(), t));
    writes.chain(reads).collect()
}

fn role(name: &str, rights: &Rights, actual: &Actual, plan: &mut Plan) {
    let command = match actual.roles.get(name) {
        Some(found) if found == rights => return,
        Some(_) => "modifyRole",
        None => "createRole",
    };
    let acls: Vec<Value> = rights
        .iter()
        .map(|(kind, topic)| json!({"acltype": kind, "topic": topic, "allow": true}))
        .collect();
    let sign = if command == "createRole" { '+' } else { '~' };
    let command = json!({"command": command, "rolename": name, "acls": acls});
    plan.step(command, format!("{sign} rol {name}"));
}

fn client(device: &DeviceUser, actual: &Actual, plan: &mut Plan) {
    let name = device.address.device.as_str();
    let description = format!("{MARK}{}", fingerprint(&device.password));
    let roles = BTreeSet::from([role_of(&device.address)]);
    let role_list = json!([{"rolename": role_of(&device.address)}]);
    let Some(found) = actual.clients.get(name) else {
        let command = json!({"command": "createClient", "username": name, "clientid": name,
            "password": device.password, "textdescription": description, "roles": role_list});
        plan.step(command, format!("+ usuario {name}"));
        if !device.active {
            switch(name, false, plan);
        }
        return;
    };
    if !found.description.starts_with(MARK) {
        plan.warnings.push(format!(
            "el usuario {name} del broker no lo hizo Atalaya y se deja como está; el dispositivo \
             {name} no entra con su contraseña"
        ));
        return;
    }
    if found.description != description || found.roles != roles || found.client_id != name {
        let command = json!({"command": "modifyClient", "username": name, "clientid": name,
            "password": device.password, "textdescription": description, "roles": role_list});
        plan.step(command, format!("~ usuario {name}: contraseña o rol"));
    }
    if found.disabled == device.active {
        switch(name, device.active, plan);
    }
}

fn switch(name: &str, on: bool, plan: &mut Plan) {
    let (command, said) = if on {
        ("enableClient", "entra otra vez")
    } else {
        ("disableClient", "desactivado, y fuera")
    };
    let command = json!({"command": command, "username": name});
    plan.step(command, format!("~ usuario {name}: {said}"));
}

/// Tells a password from another without telling it: it has 256 random bits.
fn fingerprint(password: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"atalaya/broker-sync/v1\0");
    hasher.update(password.as_bytes());
    crate::wire::alerts::hex(&hasher.finalize())[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, active: bool, password: &str) -> DeviceUser {
        DeviceUser {
            address: format!("banco/norte/{name}").parse().unwrap(),
            active,
            password: password.to_owned(),
        }
    }

    fn said(desired: &Desired, actual: &Actual) -> Vec<String> {
        let plan = plan(desired, actual);
        plan.steps.into_iter().map(|step| step.said).collect()
    }

    /// What the plugin has once everything was done.
    fn settled(desired: &Desired) -> Actual {
        let mut actual = Actual {
            defaults: [("publishClientSend", false), ("subscribe", false)]
                .map(|(kind, allow)| (kind.to_owned(), allow))
                .into(),
            ..Actual::default()
        };
        for (name, rights) in standing_roles() {
            actual.roles.insert(name.to_owned(), rights);
        }
        for device in &desired.devices {
            let name = device.address.device.to_string();
            let role = role_of(&device.address);
            actual
                .roles
                .insert(role.clone(), rights_of(&device.address));
            let state = ClientState {
                description: format!("{MARK}{}", fingerprint(&device.password)),
                client_id: name.clone(),
                disabled: !device.active,
                roles: [role].into(),
            };
            actual.clients.insert(name, state);
        }
        actual
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let desired = Desired {
            devices: vec![device("a", true, "x"), device("b", false, "y")],
        };
        assert_eq!(said(&desired, &settled(&desired)), [""; 0]);
    }

    #[test]
    fn each_difference_is_a_command() {
        let desired = Desired {
            devices: vec![
                device("a", true, "new"),
                device("b", false, "y"),
                device("c", true, "z"),
            ],
        };
        let before = Desired {
            devices: vec![
                device("a", true, "old"),
                device("b", true, "y"),
                device("d", true, "w"),
            ],
        };
        let mut actual = settled(&before);
        actual.defaults.insert("subscribe".to_owned(), true);
        actual.roles.get_mut("atalaya-hardware-b").unwrap().clear();
        assert_eq!(
            said(&desired, &actual),
            [
                "~ por defecto: ni publicar ni suscribirse",
                "~ usuario a: contraseña o rol",
                "~ rol atalaya-hardware-b",
                "~ usuario b: desactivado, y fuera",
                "+ rol atalaya-hardware-c",
                "+ usuario c",
                "- usuario d: ya no tiene contraseña",
            ]
        );
    }

    #[test]
    fn what_others_made_is_not_touched() {
        let desired = Desired {
            devices: vec![device("a", true, "x")],
        };
        let mut actual = settled(&desired);
        for name in ["a", "admin"] {
            let state = ClientState::default();
            actual.clients.insert(name.to_owned(), state);
        }
        let plan = plan(&desired, &actual);
        assert!(plan.steps.is_empty());
        assert_eq!(plan.warnings.len(), 1);
    }
}
