//! What a node is told from outside: a file in TOML, flags, or both, flags first.
//!
//! Both are read into the same [`Given`]; [`Settings`] is what came of it, complete and checked.
//! Every error names the file or flag, the field, what was found and what was expected.

#[cfg(feature = "nats")]
mod nats_clients;
mod way;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Request};
use jetwake::ids::{GroupId, GroupName, PeerId};
use jetwake::limits::{Limits, Timers};
use jetwake::subject::Subject;
use jetwake::wire::{StreamConfig, SubjectTransform};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::runtime::OWN_REQUEST;
#[cfg(feature = "nats")]
use crate::transport::nats::{NatsAccess, Service};
use crate::transport::tls::{Security, TlsFiles, can_be_certified};
use crate::transport::{Bounds, TransportSettings, Way};

pub use way::GivenTransport;

/// The cluster's name unless one is given.
pub const DEFAULT_CLUSTER: &str = "jetwake";

/// Settings that cannot work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("config file {}: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: std::io::Error,
    },
    /// The file is not the TOML that was expected.
    #[error("config file {}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where, and what was wrong.
        why: toml::de::Error,
    },
    /// A field is missing or cannot work.
    #[error("{field}: {why}")]
    Field {
        /// The field, as it is called in the file; the flag is called likewise.
        field: String,
        /// What was found and what was expected.
        why: String,
    },
}

fn wrong<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError::Field { field: field.into(), why: why.into() })
}

/// Settings as they are given, with gaps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Given {
    /// The server's name.
    pub name: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Where to listen: host and port.
    pub listen: Option<String>,
    /// Where the data lies.
    pub dir: Option<PathBuf>,
    /// Where all randomness comes from; for repeating a run.
    pub seed: Option<u64>,
    /// The other servers: names, and where they listen.
    pub peers: BTreeMap<String, String>,
    /// The streams, the same on every server.
    #[serde(rename = "stream")]
    pub streams: Vec<GivenStream>,
    /// How servers reach each other: `tcp`, or `nats` for a NATS server between them.
    pub transport: Option<GivenTransport>,
    /// The NATS server.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsAccess>,
    /// The NATS server whose clients publish to the streams.
    #[cfg(feature = "nats")]
    pub nats_clients: Option<NatsAccess>,
    /// Certificates and key.
    pub tls: Option<TlsFiles>,
    /// Plain TCP instead of TLS.
    pub insecure_plaintext: bool,
    /// Intervals, by the names of [`Timers`]' fields.
    pub timers: BTreeMap<String, Span>,
    /// Bounds, by the names of [`Limits`]' fields.
    pub limits: toml::Table,
}

/// One stream as it is given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenStream {
    /// The stream's name.
    pub name: String,
    /// The subjects that it takes.
    pub subjects: Vec<String>,
    /// Under which subjects its messages are stored, if not those that they were published to.
    pub subject_transform: Option<SubjectTransform>,
    /// How long a message id is remembered.
    pub duplicate_window: Option<Span>,
    /// Bytes of one message at most.
    pub max_msg_size: Option<i32>,
    /// Messages at most; the oldest give way.
    pub max_msgs: Option<i64>,
    /// Bytes of all messages at most; the oldest give way.
    pub max_bytes: Option<i64>,
    /// Messages of one subject at most; its oldest give way.
    pub max_msgs_per_subject: Option<i64>,
    /// Whether it takes batches, which are stored whole or not at all.
    #[serde(default)]
    pub allow_atomic: bool,
    /// The servers that keep it from the beginning; all of them if none are named.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Whether this server, which is not among them, waits to be added (`jetwake peer add`).
    #[serde(default)]
    pub joins: bool,
}

/// A duration, written as `300ms` or `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!("found {text:?}, expected a duration such as \"300ms\" or \"2m\": {error}")
        })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        humantime::format_duration(span.0).to_string()
    }
}

impl Given {
    /// Reads a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// [`SettingsError`] names the file, and the line.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| SettingsError::Unreadable { path: path.to_owned(), why })?;
        let mut given: Self = toml::from_str(&text)
            .map_err(|why| SettingsError::File { path: path.to_owned(), why })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let tls = given.tls.iter_mut();
        let tls = tls.flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key]);
        for path in tls.chain(&mut given.dir) {
            *path = folder.join(&*path);
        }
        #[cfg(feature = "nats")]
        for path in given.nats.iter_mut().chain(&mut given.nats_clients).flat_map(NatsAccess::paths)
        {
            *path = folder.join(&*path);
        }
        Ok(given)
    }

    /// Fills the gaps from another source. Peers, timers and limits are joined one by one; streams
    /// are those of the first source that has any.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let mut peers = other.peers;
        peers.append(&mut self.peers);
        let mut timers = other.timers;
        timers.append(&mut self.timers);
        let mut limits = other.limits;
        limits.extend(self.limits);
        // A kind of security that was chosen here is not mixed with that of the other source.
        let chosen = self.tls.is_some() || self.insecure_plaintext;
        let (tls, insecure_plaintext) = if chosen {
            (self.tls, self.insecure_plaintext)
        } else {
            (other.tls, other.insecure_plaintext)
        };
        Self {
            name: self.name.or(other.name),
            cluster: self.cluster.or(other.cluster),
            listen: self.listen.or(other.listen),
            dir: self.dir.or(other.dir),
            seed: self.seed.or(other.seed),
            peers,
            streams: if self.streams.is_empty() { other.streams } else { self.streams },
            transport: self.transport.or(other.transport),
            #[cfg(feature = "nats")]
            nats: self.nats.or(other.nats),
            #[cfg(feature = "nats")]
            nats_clients: self.nats_clients.or(other.nats_clients),
            tls,
            insecure_plaintext,
            timers,
            limits,
        }
    }
}

/// What a node needs to know, complete and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where to listen: host and port.
    pub listen: String,
    /// Where the data lies.
    pub dir: PathBuf,
    /// Where all randomness comes from, if it was given.
    pub seed: Option<u64>,
    /// The other servers: names, and where they listen.
    pub peers: BTreeMap<String, String>,
    /// The groups, which follow from the streams.
    pub groups: Vec<GroupConfig>,
    /// Where catchups of a stream are asked for, of groups that others made.
    pub catchups: BTreeMap<GroupName, Subject>,
    /// Whether it never asks for votes, in any group.
    pub observes: bool,
    /// How servers reach each other.
    pub way: Way,
    /// What NATS clients are served, if they are.
    #[cfg(feature = "nats")]
    pub nats_clients: Option<Service>,
    /// The files of TLS; none for plain TCP.
    pub tls: Option<TlsFiles>,
    /// Every bound of the core.
    pub limits: Limits,
    /// Every interval of the core.
    pub timers: Timers,
}

impl TryFrom<Given> for Settings {
    type Error = SettingsError;

    fn try_from(mut given: Given) -> Result<Self, SettingsError> {
        let streams = std::mem::take(&mut given.streams);
        #[cfg(feature = "nats")]
        let access = given.nats_clients.take();
        #[cfg(feature = "nats")]
        let all = streams.iter().map(|one| (one.name.clone(), one.subjects.clone())).collect();
        let mut settings = given.without_streams()?;
        let servers: Vec<String> =
            std::iter::once(&settings.name).chain(settings.peers.keys()).cloned().collect();
        settings.groups = groups(streams, &servers, &settings.name)?;
        #[cfg(feature = "nats")]
        if let Some(access) = access {
            settings.nats_clients = Some(nats_clients::service(access, all, &settings)?);
        }
        Ok(settings)
    }
}

impl Given {
    /// The settings of a node whose groups are known from elsewhere.
    ///
    /// # Errors
    /// [`SettingsError`] names the field.
    pub fn without_streams(self) -> Result<Settings, SettingsError> {
        let given = self;
        let missing = |field: &str, what: &str| SettingsError::Field {
            field: field.into(),
            why: format!("missing, expected {what}"),
        };
        let name = given.name.clone().ok_or_else(|| missing("name", "the name of this server"))?;
        let listen = given
            .listen
            .clone()
            .ok_or_else(|| missing("listen", "an address such as 127.0.0.1:4101"))?;
        let dir = given.dir.clone().ok_or_else(|| missing("dir", "the folder for the data"))?;
        let mut peers = given.peers.clone();
        // The same list of servers may be given to all of them.
        peers.remove(&name);
        let servers: Vec<String> = std::iter::once(&name).chain(peers.keys()).cloned().collect();
        let tls = security(given.tls.clone(), given.insecure_plaintext, &servers)?;
        let way = way::settle(&given)?;
        let unknown = |(_, address): &(&String, &String)| address.is_empty();
        if let Some((peer, _)) = peers.iter().find(unknown).filter(|_| way == Way::Direct) {
            return wrong("peers", format!("found no address for {peer:?}, expected HOST:PORT"));
        }
        distinct(&servers)?;
        Ok(Settings {
            cluster: given.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.into()),
            seed: given.seed,
            limits: limits(given.limits)?,
            timers: timers(&given.timers)?,
            name,
            listen,
            dir,
            peers,
            groups: Vec::new(),
            catchups: BTreeMap::new(),
            observes: false,
            way,
            #[cfg(feature = "nats")]
            nats_clients: None,
            tls,
        })
    }
}

impl Settings {
    /// The JetStream domain in which NATS clients find the streams; empty if there is none.
    fn domain(&self) -> &str {
        #[cfg(feature = "nats")]
        if let Some(service) = &self.nats_clients {
            return service.access.domain.as_deref().unwrap_or_default();
        }
        ""
    }

    /// What the core is told.
    pub fn config(&self, seed: u64) -> Config {
        Config {
            name: self.name.clone(),
            domain: self.domain().into(),
            seed,
            limits: self.limits.clone(),
            timers: self.timers.clone(),
            groups: self.groups.clone(),
        }
    }

    /// What the core is told before its disk.
    pub fn assigned(&self) -> Vec<Event> {
        let mut told = Vec::new();
        for (group, config) in (0..).map(GroupId).zip(&self.groups) {
            if let Some(sync) = self.catchups.get(&config.name) {
                told.push(Event::Assigned { group, sync: sync.clone() });
            }
            if self.observes {
                let request = Request::Observe { observer: true };
                told.push(Event::Request { id: OWN_REQUEST, group, request });
            }
        }
        told
    }

    /// What the transport is told.
    pub fn transport(&self, security: Security, seed: u64) -> TransportSettings {
        let usable = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let defaults = Bounds::default();
        let catchups = usable(self.limits.stream_catchups_in_flight.get());
        let message = self.limits.message.get().saturating_add(self.limits.header.get());
        let bounds = Bounds {
            peer_message: self.limits.peer_message.get(),
            request: defaults.request.max(message.saturating_mul(2)),
            // All that the core sends on the strength of its windows finds room.
            peer_queue: catchups.saturating_add(defaults.peer_queue / 3),
            read: usable(self.limits.load.get()),
            ..defaults
        };
        TransportSettings {
            name: self.name.clone(),
            cluster: self.cluster.clone(),
            listen: self.listen.clone(),
            peers: self.peers.clone(),
            way: self.way.clone(),
            security,
            bounds,
            seed,
        }
    }
}

/// Settles between TLS, which is the rule, and plain TCP, which must be asked for.
fn security(
    tls: Option<TlsFiles>,
    plaintext: bool,
    servers: &[String],
) -> Result<Option<TlsFiles>, SettingsError> {
    match (tls, plaintext) {
        (Some(_), true) => wrong("insecure_plaintext", "cannot be combined with tls"),
        (None, true) => Ok(None),
        (None, false) => wrong(
            "tls",
            "missing, expected ca, certificate and key (`jetwake certify` makes them), or \
             insecure_plaintext",
        ),
        (Some(files), false) => match servers.iter().find(|name| !can_be_certified(name)) {
            Some(name) => wrong("name", format!("{name:?} cannot stand in a certificate")),
            None => Ok(Some(files)),
        },
    }
}

/// Every server needs a peer id of its own.
fn distinct(servers: &[String]) -> Result<(), SettingsError> {
    let mut ids = BTreeMap::new();
    for name in servers {
        if name.is_empty() {
            return wrong("peers", "found a server without a name");
        }
        if let Some(other) = ids.insert(PeerId::from_name(name), name) {
            return wrong("peers", format!("{name:?} and {other:?} have the same peer id"));
        }
    }
    Ok(())
}

fn groups(
    streams: Vec<GivenStream>,
    servers: &[String],
    name: &str,
) -> Result<Vec<GroupConfig>, SettingsError> {
    if streams.is_empty() {
        return wrong("stream", "missing, expected at least one stream");
    }
    let mut sorted = servers.to_vec();
    sorted.sort();
    let mut groups = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for (place, stream) in streams.into_iter().enumerate() {
        let field = |field: &str| format!("stream[{place}].{field}");
        if !names.insert(stream.name.clone()) {
            return wrong(field("name"), format!("{:?} is there twice", stream.name));
        }
        if let Some(other) = stream.servers.iter().find(|server| !servers.contains(server)) {
            return wrong(field("servers"), format!("{other:?} is not among the peers"));
        }
        let members = if stream.servers.is_empty() { sorted.clone() } else { stream.servers };
        let keeps = members.iter().any(|member| member == name);
        if keeps && stream.joins {
            return wrong(field("joins"), "the server is among those that keep the stream already");
        }
        if !keeps && !stream.joins {
            continue;
        }
        let mut config = StreamConfig::new(stream.name, stream.subjects);
        config.subject_transform = stream.subject_transform;
        config.num_replicas = i64::try_from(members.len()).unwrap_or(i64::MAX);
        config.allow_atomic = stream.allow_atomic;
        for (name, given, bound) in [
            ("max_msgs", stream.max_msgs, &mut config.max_msgs),
            ("max_bytes", stream.max_bytes, &mut config.max_bytes),
            ("max_msgs_per_subject", stream.max_msgs_per_subject, &mut config.max_msgs_per_subject),
        ] {
            match given {
                Some(given) if given < 1 => {
                    return wrong(field(name), format!("found {given}, expected at least 1"));
                }
                Some(given) => *bound = given,
                None => {}
            }
        }
        if let Some(size) = stream.max_msg_size {
            config.max_msg_size = size;
        }
        if let Some(window) = stream.duplicate_window {
            config.duplicate_window = i64::try_from(window.0.as_nanos()).unwrap_or(i64::MAX);
        }
        groups.push(GroupConfig {
            name: group_name(&config.name, members.len(), &field("name"))?,
            members,
            kind: GroupKind::Stream(config),
        });
    }
    Ok(groups)
}

/// A group's name as upstream forms it, but the same on every server without asking: its last
/// part follows from the stream's name.
fn group_name(stream: &str, members: usize, field: &str) -> Result<GroupName, SettingsError> {
    let checked = GroupName::new(stream).map_err(|error| SettingsError::Field {
        field: field.to_owned(),
        why: error.to_string(),
    })?;
    let digits = PeerId::from_name(checked.as_str());
    GroupName::new(format!("S-R{members}F-{digits}"))
        .map_err(|error| SettingsError::Field { field: field.to_owned(), why: error.to_string() })
}

fn timers(given: &BTreeMap<String, Span>) -> Result<Timers, SettingsError> {
    let mut timers = Timers::default();
    for (name, Span(value)) in given {
        let field = match name.as_str() {
            "election_min" => &mut timers.election_min,
            "election_max" => &mut timers.election_max,
            "heartbeat" => &mut timers.heartbeat,
            "lost_quorum" => &mut timers.lost_quorum,
            "log_catchup_stall" => &mut timers.log_catchup_stall,
            "catchup_start" => &mut timers.catchup_start,
            "catchup_silence" => &mut timers.catchup_silence,
            "catchup_retry" => &mut timers.catchup_retry,
            _ => {
                return wrong(
                    format!("timers.{name}"),
                    "unknown, expected election_min, election_max, heartbeat, lost_quorum, \
                     log_catchup_stall, catchup_start, catchup_silence or catchup_retry",
                );
            }
        };
        *field = *value;
    }
    let ordered = Duration::ZERO < timers.heartbeat
        && timers.heartbeat < timers.election_min
        && timers.election_min < timers.election_max;
    if ordered {
        Ok(timers)
    } else {
        let Timers { heartbeat, election_min, election_max, .. } = timers;
        wrong(
            "timers",
            format!(
                "found heartbeat {heartbeat:?}, election_min {election_min:?}, election_max \
                 {election_max:?}, expected each to be longer than the one before"
            ),
        )
    }
}

fn limits(given: toml::Table) -> Result<Limits, SettingsError> {
    let fault = |error: &dyn std::fmt::Display| SettingsError::Field {
        field: "limits".into(),
        why: error.to_string().trim_end().to_owned(),
    };
    let known = toml::Table::try_from(Limits::default()).map_err(|error| fault(&error))?;
    if let Some(name) = given.keys().find(|name| !known.contains_key(*name)) {
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        return wrong(
            format!("limits.{name}"),
            format!("unknown, expected one of {}", names.join(", ")),
        );
    }
    given.try_into().map_err(|error: toml::de::Error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        name = "n1"
        listen = "127.0.0.1:4101"
        dir = "data"

        [peers]
        n2 = "127.0.0.1:4102"
        n3 = "127.0.0.1:4103"

        [tls]
        ca = "certs/ca.pem"
        certificate = "/etc/n1.pem"
        key = "certs/n1.key"

        [[stream]]
        name = "ORDERS"
        subjects = ["orders.>"]
        duplicate_window = "3s"
        max_msgs = 1000
        max_msgs_per_subject = 7
        allow_atomic = true
        subject_transform = { src = "orders.*", dest = "orders.{{partition(8,1)}}.$1" }

        [timers]
        election_min = "300ms"
        election_max = "600ms"
        heartbeat = "50ms"

        [limits]
        message = 2048
    "#;

    fn read(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).expect("a file in it");
        let settings = Given::read(&path).and_then(Settings::try_from);
        let folder = format!("{}/", dir.path().display());
        settings
            .map(|mut settings| {
                let inside = |path: &Path| path.strip_prefix(&folder).unwrap_or(path).to_owned();
                settings.dir = inside(&settings.dir);
                if let Some(tls) = &mut settings.tls {
                    tls.ca = inside(&tls.ca);
                }
                settings
            })
            .map_err(|error| error.to_string().replace(&folder, ""))
    }

    #[test]
    fn a_file_becomes_settings() {
        let settings = read(FILE).expect("a sound file");
        assert_eq!(settings.peers.keys().collect::<Vec<_>>(), ["n2", "n3"]);
        assert_eq!(settings.dir, Path::new("data"));
        let tls = settings.tls.expect("files of TLS");
        assert_eq!(
            (&*tls.ca, &*tls.certificate),
            ("certs/ca.pem".as_ref(), "/etc/n1.pem".as_ref())
        );
        assert_eq!(settings.timers.heartbeat, Duration::from_millis(50));
        assert_eq!(settings.timers.lost_quorum, Timers::default().lost_quorum);
        assert_eq!(settings.limits.message.get(), 2048);
        assert_eq!(settings.limits.header, Limits::default().header);
        let [group] = &settings.groups[..] else { panic!("expected one group") };
        assert_eq!(group.members, ["n1", "n2", "n3"]);
        let GroupKind::Stream(stream) = &group.kind else { panic!("expected a stream") };
        assert_eq!((stream.num_replicas, stream.duplicate_window), (3, 3_000_000_000));
        let bounds = (stream.max_msgs, stream.max_bytes, stream.max_msgs_per_subject);
        assert_eq!((bounds, stream.allow_atomic), ((1000, -1, 7), true));
        let transform = stream.subject_transform.as_ref().expect("one is given");
        assert_eq!(transform.dest, "orders.{{partition(8,1)}}.$1");
    }

    #[test]
    fn all_servers_form_the_same_groups() {
        let one = read(FILE).expect("a sound file").groups;
        let text = FILE.replace("\"n1\"", "\"n2\"").replace("n2 =", "n1 =");
        assert_eq!(read(&text).expect("a sound file").groups, one);
    }

    #[test]
    fn a_server_joins_the_group_that_the_others_form() {
        let with = |more: &str| read(&FILE.replace("[[stream]]", &format!("[[stream]]\n{more}")));
        let founders = "servers = ['n2', 'n3']";
        assert_eq!(with(founders).expect("a sound file").groups, []);
        let joins = with(&format!("{founders}\njoins = true")).expect("a sound file").groups;
        assert_eq!((joins.len(), &joins[0].members[..]), (1, &["n2".into(), "n3".into()][..]));
    }

    #[test]
    fn errors_name_the_field_and_what_was_expected() {
        let cases = [
            ("name = \"n1\"", "", "name: missing"),
            ("listen", "lisen", "unknown field `lisen`"),
            ("\"300ms\"", "\"fast\"", "found \"fast\", expected a duration"),
            ("\"300ms\"", "\"700ms\"", "timers: found heartbeat 50ms, election_min 700ms"),
            ("heartbeat", "hartbeat", "timers.hartbeat: unknown, expected election_min"),
            ("message = 2048", "mesage = 2048", "limits.mesage: unknown, expected one of append"),
            ("message = 2048", "message = -1", "limits: "),
            ("\"ORDERS\"", "\"OR.DERS\"", "stream[0].name: group name \"OR.DERS\""),
            ("[tls]", "[tls]\nextra = 1", "config file node.toml: "),
            ("n2 =", "\"n 2\" =", "name: \"n 2\" cannot stand in a certificate"),
            ("[[stream]]", "[[stream]]\nservers = [\"n9\"]", "stream[0].servers: \"n9\" is not"),
            ("[[stream]]", "[[stream]]\njoins = true", "stream[0].joins: the server is among"),
        ];
        for (found, replaced, expected) in cases {
            let error = read(&FILE.replacen(found, replaced, 1)).expect_err(replaced);
            assert!(error.contains(expected), "{replaced:?} gave {error:?}");
        }
    }

    #[test]
    fn flags_come_before_the_file() {
        let given = |text| toml::from_str::<Given>(text).expect("sound TOML");
        let flags = given("name = 'n7'\ninsecure_plaintext = true\n[peers]\nn2 = 'here:1'");
        let both = flags.or(given(FILE));
        assert_eq!(both.name.as_deref(), Some("n7"));
        assert_eq!(both.listen.as_deref(), Some("127.0.0.1:4101"));
        assert_eq!((both.peers["n2"].as_str(), both.peers.len()), ("here:1", 2));
        assert_eq!((both.tls, both.insecure_plaintext), (None, true));
    }
}
