//! A key-value bucket that is watched: all of its entries, again after each change.
//!
//! Not here: what the entries say. Invariant: what is told is the whole bucket as it was at one
//! moment; while NATS cannot be reached nothing is told, so what was told last stays.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Entry, Operation, Store, Watch};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, establish};
use super::error::NatsError;
use super::start_thread;
use crate::config::NatsBucket;
use crate::limits::{BUCKET_BYTES_MAX, STREAM_REQUEST_MS, STREAM_RETRY_MS};

/// The entries of a bucket by key.
pub type Entries = BTreeMap<String, String>;

/// Watches a bucket: what is in it, and where it comes out again after each change.
///
/// # Errors
/// Why it cannot be read.
pub fn watch(bucket: &NatsBucket) -> Result<(Entries, Receiver<Entries>), NatsError> {
    let (say, found) = channel();
    let (changes, changed) = channel();
    let bucket = bucket.clone();
    start_thread(move || async move {
        let opened = establish(&bucket.servers, async |connection: &Connection| {
            let store = find(connection, &bucket).await?;
            first(&store).await.map(|(entries, _)| (store, entries))
        });
        let (connection, store) = match opened.await {
            Ok((connection, (store, entries))) => {
                if say.send(Ok(entries)).is_err() {
                    return;
                }
                (connection, store)
            }
            Err(error) => return drop(say.send(Err(error))),
        };
        follow(connection, &store, &changes).await;
    })?;
    let entries = found.recv().map_err(|_| NatsError::Gone)??;
    Ok((entries, changed))
}

async fn find(connection: &Connection, bucket: &NatsBucket) -> Result<Store, NatsError> {
    let servers = || bucket.servers.addresses.join(",");
    connection.jetstream.get_key_value(&bucket.bucket).await.map_err(|error| match error.kind() {
        KeyValueErrorKind::JetStream => {
            NatsError::NoJetStream { servers: servers(), reason: error.to_string() }
        }
        _ => NatsError::NoBucket { servers: servers(), bucket: bucket.bucket.clone() },
    })
}

/// All entries as they are now, and where changes of them come. However many they are and however
/// far away, each must come in time, and not all of them together.
async fn first(store: &Store) -> Result<(Entries, Watch), NatsError> {
    // A bucket without entries tells nothing.
    let mut is_whole = in_time(store, store.status()).await?.values() == 0;
    let mut watch = in_time(store, store.watch_with_history(">")).await?;
    let mut entries = Entries::new();
    while !is_whole {
        let next = in_time(store, async { watch.next().await.transpose() }).await?;
        let entry = next.ok_or_else(|| refused(store, "they have ended".to_owned()))?;
        is_whole = entry.seen_current;
        take(&mut entries, entry).map_err(|why| refused(store, why))?;
    }
    Ok((entries, watch))
}

/// What one step of reading gives.
async fn in_time<T, E: Display>(
    store: &Store,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, NatsError> {
    match timeout(Duration::from_millis(STREAM_REQUEST_MS), step).await {
        Ok(done) => done.map_err(|error| refused(store, error.to_string())),
        Err(_) => Err(refused(store, "no answer".to_owned())),
    }
}

fn refused(store: &Store, reason: String) -> NatsError {
    NatsError::Refused { stream: store.name.clone(), what: "its entries", reason }
}

/// Tells the whole bucket after each change, until nobody listens.
async fn follow(mut connection: Connection, store: &Store, changes: &Sender<Entries>) {
    let mut told = None;
    loop {
        connection.anew.mark_unchanged();
        match first(store).await {
            Ok((mut entries, mut watch)) => {
                if told.as_ref() != Some(&entries) && changes.send(entries.clone()).is_err() {
                    return;
                }
                told = Some(entries.clone());
                loop {
                    let entry = tokio::select! {
                        entry = watch.next() => entry,
                        _ = connection.anew.changed() => break,
                    };
                    let Some(Ok(entry)) = entry else { break };
                    if let Err(why) = take(&mut entries, entry) {
                        tracing::error!("bucket {}: {why}; not in force", store.name);
                    } else if changes.send(entries.clone()).is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::warn!("{error}; trying again"),
        }
        sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
    }
}

/// Takes in what an entry is now.
fn take(entries: &mut Entries, entry: Entry) -> Result<(), String> {
    match entry.operation {
        Operation::Put => put(entries, entry.key, &entry.value),
        Operation::Delete | Operation::Purge => {
            entries.remove(&entry.key);
            Ok(())
        }
    }
}

fn put(entries: &mut Entries, key: String, value: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(value).map_err(|_| format!("{key} is not UTF-8"))?;
    let others = entries.iter().filter(|(other, _)| **other != key);
    let bytes: usize = others.map(|(_, value)| value.len()).sum();
    if bytes + text.len() > BUCKET_BYTES_MAX {
        return Err(format!("more than {BUCKET_BYTES_MAX} bytes"));
    }
    entries.insert(key, text.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_replaced_makes_room_for_the_new_one() {
        let mut entries = Entries::new();
        let long = vec![b'#'; BUCKET_BYTES_MAX];
        put(&mut entries, "a".into(), &long).unwrap();
        put(&mut entries, "a".into(), &long).unwrap();
        let more = put(&mut entries, "b".into(), b"#");
        assert!(more.unwrap_err().contains("more than"));
        assert!(put(&mut entries, "a".into(), b"\xff").is_err());
        assert_eq!(entries.len(), 1);
    }
}
