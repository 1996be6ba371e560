//! How servers reach each other: told by a word, and by the access to what stands between them.

use serde::Deserialize;

#[cfg(feature = "nats")]
use super::wrong;
use super::{Given, SettingsError};
use crate::transport::Way;

/// How servers reach each other, as it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GivenTransport {
    /// Each dials the others.
    #[default]
    Tcp,
    /// Through a NATS server.
    #[cfg(feature = "nats")]
    Nats,
}

impl std::str::FromStr for GivenTransport {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            #[cfg(feature = "nats")]
            "nats" => Ok(Self::Nats),
            _ => Err("expected tcp, or nats if the program was built with the feature nats".into()),
        }
    }
}

/// Settles how servers reach each other.
#[cfg(feature = "nats")]
pub(super) fn settle(given: &Given) -> Result<Way, SettingsError> {
    match (given.transport.unwrap_or_default(), &given.nats) {
        (GivenTransport::Tcp, None) => Ok(Way::Direct),
        (GivenTransport::Tcp, Some(_)) => {
            wrong("nats", "found a NATS server, but transport is not \"nats\"")
        }
        (GivenTransport::Nats, Some(access)) if !access.servers.is_empty() => {
            Ok(Way::Nats(Box::new(access.clone())))
        }
        (GivenTransport::Nats, _) => {
            wrong("nats.servers", "missing, expected URLs such as \"nats://127.0.0.1:4222\"")
        }
    }
}

#[cfg(not(feature = "nats"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(super) fn settle(_: &Given) -> Result<Way, SettingsError> {
    Ok(Way::Direct)
}

#[cfg(all(test, feature = "nats"))]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const FILE: &str = "name = 'n1'\nlisten = ':1'\ndir = 'd'\ninsecure_plaintext = true\n\
        stream = [{ name = 'S', subjects = ['s'] }]\npeers = { n2 = '' }\n";

    fn settings(text: &str) -> Result<Settings, String> {
        let given: Given = toml::from_str(text).map_err(|error| error.to_string())?;
        Settings::try_from(given).map_err(|error| error.to_string())
    }

    #[test]
    fn peers_behind_a_nats_server_need_no_address() {
        let error = settings(FILE).expect_err("n2 is nowhere");
        assert!(error.contains("found no address for \"n2\""), "{error}");
        let error = settings(&format!("{FILE}transport = 'nats'")).expect_err("no server");
        assert!(error.contains("nats.servers: missing"), "{error}");
        let nats = "nats = { servers = ['nats://here'], credentials = 'a.creds' }";
        let found = settings(&format!("{FILE}{nats}\ntransport = 'nats'")).expect("sound");
        let Way::Nats(access) = found.way else { panic!("not through NATS") };
        assert_eq!(access.servers, ["nats://here"]);
        let error = settings(&format!("{FILE}{nats}").replace("''", "'a:1'")).expect_err("TCP");
        assert!(error.contains("nats: found a NATS server"), "{error}");
        let error = settings(&format!("{FILE}transport = 'pigeon'")).expect_err("no such way");
        assert!(error.contains("unknown variant `pigeon`"), "{error}");
    }
}
