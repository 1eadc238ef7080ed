//! A key-value bucket that is watched: all of its entries, again after each change.
//!
//! Not here: what the entries say. Invariant: what is told is the whole bucket as it was at one
//! moment; while NATS cannot be reached nothing is told, so what was told last stays.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Operation, Store};
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
            first(&store).await.map(|entries| (store, entries))
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

/// All entries as they are now.
async fn first(store: &Store) -> Result<Entries, NatsError> {
    let failed = |reason: String| NatsError::Refused {
        stream: store.name.clone(),
        what: "its entries",
        reason,
    };
    let read = async {
        let mut entries = Entries::new();
        let mut keys = store.keys().await.map_err(|error| failed(error.to_string()))?;
        while let Some(key) = keys.next().await {
            let key = key.map_err(|error| failed(error.to_string()))?;
            let value = store.get(&key).await.map_err(|error| failed(error.to_string()))?;
            if let Some(value) = value {
                put(&mut entries, key, &value).map_err(failed)?;
            }
        }
        Ok(entries)
    };
    let patience = Duration::from_millis(STREAM_REQUEST_MS);
    timeout(patience, read).await.unwrap_or_else(|_| Err(failed("no answer".into())))
}

/// Tells the whole bucket after each change, until nobody listens.
async fn follow(mut connection: Connection, store: &Store, changes: &Sender<Entries>) {
    let mut told = None;
    loop {
        // First the watch, then what there is: a change in between is seen by the watch.
        connection.anew.mark_unchanged();
        let watch = store.watch_all().await;
        let entries = first(store).await;
        match (watch, entries) {
            (Ok(mut watch), Ok(mut entries)) => {
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
                    let kept = match entry.operation {
                        Operation::Put => put(&mut entries, entry.key, &entry.value),
                        Operation::Delete | Operation::Purge => {
                            entries.remove(&entry.key);
                            Ok(())
                        }
                    };
                    if let Err(why) = kept {
                        tracing::error!("bucket {}: {why}; not in force", store.name);
                    } else if changes.send(entries.clone()).is_err() {
                        return;
                    }
                }
            }
            (Err(error), _) => tracing::warn!("bucket {}: {error}; trying again", store.name),
            (_, Err(error)) => tracing::warn!("{error}; trying again"),
        }
        sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
    }
}

fn put(entries: &mut Entries, key: String, value: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(value).map_err(|_| format!("{key} is not UTF-8"))?;
    let bytes: usize = entries.values().map(String::len).sum();
    if bytes + text.len() > BUCKET_BYTES_MAX {
        return Err(format!("more than {BUCKET_BYTES_MAX} bytes"));
    }
    entries.insert(key, text.to_owned());
    Ok(())
}
