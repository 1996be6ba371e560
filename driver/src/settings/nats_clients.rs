//! What NATS clients are served: every stream, at the server that they are at.

use jetwake::config::{GroupConfig, GroupKind};
use jetwake::subject::collide;

use super::{Settings, SettingsError, wrong};
use crate::transport::Way;
use crate::transport::nats::{NatsAccess, ServedStream, Service};

/// Subjects that a stream must not take in: those of the API, of servers among themselves, and of
/// answers.
const RESERVED: [&str; 5] = ["$JS.>", "$JSC.>", "$NRG.>", "$SYS.>", "_INBOX.>"];

/// What is served; `all` are the names and subjects of the cluster's streams.
pub(super) fn service(
    access: NatsAccess,
    all: Vec<(String, Vec<String>)>,
    settings: &Settings,
) -> Result<Service, SettingsError> {
    if access.servers.is_empty() {
        return wrong(
            "nats_clients.servers",
            "missing, expected URLs such as \"nats://127.0.0.1:4222\"",
        );
    }
    if access.prefix.is_some() {
        return wrong("nats_clients.prefix", "subjects of clients have none");
    }
    let of_peers = match &settings.way {
        Way::Nats(peers) => peers.prefix.as_ref().map(|prefix| format!("{prefix}.>")),
        Way::Direct => None,
    };
    let mut streams = Vec::new();
    for (name, subjects) in all {
        let is_it = |group: &GroupConfig| matches!(&group.kind, GroupKind::Stream(stream) if stream.name == name);
        let kept = settings.groups.iter().any(is_it);
        for subject in &subjects {
            let reserved = RESERVED.into_iter().chain(of_peers.as_deref());
            let met = reserved.into_iter().find(|one| collide(one.as_bytes(), subject.as_bytes()));
            if let Some(met) = met {
                return wrong(
                    format!("stream {name}.subjects"),
                    format!("{subject:?} meets {met:?}, which is no client's to publish on"),
                );
            }
        }
        streams.push(ServedStream { name, subjects, kept });
    }
    // As lists tell them, and the same on every server.
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Service { access, streams, api: true })
}

#[cfg(test)]
mod tests {
    use super::super::Given;
    use super::*;

    const FILE: &str = "name = 'n1'\nlisten = ':1'\ndir = 'd'\ninsecure_plaintext = true\n\
        peers = { n2 = 'a:1' }\nnats_clients = { servers = ['nats://here'] }\n";

    fn service(streams: &str) -> Result<Service, String> {
        let given: Given = toml::from_str(&format!("{FILE}stream = [{streams}]\n"))
            .map_err(|error| error.to_string())?;
        let settings = Settings::try_from(given).map_err(|error| error.to_string())?;
        Ok(settings.nats_clients.expect("clients are served"))
    }

    #[test]
    fn streams_of_others_are_known_by_name() {
        let both = "{ name = 'A', subjects = ['a'], servers = ['n2'] }, \
                    { name = 'B', subjects = ['b.>'] }";
        let streams = service(both).expect("sound").streams;
        let named: Vec<_> = streams.iter().map(|one| (&one.name[..], one.kept)).collect();
        assert_eq!(named, [("A", false), ("B", true)]);
    }

    #[test]
    fn a_stream_takes_in_nothing_that_servers_say() {
        for subject in [">", "*.API.>", "$NRG.x", "_INBOX.>"] {
            let error = service(&format!("{{ name = 'A', subjects = ['{subject}'] }}"));
            let error = error.expect_err(subject);
            assert!(error.contains("stream A.subjects: "), "{error}");
        }
        let prefixed = "{ name = 'A', subjects = ['a.>'] }]\ntransport = 'nats'\n\
                        nats = { servers = ['nats://here'], prefix = 'a' }\npeers2 = [";
        let given = format!("{FILE}stream = [{prefixed}]\n").replace("peers2 = []\n", "");
        let given: Given = toml::from_str(&given).expect("sound TOML");
        let error = Settings::try_from(given).expect_err("its peers are there").to_string();
        assert!(error.contains("meets \"a.>\""), "{error}");
    }

    #[test]
    fn the_domain_of_the_clients_is_that_of_the_streams() {
        let file = FILE.replace("['nats://here']", "['nats://here'], domain = 'hub'");
        let given = format!("{file}stream = [{{ name = 'A', subjects = ['a'] }}]");
        let given: Given = toml::from_str(&given).expect("sound TOML");
        let settings = Settings::try_from(given).expect("sound");
        assert_eq!(settings.config(1).domain, "hub");
    }

    #[test]
    fn clients_are_served_without_a_prefix() {
        let file = FILE.replace("['nats://here']", "['nats://here'], prefix = 'p'");
        let given = format!("{file}stream = [{{ name = 'A', subjects = ['a'] }}]");
        let given: Given = toml::from_str(&given).expect("sound TOML");
        let error = Settings::try_from(given).expect_err("a prefix").to_string();
        assert!(error.contains("nats_clients.prefix"), "{error}");
    }
}
