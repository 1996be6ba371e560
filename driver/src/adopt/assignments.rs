//! What the meta group has assigned, read from its leader as a member reads it that lacks all.
//!
//! A follower whose log does not join answers an append entry with a refusal and an inbox, and the
//! leader feeds that inbox with its snapshot and its log. Nothing of that is acknowledged here, as
//! older servers count it towards their quorum: a leader sends two mebibytes without. The refusal
//! must be in the name of a member, as a leader adds others whom it hears to its group.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use jetwake::ids::{Index, PeerId, Term};
use jetwake::limits::Limits;
use jetwake::wire::{
    AppendEntry, AppendResponse, EntryKind, MetaOp, MetaSnapshot, StreamAssignment, WireError,
};
use tokio::time::timeout;

use super::{AdoptError, failed};

/// Where the leader of the meta group is heard.
const APPENDS: &str = "$NRG.AE._meta_";
/// How long to wait for the leader, which is heard each second, and for each part of its log.
const SILENCE: Duration = Duration::from_secs(10);

/// Reads all assignments of streams, in the name of a member that is dead.
pub(super) async fn read(
    client: &Client,
    member: PeerId,
) -> Result<Vec<StreamAssignment>, AdoptError> {
    let mut appends = client.subscribe(APPENDS).await.map_err(failed)?;
    let (heard, replies) = loop {
        let message = next(&mut appends, "has no leader that is heard").await?;
        let Some(replies) = message.reply else { continue };
        let heard = AppendEntry::decode(&message.payload)?;
        if heard.commit > Index::ZERO {
            break (heard, replies);
        }
    };
    let digits = PeerId::from_name(&client.new_inbox());
    let inbox = format!("$NRG.CR.{digits}");
    let mut log = client.subscribe(inbox.clone()).await.map_err(failed)?;
    let lacks_all =
        AppendResponse { term: Term::ZERO, index: Index::ZERO, peer: member, success: false };
    let asked = client.publish_with_reply(replies, inbox, lacks_all.to_bytes());
    asked.await.map_err(failed)?;
    let mut read = Read::default();
    while read.through < heard.commit {
        let message = next(&mut log, "does not hand out its log").await?;
        read.take(&AppendEntry::decode(&message.payload)?, heard.commit)?;
    }
    Ok(read.streams.into_values().collect())
}

async fn next(from: &mut Subscriber, otherwise: &str) -> Result<async_nats::Message, AdoptError> {
    let silent = || AdoptError::Meta(format!("{otherwise} within {SILENCE:?}"));
    timeout(SILENCE, from.next()).await.map_err(|_| silent())?.ok_or_else(silent)
}

/// What was read so far.
#[derive(Default)]
struct Read {
    through: Index,
    /// By account and name.
    streams: BTreeMap<(String, String), StreamAssignment>,
}

impl Read {
    /// Takes a part of the log; what is not committed does not count.
    fn take(&mut self, part: &AppendEntry, commit: Index) -> Result<(), WireError> {
        let limits = Limits::default();
        for entry in part.entries.iter() {
            match entry.kind {
                EntryKind::Snapshot | EntryKind::OldSnapshot => {
                    let snapshot = MetaSnapshot::decode(&entry.data, &limits)?;
                    self.streams.clear();
                    for stream in snapshot.streams {
                        self.assign(stream.stream);
                    }
                    self.through = part.previous_index;
                }
                EntryKind::Normal if part.previous_index < commit => {
                    match MetaOp::decode(&entry.data, &limits)? {
                        MetaOp::AssignStream(stream) | MetaOp::UpdateStream(stream) => {
                            self.assign(*stream);
                        }
                        MetaOp::RemoveStream(stream) => {
                            self.streams.remove(&key(&stream));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        if !part.entries.iter().any(|entry| entry.kind == EntryKind::Snapshot) {
            self.through = self.through.max(part.previous_index.next());
        }
        Ok(())
    }

    fn assign(&mut self, stream: StreamAssignment) {
        self.streams.insert(key(&stream), stream);
    }
}

fn key(stream: &StreamAssignment) -> (String, String) {
    let account = stream.client.as_ref().map_or("", |client| client.service_account());
    (account.to_owned(), stream.config.name.clone())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jetwake::wire::{AppendEntryBuilder, MetaStream, StreamConfig};

    use super::*;

    fn stream(name: &str, sync: &str) -> StreamAssignment {
        let config = StreamConfig::new(name.to_owned(), vec![format!("{name}.>")]);
        StreamAssignment { config, sync: sync.into(), ..StreamAssignment::default() }
    }

    fn part(index: u64, entries: &[(EntryKind, Bytes)]) -> AppendEntry {
        let mut builder = AppendEntryBuilder::new();
        for (kind, data) in entries {
            assert!(builder.push(*kind, data));
        }
        let (none, index) = (Term::ZERO, Index::new(index));
        let part = builder.finish(None, none, Index::ZERO, none, index, none);
        AppendEntry::decode(&part).expect("an append entry")
    }

    #[test]
    fn assignments_are_those_of_the_snapshot_and_of_what_is_committed_behind_it() {
        let held =
            |name| MetaStream { stream: stream(name, "$JSC.SYNC.before"), consumers: vec![] };
        let snapshot = MetaSnapshot { streams: vec![held("A"), held("B")] };
        let snapshot = snapshot.encode().expect("small");
        let commit = Index::new(8);
        let mut read = Read::default();
        read.take(&part(5, &[(EntryKind::Snapshot, snapshot)]), commit).expect("a snapshot");
        assert_eq!(read.through, Index::new(5));
        let more = [
            (EntryKind::Normal, stream("B", "").encode_remove()),
            (EntryKind::Normal, stream("C", "$JSC.SYNC.after").encode_assign()),
        ];
        read.take(&part(5, &more), commit).expect("entries");
        let update = [(EntryKind::Normal, stream("A", "$JSC.SYNC.after").encode_update())];
        read.take(&part(6, &update), commit).expect("an update");
        assert_eq!(read.through, Index::new(7));
        let uncommitted = [(EntryKind::Normal, stream("C", "").encode_remove())];
        read.take(&part(8, &uncommitted), commit).expect("an entry");
        let found: Vec<_> =
            read.streams.values().map(|one| (&one.config.name[..], &one.sync[..])).collect();
        assert_eq!(found, [("A", "$JSC.SYNC.after"), ("C", "$JSC.SYNC.after")]);
    }
}
