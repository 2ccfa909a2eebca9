//! What an embedded broker must be able to do, so that another library can take its place.

use crate::wire::topics;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// A broker that runs in this process.
pub trait EmbeddedBroker: Send {
    /// Where MQTT listens.
    fn tcp(&self) -> SocketAddr;

    /// Where MQTT over WebSocket listens.
    fn websocket(&self) -> SocketAddr;

    /// Stops it: clients are disconnected and what they have pending is stored.
    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Who may come in, and what they may do there. The access issue brings people and devices; until
/// then everybody on loopback may connect and subscribe, and only Atalaya may publish as Atalaya.
pub trait Gatekeeper: Send + Sync {
    /// The name under which a client is known from now on, or `None` to turn it away.
    fn authenticate(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<String>;

    /// Whether `user` may publish on `topic`, in its last will too.
    fn may_publish(&self, user: Option<&str>, topic: &str) -> bool;

    /// Whether `user` may subscribe to `filter`.
    fn may_subscribe(&self, user: Option<&str>, filter: &str) -> bool;
}

/// The user that Atalaya signs in as at its own broker.
pub const OWN_USER: &str = "atalaya";

/// The name of everybody else.
const GUEST: &str = "guest";

/// The gatekeeper of a loopback installation.
pub struct Loopback {
    /// Made anew at each start and known to this process alone.
    own_password: String,
    /// The client ids under which Atalaya publishes and listens; nobody else may push it out.
    own_client_ids: Vec<String>,
}

impl Loopback {
    /// A gatekeeper that knows Atalaya by this password and these client ids.
    #[must_use]
    pub const fn new(own_password: String, own_client_ids: Vec<String>) -> Self {
        Self {
            own_password,
            own_client_ids,
        }
    }
}

impl Gatekeeper for Loopback {
    fn authenticate(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<String> {
        let is_ours = self.own_client_ids.iter().any(|own| own == client_id);
        if user == Some(OWN_USER) {
            let right = password == Some(self.own_password.as_bytes());
            return (right && is_ours).then(|| OWN_USER.to_owned());
        }
        (!is_ours).then(|| GUEST.to_owned())
    }

    fn may_publish(&self, user: Option<&str>, topic: &str) -> bool {
        user == Some(OWN_USER) || !topics::is_reserved(topic)
    }

    fn may_subscribe(&self, _user: Option<&str>, _filter: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Loopback {
        Loopback::new(
            "secret".into(),
            vec!["atalaya-1".into(), "atalaya-1-intake".into()],
        )
    }

    #[test]
    fn nobody_else_is_atalaya() {
        let gate = gate();
        let own = |id, user, password: &str| gate.authenticate(id, user, Some(password.as_bytes()));
        assert_eq!(
            own("atalaya-1", Some(OWN_USER), "secret").as_deref(),
            Some(OWN_USER)
        );
        assert_eq!(own("atalaya-1", Some(OWN_USER), "guess"), None);
        assert_eq!(own("other", Some(OWN_USER), "secret"), None);
        assert_eq!(own("atalaya-1", None, ""), None);
        assert_eq!(own("other", Some("anyone"), "").as_deref(), Some(GUEST));
    }

    #[test]
    fn only_atalaya_publishes_as_atalaya() {
        let gate = gate();
        assert!(gate.may_publish(Some(OWN_USER), "banco/depositos"));
        assert!(!gate.may_publish(Some(GUEST), "banco/depositos"));
        assert!(!gate.may_publish(None, "atalaya/estado"));
        assert!(gate.may_publish(Some(GUEST), "empresas/e/s/h/alerta"));
    }
}
