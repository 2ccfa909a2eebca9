//! Which broker a client subcommand talks to.

use super::token::TokenArgs;
use crate::config::{ConfigError, Login, MqttCredentials, MqttTlsArgs};
use crate::domain::Slug;
use crate::tls::ClientTls;
use std::fmt;

/// Where `atalaya serve` puts its embedded broker.
const DEFAULT_HOST: &str = "127.0.0.1";
/// The port registered for MQTT without TLS.
const DEFAULT_PORT: u16 = 1883;

/// The broker and how to sign in there.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct BrokerArgs {
    /// Host of the broker
    #[arg(long, env = "MQTT_BROKER_HOST", default_value = DEFAULT_HOST, value_parser = host, help_heading = "MQTT")]
    pub(in crate::cli) host: String,

    /// Port of the broker
    #[arg(long, env = "MQTT_BROKER_PORT", default_value_t = DEFAULT_PORT, value_parser = port, help_heading = "MQTT")]
    pub(in crate::cli) port: u16,

    #[command(flatten)]
    credentials: MqttCredentials,

    #[command(flatten)]
    tls: MqttTlsArgs,
}

impl fmt::Display for BrokerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl BrokerArgs {
    /// How to sign in. Compose files and `.env` pass unset variables on as empty ones, so an empty
    /// user is none.
    ///
    /// # Errors
    /// [`ConfigError`] where the password's file cannot be read.
    pub(in crate::cli) fn login(&self) -> Result<Option<Login>, ConfigError> {
        let named = self.credentials.resolve()?;
        Ok(named.filter(|login| !login.user.is_empty()))
    }

    /// How a person signs in: as the command line says, or with the token that they have.
    ///
    /// # Errors
    /// As [`BrokerArgs::login`].
    pub(in crate::cli) fn login_of_person(
        &self,
        token: &TokenArgs,
    ) -> Result<Option<Login>, ConfigError> {
        if let Some(login) = self.login()? {
            return Ok(Some(login));
        }
        let token = token.resolve()?;
        Ok(token.map(|token| Login {
            user: crate::mqtt::people::ANY_USER.to_owned(),
            password: token.reveal().to_owned(),
        }))
    }

    /// How to speak TLS, if it is to be spoken.
    ///
    /// # Errors
    /// [`ConfigError`] where a file is not what it should be.
    pub(in crate::cli) fn tls(&self) -> Result<Option<ClientTls>, ConfigError> {
        self.tls.resolve()
    }

    /// How a device signs in: as itself with the `password` of its own, unless the command line says
    /// another user or password.
    ///
    /// # Errors
    /// As [`BrokerArgs::login`].
    pub(in crate::cli) fn login_of(
        &self,
        device: &Slug,
        password: Option<&str>,
    ) -> Result<Login, ConfigError> {
        if let Some(login) = self.login()? {
            return Ok(login);
        }
        let credentials = MqttCredentials {
            mqtt_username: Some(device.to_string()),
            ..self.credentials.clone()
        };
        let given = credentials.resolve()?;
        Ok(given
            .filter(|login| !login.password.is_empty())
            .unwrap_or_else(|| Login {
                user: device.to_string(),
                password: password.unwrap_or_default().to_owned(),
            }))
    }
}

/// A host; an empty variable is an unset one.
#[allow(
    clippy::unnecessary_wraps,
    reason = "clap's value parsers answer with a Result"
)]
fn host(text: &str) -> Result<String, String> {
    let host = text.trim();
    Ok(if host.is_empty() { DEFAULT_HOST } else { host }.to_owned())
}

/// A port; an empty variable is an unset one.
fn port(text: &str) -> Result<u16, String> {
    match text.trim() {
        "" => Ok(DEFAULT_PORT),
        text => match text.parse() {
            Ok(0) | Err(_) => Err("expected a port from 1 to 65535".to_owned()),
            Ok(port) => Ok(port),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: BrokerArgs,
    }

    fn parse(flags: &[&str]) -> Result<BrokerArgs, clap::Error> {
        let words = std::iter::once("client").chain(flags.iter().copied());
        Wrapper::try_parse_from(words).map(|wrapper| wrapper.args)
    }

    #[test]
    fn empty_is_unset() {
        let args = parse(&["--host", "", "--port", "", "--mqtt-username", ""]).unwrap();
        assert_eq!(
            (args.host.as_str(), args.port),
            (DEFAULT_HOST, DEFAULT_PORT)
        );
        assert!(args.login().unwrap().is_none());
    }

    #[test]
    fn a_device_signs_in_as_itself() {
        let device = Slug::parse("boton-1").unwrap();
        let login = |flags: &[&str]| {
            let args = parse(flags).unwrap();
            args.login_of(&device, Some("own")).unwrap()
        };
        let plain = login(&[]);
        assert_eq!(
            (plain.user.as_str(), plain.password.as_str()),
            ("boton-1", "own")
        );
        let unknown = parse(&[]).unwrap().login_of(&device, None).unwrap();
        assert_eq!(unknown.password, "");
        let with_password = login(&["--mqtt-password", "p"]);
        assert_eq!(
            (with_password.user.as_str(), with_password.password.as_str()),
            ("boton-1", "p")
        );
        assert_eq!(login(&["--mqtt-username", "u"]).user, "u");
    }

    #[test]
    fn ports_are_numbers_above_zero() {
        for port in ["0", "x", "65536"] {
            assert!(parse(&["--port", port]).is_err(), "{port}");
        }
    }
}
