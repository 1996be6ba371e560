//! What a NATS server may ask for before it lets ours in, and what ours say when it does not; and what
//! becomes of them when the server goes and comes back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use jetwake_driver::transport::nats::NatsAccess;
use serde_json::Value;
use tokio::time::sleep;

use super::bed::{Bed, Plan, Release, name, publish};
use super::clients::{STREAMS, plain, stored, ways};
use super::nodes::{Nodes, Settings, refused};
use super::ours;

/// A NATS server's settings of its accounts, of users of nkeys.
fn nkeys(told: &Value) -> String {
    format!("accounts {{ APP {{ users: [{{ nkey: {} }}] }} }}\n", told["user_nkey"])
}

/// The same, of an operator's accounts, whose users have credentials.
fn credentials(told: &Value) -> String {
    let text = |key: &str| told[key].as_str().expect("a text").to_owned();
    format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n {}: {}\n {}: {}\n}}\n",
        text("operator"),
        text("system_account"),
        text("system_account"),
        text("system_jwt"),
        text("user_account"),
        text("user_jwt"),
    )
}

/// Certificates of one authority for a server, whose name is `S1`, and for clients of it.
fn certify(folder: &Path) {
    let mut certify = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    certify.args(["certify", "S1", "--client", "app", "--dir"]).arg(folder);
    assert!(certify.output().expect("the program runs").status.success());
}

/// Both ways of our nodes, which prove who they are by this.
fn both(bed: &Bed, proof: &str) -> String {
    let access = format!("servers = [\"{}\"], {proof}", bed.url(0));
    format!(
        "transport = \"nats\"\nnats = {{ {access}, prefix = \"peers\" }}\n\
         nats_clients = {{ {access} }}\n"
    )
}

/// Three nodes elect a leader and store what a client publishes, which proves the same as they.
async fn works(bed: &Bed, proof: &str) {
    let nodes = Nodes::start(&Settings { ways: &both(bed, proof), streams: STREAMS });
    let access = format!("servers = [\"{}\"]\n{}", bed.url(0), proof.replace(", ", "\n"));
    let access: NatsAccess = toml::from_str(&access).expect("an access");
    let client = access.connect("test", |_| {}).await.expect("it lets us in");
    nodes.leader(&client, "ORDERS").await;
    let ack = publish(&client, "orders.new", "one").await.expect("an ack");
    assert_eq!(ack["seq"], 1);
}

/// What a node says that is not let in.
fn says(bed: &Bed, proof: &str) -> String {
    let said = refused(&Settings { ways: &both(bed, proof), streams: STREAMS });
    let server = bed.url(0).replace("nats://", "");
    assert!(said.contains(&format!("NATS server nats://{server}: ")), "{said}");
    said
}

#[tokio::test]
async fn nodes_prove_who_they_are_by_nkeys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(told) = super::bed::keys(folder.path()) else { return };
    let plan = Plan { accounts: Some(nkeys(&told)), ..plain(Release::Newest) };
    let Some(bed) = Bed::start(&plan).await else { return };
    let proof = |who: &str| format!("nkey = {:?}", folder.path().join(who).with_extension("nk"));
    works(&bed, &proof("user")).await;
    let said = says(&bed, &proof("stranger"));
    assert!(said.contains("authorization violation"), "{said}");
    let missing = refused(&Settings { ways: &both(&bed, &proof("nobody")), streams: STREAMS });
    assert!(missing.contains("nobody.nk: No such file"), "{missing}");
    let no_seed = format!("nkey = {:?}", folder.path().join("user.creds"));
    let no_seed = says(&bed, &no_seed);
    assert!(no_seed.contains("nkey"), "{no_seed}");
}

#[tokio::test]
async fn nodes_prove_who_they_are_by_credentials() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(told) = super::bed::keys(folder.path()) else { return };
    for release in [Release::Newest, Release::Older] {
        let plan = Plan { accounts: Some(credentials(&told)), ..plain(release) };
        let Some(bed) = Bed::start(&plan).await else { return };
        let proof = |file: &str| format!("credentials = {:?}", folder.path().join(file));
        works(&bed, &proof("user.creds")).await;
        let said = says(&bed, &proof("stranger.creds"));
        assert!(said.contains("authorization violation"), "{said}");
        let ways = both(&bed, &proof("user.nk"));
        let no_credentials = refused(&Settings { ways: &ways, streams: STREAMS });
        assert!(no_credentials.contains("user.nk: "), "{no_credentials}");
    }
}

#[tokio::test]
async fn nodes_speak_tls_and_show_certificates() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    certify(folder.path());
    let plan = Plan { tls: Some(folder.path().to_owned()), ..plain(Release::Newest) };
    let Some(bed) = Bed::start(&plan).await else { return };
    let file = |name: &str| format!("{:?}", folder.path().join(name));
    let user = "user = \"app\", password = \"app\"";
    let ca = format!("ca = {}", file("ca.pem"));
    let shown = format!("certificate = {}, key = {}", file("app.pem"), file("app.key"));
    works(&bed, &format!("{user}, {ca}, {shown}")).await;

    let unknown = says(&bed, &format!("{user}, {shown}"));
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let nothing_shown = says(&bed, &format!("{user}, {ca}"));
    assert!(nothing_shown.to_lowercase().contains("certificate"), "{nothing_shown}");
    let wrong = says(&bed, &format!("user = \"app\", password = \"wrong\", {ca}, {shown}"));
    assert!(wrong.contains("authorization violation"), "{wrong}");
    let half = format!("{user}, {ca}, certificate = {}", file("app.pem"));
    let half = refused(&Settings { ways: &both(&bed, &half), streams: STREAMS });
    assert!(half.contains("certificate and key: expected both"), "{half}");
}

#[tokio::test]
async fn a_role_is_not_taken_over_without_system_account_or_jetstream() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (plan, expected) in [
        (Plan { system: false, ..Plan::of(Release::Newest, 1) }, "a user of the system account"),
        (plain(Release::Newest), "the meta group: has no leader that is heard"),
    ] {
        let Some(bed) = Bed::start(&plan).await else { return };
        let said = ours::refused(&bed, 2, "ORDERS", &folder.path().join("ours"));
        assert!(said.contains(expected), "{}: {said}", name(2));
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_server_restarts() {
    let Some(mut bed) = Bed::start(&plain(Release::Newest)).await else { return };
    let nodes = Nodes::start(&Settings { ways: &ways(&bed, ""), streams: STREAMS });
    let client = bed.client(0).await;
    nodes.leader(&client, "ORDERS").await;
    let js = jetstream::new(client.clone());
    let publishing = tokio::spawn(async move {
        let mut acked = BTreeMap::new();
        for n in 0..400 {
            let payload = format!("kept {n}");
            acked.insert(stored(&js, "orders.kept", &payload).await, payload);
        }
        acked
    });
    for pause in [100, 1500] {
        sleep(Duration::from_millis(300)).await;
        bed.kill(0);
        sleep(Duration::from_millis(pause)).await;
        bed.run(0).await;
    }
    let acked = publishing.await.expect("all are stored");
    nodes.leader(&client, "ORDERS").await;
    let stream = jetstream::new(client).get_stream("ORDERS").await.expect("a stream");
    assert_eq!((acked.len(), stream.cached_info().state.messages), (400, 400));
    for (sequence, payload) in acked {
        let found = stream.get_raw_message(sequence).await.expect("a message");
        assert_eq!(found.payload, payload.as_bytes(), "{sequence}");
    }
}
