//! What an embedded broker must be able to do, so that another library can take its place.

use crate::domain::device::PasswordDigest;
use crate::domain::registry::Device;
use crate::domain::{DeviceAddress, Registry, Slug};
use crate::storage::HubView;
use crate::wire::topics::{self, DeviceTopic};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// A broker that runs in this process.
pub trait EmbeddedBroker: Send {
    /// Where MQTT listens.
    fn tcp(&self) -> SocketAddr;

    /// Where MQTT over WebSocket listens.
    fn websocket(&self) -> SocketAddr;

    /// Stops it: clients are disconnected and what they have pending is stored.
    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Who may come in, and what they may do there.
pub trait Gatekeeper: Send + Sync {
    /// Who the client is, or `None` to turn it away.
    fn authenticate(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<Admission>;

    /// Whether a client that has come in may stay. It is asked of everybody who is connected, several
    /// times a second, so it must not wait for anything.
    fn still_admits(&self, client_id: &str, admission: &Admission) -> bool;

    /// Whether `user` may publish on `topic`, in its last will too.
    fn may_publish(&self, user: Option<&str>, topic: &str) -> bool;

    /// Whether `user` may subscribe to `filter`.
    fn may_subscribe(&self, user: Option<&str>, filter: &str) -> bool;

    /// Whether `user` has no client id of its own and takes one that is free.
    fn shares_ids(&self, user: &str) -> bool;

    /// Whether two users are the same device or person, whatever they may do.
    fn is_same(&self, one: &str, other: &str) -> bool;
}

/// Somebody who has come in. It has no `Debug`: what it has shown is its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Admission {
    /// The name under which the broker knows the client from now on. The same for the same device, or
    /// for the same person who may do the same, each time, or a session that is kept for them would
    /// not be theirs.
    pub user: String,
    /// Names the password or token that was shown: SHA-256 of it.
    pub grant: [u8; 32],
}

/// People and their programs at the broker. They listen there and never publish: what they want done
/// they ask over REST or WebSocket.
pub trait PeopleGate: Send + Sync {
    /// Who signs in as `user` with `password`, if anybody does. The admission's user is of this
    /// trait's own making; it comes back in the other calls.
    fn authenticate(&self, user: &str, password: &[u8]) -> Option<Admission>;

    /// Whether what was shown then still lets them in: as [`Gatekeeper::still_admits`].
    fn still_admits(&self, admission: &Admission) -> bool;

    /// Whether `person` may see what matches `filter`, which is without any `$share/…/`.
    fn may_subscribe(&self, person: &str, filter: &str) -> bool;
}

/// The user that Atalaya signs in as at its own broker.
pub const OWN_USER: &str = "atalaya";

/// What the names of devices and of people begin with at the broker, so that none is taken for
/// another or for Atalaya: no name of theirs has a slash.
const DEVICE: &str = "hardware/";
const PERSON: &str = "persona/";

/// The gatekeeper that goes by the registry: a device is its user and its client id, publishes what
/// is its own to say, and reads what is said to it. Nobody comes in without a password.
pub struct RegistryGate {
    /// Made anew at each start and known to this process alone.
    own_password: String,
    /// The client ids under which Atalaya publishes and listens; nobody else may push it out.
    own_client_ids: Vec<String>,
    view: Arc<HubView>,
    people: Arc<dyn PeopleGate>,
}

impl RegistryGate {
    /// A gatekeeper that knows Atalaya by this password and these client ids.
    #[must_use]
    pub const fn new(
        own_password: String,
        own_client_ids: Vec<String>,
        view: Arc<HubView>,
        people: Arc<dyn PeopleGate>,
    ) -> Self {
        Self {
            own_password,
            own_client_ids,
            view,
            people,
        }
    }

    fn is_own(&self, client_id: &str) -> bool {
        self.own_client_ids.iter().any(|own| own == client_id)
    }

    fn admit_own(&self, client_id: &str, password: &[u8]) -> Option<Admission> {
        let right = PasswordDigest::of_text(self.own_password.as_bytes());
        (right.admits(password) && self.is_own(client_id)).then(|| Admission {
            user: OWN_USER.to_owned(),
            grant: right.bytes(),
        })
    }

    /// The device that a client id names, heard or not. Its name is nobody else's client id.
    fn device(&self, client_id: &str) -> Option<(Arc<Registry>, Arc<Device>)> {
        let registry = self.view.registry();
        let device = Arc::clone(registry.device(&Slug::parse(client_id).ok()?)?);
        Some((registry, device))
    }

    /// Where the device is that the broker knows as `user`, if it is one.
    fn address_of(&self, user: &str) -> Option<DeviceAddress> {
        let (registry, device) = self.device(user.strip_prefix(DEVICE)?)?;
        registry.address_of(&device)
    }
}

impl Gatekeeper for RegistryGate {
    fn authenticate(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<Admission> {
        let (user, password) = (user?, password?);
        if user == OWN_USER && self.is_own(client_id) {
            return self.admit_own(client_id, password);
        }
        if self.is_own(client_id) {
            return None;
        }
        if let Some((registry, device)) = self.device(client_id) {
            let right = registry.password_of(device.row)?;
            let admitted =
                user == client_id && right.admits(password) && registry.is_heard(&device);
            return admitted.then(|| Admission {
                user: format!("{DEVICE}{}", device.slug),
                grant: right.bytes(),
            });
        }
        let person = self.people.authenticate(user, password)?;
        Some(Admission {
            user: format!("{PERSON}{}", person.user),
            ..person
        })
    }

    fn still_admits(&self, client_id: &str, admission: &Admission) -> bool {
        if admission.user == OWN_USER {
            return true;
        }
        let device = self.device(client_id);
        if let Some(person) = admission.user.strip_prefix(PERSON) {
            let person = Admission {
                user: person.to_owned(),
                grant: admission.grant,
            };
            return device.is_none() && self.people.still_admits(&person);
        }
        device.is_some_and(|(registry, device)| {
            let right = registry.password_of(device.row);
            right.is_some_and(|right| right.bytes() == admission.grant)
                && registry.is_heard(&device)
        })
    }

    fn may_publish(&self, user: Option<&str>, topic: &str) -> bool {
        let Some(user) = user else { return false };
        if user == OWN_USER {
            return true;
        }
        let own = self.address_of(user);
        match topics::device_topic(topic) {
            Some(DeviceTopic::Alert(address) | DeviceTopic::Status(address)) => {
                own == Some(address)
            }
            None => false,
        }
    }

    fn may_subscribe(&self, user: Option<&str>, filter: &str) -> bool {
        let Some(user) = user else { return false };
        if user == OWN_USER {
            return true;
        }
        let Some(filter) = unshared(filter) else {
            return false;
        };
        if let Some(person) = user.strip_prefix(PERSON) {
            return self.people.may_subscribe(person, filter);
        }
        // Letter by letter: a wildcard would be a filter of more than its own.
        self.address_of(user).is_some_and(|own| {
            [topics::reply(&own), topics::command(&own)]
                .iter()
                .any(|topic| topic == filter)
        })
    }

    fn shares_ids(&self, user: &str) -> bool {
        user.starts_with(PERSON)
    }

    fn is_same(&self, one: &str, other: &str) -> bool {
        // What they may do comes after the kind and the name.
        one.split('/').take(2).eq(other.split('/').take(2))
    }
}

/// What a filter selects, without the name of a group that shares it; `None` where it is no filter.
fn unshared(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, inner) = shared.split_once('/')?;
    (!group.is_empty() && !inner.is_empty()).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Label;
    use crate::domain::device::Secret;
    use crate::domain::registry::{Company, Site, Trust};
    use jiff::tz::TimeZone;

    const ONE: Secret = Secret([1; 32]);

    /// Two devices at one site, and one by the name of our own user.
    fn registry() -> Registry {
        let slug = |text: &str| Slug::parse(text).unwrap();
        let name = Label::parse("n").unwrap();
        let mut registry = Registry::default();
        registry.put_company(Company {
            row: 1,
            slug: slug("banco"),
            name: name.clone(),
            active: true,
            broker_trust: false,
        });
        registry.put_site(Site {
            row: 1,
            company: 1,
            slug: slug("norte"),
            name: name.clone(),
            time_zone: TimeZone::UTC,
            active: true,
        });
        for (row, device) in (1..).zip(["boton-1", "boton-2", "atalaya"]) {
            registry.put_device(Device {
                row,
                slug: slug(device),
                company: 1,
                site: 1,
                kind: slug("BOTONERA"),
                name: name.clone(),
                active: true,
                trust: Trust::Signature,
            });
        }
        registry.set_password(1, Some(PasswordDigest::of(&ONE)));
        registry.set_password(3, Some(PasswordDigest::of(&Secret([3; 32]))));
        registry
    }

    /// Somebody who sees alerts.
    struct Watcher;

    impl PeopleGate for Watcher {
        fn authenticate(&self, user: &str, password: &[u8]) -> Option<Admission> {
            (user == "ana" && password == b"token").then(|| Admission {
                user: "7".to_owned(),
                grant: [7; 32],
            })
        }

        fn still_admits(&self, admission: &Admission) -> bool {
            admission.user == "7" && admission.grant == [7; 32]
        }

        fn may_subscribe(&self, person: &str, filter: &str) -> bool {
            person == "7" && filter == "empresas/banco/alertas"
        }
    }

    fn gate() -> (RegistryGate, Arc<HubView>) {
        let view = Arc::new(HubView::default());
        view.show(registry());
        let own = vec!["atalaya-1".into(), "atalaya-1-intake".into()];
        let gate = RegistryGate::new("secret".into(), own, Arc::clone(&view), Arc::new(Watcher));
        (gate, view)
    }

    fn enter(gate: &RegistryGate, id: &str, user: &str, password: &str) -> Option<String> {
        let admission = gate.authenticate(id, Some(user), Some(password.as_bytes()))?;
        assert!(gate.still_admits(id, &admission));
        Some(admission.user)
    }

    #[test]
    fn nobody_else_is_atalaya() {
        let (gate, _) = gate();
        let own = |id, user, password: &str| enter(&gate, id, user, password);
        assert_eq!(
            own("atalaya-1", OWN_USER, "secret").as_deref(),
            Some(OWN_USER)
        );
        assert_eq!(own("atalaya-1", OWN_USER, "guess"), None);
        assert_eq!(own("other", OWN_USER, "secret"), None);
        assert_eq!(own("atalaya-1", "ana", "token"), None);
        // A device may be called so, and is no more than a device.
        let device = own("atalaya", OWN_USER, &Secret([3; 32]).reveal()).unwrap();
        assert!(!gate.may_publish(Some(&device), "banco/depositos"));
        assert!(gate.may_publish(Some(&device), "empresas/banco/norte/atalaya/alerta"));
        assert!(gate.may_publish(Some(OWN_USER), "banco/depositos"));
        assert!(gate.may_subscribe(Some(OWN_USER), "#"));
    }

    #[test]
    fn a_device_is_its_user_and_its_client_id() {
        let (gate, _) = gate();
        let password = ONE.reveal();
        let device = enter(&gate, "boton-1", "boton-1", &password);
        assert_eq!(device.as_deref(), Some("hardware/boton-1"));
        for (id, user, password) in [
            ("boton-1", "boton-1", ""),
            ("boton-1", "boton-1", "guess"),
            ("boton-1", "boton-2", &password),
            ("boton-2", "boton-1", &password),
            ("boton-2", "boton-2", &password),
            ("boton-2", "boton-2", ""),
            ("boton-1", "ana", "token"),
            ("other", "boton-1", &password),
            ("nadie", "nadie", &password),
            ("other", "ana", "guess"),
        ] {
            assert_eq!(enter(&gate, id, user, password), None, "{id} {user}");
        }
        for (user, password) in [
            (None, Some(&b"x"[..])),
            (Some("boton-1"), None),
            (None, None),
        ] {
            assert!(gate.authenticate("boton-1", user, password).is_none());
        }
    }

    #[test]
    fn a_device_has_its_own_topics_and_no_others() {
        let (gate, _) = gate();
        let own = "empresas/banco/norte/boton-1";
        let publishes = |topic: &str| gate.may_publish(Some("hardware/boton-1"), topic);
        let reads = |filter: &str| gate.may_subscribe(Some("hardware/boton-1"), filter);
        for leaf in ["alerta", "estado"] {
            assert!(publishes(&format!("{own}/{leaf}")));
            assert!(!publishes(&format!("empresas/banco/norte/boton-2/{leaf}")));
            assert!(!publishes(&format!("empresas/otra/norte/boton-1/{leaf}")));
            assert!(!publishes(&format!("$share/g/{own}/{leaf}")));
            assert!(!reads(&format!("{own}/{leaf}")));
        }
        for leaf in ["respuesta", "comando"] {
            assert!(!publishes(&format!("{own}/{leaf}")));
            assert!(reads(&format!("{own}/{leaf}")));
            assert!(reads(&format!("$share/g/{own}/{leaf}")));
            assert!(!reads(&format!("empresas/banco/norte/boton-2/{leaf}")));
            assert!(!reads(&format!("$share/g/empresas/banco/norte/+/{leaf}")));
        }
        for filter in [
            "#",
            "+/#",
            "banco/#",
            "atalaya/estado",
            "empresas/#",
            "empresas/banco/alertas",
            "empresas/banco/norte/+/respuesta",
            "empresas/banco/norte/boton-1/+",
            "empresas/banco/norte/boton-1/#",
            "empresas/banco/norte/boton-1/respuesta/#",
            "/empresas/banco/norte/boton-1/respuesta",
            "$share/g/#",
            "$share/#",
            "$share//empresas/banco/norte/boton-1/respuesta",
            "$share/empresas/banco/norte/boton-1/respuesta",
            "$SYS/#",
            "",
        ] {
            assert!(!reads(filter), "{filter}");
            assert!(!publishes(filter), "{filter}");
            assert!(!gate.may_subscribe(None, filter), "{filter}");
            assert!(!gate.may_subscribe(Some("guest"), filter), "{filter}");
        }
        for user in [
            None,
            Some("guest"),
            Some("boton-1"),
            Some("persona/boton-1"),
        ] {
            assert!(
                !gate.may_publish(user, &format!("{own}/alerta")),
                "{user:?}"
            );
        }
    }

    #[test]
    fn people_listen_and_never_publish() {
        let (gate, _) = gate();
        let ana = enter(&gate, "page-1", "ana", "token").unwrap();
        assert_eq!(ana, "persona/7");
        let reads = |filter: &str| gate.may_subscribe(Some(&ana), filter);
        assert!(reads("empresas/banco/alertas"));
        assert!(reads("$share/g/empresas/banco/alertas"));
        assert!(!reads("empresas/+/alertas"));
        assert!(!reads("$share/empresas/banco/alertas"));
        for topic in ["empresas/banco/norte/boton-1/alerta", "casa/luz", "banco/x"] {
            assert!(!gate.may_publish(Some(&ana), topic));
        }
        let admission = gate
            .authenticate("page-1", Some("ana"), Some(b"token"))
            .unwrap();
        let other = Admission {
            grant: [8; 32],
            ..admission.clone()
        };
        assert!(!gate.still_admits("page-1", &other), "another token");
        assert!(
            !gate.still_admits("boton-2", &admission),
            "a device by that name"
        );
    }

    #[test]
    fn what_ends_a_device_ends_its_stay() {
        let (gate, view) = gate();
        let password = ONE.reveal();
        let changes: [fn(&mut Registry); 5] = [
            |registry| registry.set_password(1, None),
            |registry| registry.set_password(1, Some(PasswordDigest::of(&Secret([9; 32])))),
            |registry| {
                let device = registry.device_at(1).unwrap().as_ref().clone();
                registry.put_device(Device {
                    active: false,
                    ..device
                });
            },
            |registry| {
                let site = registry.site_at(1).unwrap().as_ref().clone();
                registry.put_site(Site {
                    active: false,
                    ..site
                });
            },
            |registry| {
                let company = registry.company_at(1).unwrap().as_ref().clone();
                registry.put_company(Company {
                    active: false,
                    ..company
                });
            },
        ];
        for change in changes {
            view.show(registry());
            let shown = Some(password.as_bytes());
            let admission = gate
                .authenticate("boton-1", Some("boton-1"), shown)
                .unwrap();
            let mut after = registry();
            change(&mut after);
            view.show(after);
            assert!(!gate.still_admits("boton-1", &admission));
            assert_eq!(enter(&gate, "boton-1", "boton-1", &password), None);
        }
    }
}
