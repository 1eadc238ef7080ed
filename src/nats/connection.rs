//! A connection to a NATS system, and the stream that is read there.
//!
//! The client connects again by itself, for ever. Not here: what is read and written. Invariant:
//! whoever waits on [`Connection::anew`] learns of each connection that was made again.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::{Context, ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::stream::StorageType;
use async_nats::jetstream::{ErrorCode, stream};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use aws_lc_rs::digest;
use rustls::CertificateError;
use tokio::sync::watch;

use super::error::NatsError;
use crate::config::{NatsServers, NatsSource};
use crate::limits::{
    STREAM_DUPLICATES_MS, STREAM_PING_MS, STREAM_REQUEST_MS, STREAM_RETRY_MS, STREAM_START_MS,
    STREAM_START_PAUSE_MS,
};

/// A connection and its JetStream.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    /// Counts connections.
    pub(super) anew: watch::Receiver<u64>,
    is_up: Arc<AtomicBool>,
}

impl Connection {
    /// Whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }
}

/// Connects, and does `first` with the connection; again and again while servers may be starting.
///
/// # Errors
/// What was wrong the last time.
pub(super) async fn establish<T>(
    servers: &NatsServers,
    first: impl AsyncFn(&Connection) -> Result<T, NatsError>,
) -> Result<(Connection, T), NatsError> {
    let mut connection = None;
    for attempt in 0.. {
        let error = match attempt_once(servers, &mut connection, &first).await {
            Ok(value) => return Ok((connection.expect("it was made before"), value)),
            Err(error) => error,
        };
        let may_pass = error.may_pass(servers.addresses.len());
        if !may_pass || attempt >= STREAM_START_MS / STREAM_START_PAUSE_MS {
            return Err(error);
        }
        if attempt == 0 {
            tracing::info!("{error}; trying again for {} s", STREAM_START_MS / 1_000);
        }
        tokio::time::sleep(Duration::from_millis(STREAM_START_PAUSE_MS)).await;
    }
    unreachable!("the range has no end")
}

async fn attempt_once<T>(
    servers: &NatsServers,
    connection: &mut Option<Connection>,
    first: &impl AsyncFn(&Connection) -> Result<T, NatsError>,
) -> Result<T, NatsError> {
    if connection.is_none() {
        *connection = Some(connect(servers).await?);
    }
    first(connection.as_ref().expect("it was just made")).await
}

async fn connect(servers: &NatsServers) -> Result<Connection, NatsError> {
    let (connected, anew) = watch::channel(0);
    let is_up = Arc::new(AtomicBool::new(true));
    let (state, names) = (Arc::clone(&is_up), servers.addresses.join(","));
    let handle = move |event| {
        match event {
            Event::Connected => {
                state.store(true, Ordering::Relaxed);
                let before = *connected.borrow();
                if before > 0 {
                    tracing::info!("nats {names}: connected again");
                }
                connected.send_modify(|count| *count += 1);
            }
            Event::Disconnected => {
                state.store(false, Ordering::Relaxed);
                tracing::warn!("nats {names}: the connection is lost; connecting again");
            }
            other => tracing::warn!("nats {names}: {other}"),
        }
        std::future::ready(())
    };
    let options = ConnectOptions::new()
        .name("fanfare")
        .ping_interval(Duration::from_millis(STREAM_PING_MS))
        .request_timeout(Some(Duration::from_millis(STREAM_REQUEST_MS)))
        .reconnect_delay_callback(|attempt| match attempt {
            0 | 1 => Duration::ZERO,
            _ => Duration::from_millis(STREAM_RETRY_MS),
        })
        .event_callback(handle);
    let options = secured(options, servers).await?;
    let connected = options.connect(&servers.addresses).await;
    let client = connected.map_err(|error| unconnected(servers, &error))?;
    let jetstream = ContextBuilder::new()
        .timeout(Duration::from_millis(STREAM_REQUEST_MS))
        .build(client.clone());
    Ok(Connection { client, jetstream, anew, is_up })
}

/// The options with what the servers are shown.
async fn secured(
    mut options: ConnectOptions,
    servers: &NatsServers,
) -> Result<ConnectOptions, NatsError> {
    if let Some(path) = &servers.credentials {
        let failed = |error| unread(path, &error);
        options = options.credentials_file(path).await.map_err(failed)?;
    }
    if let Some((user, path)) = &servers.user {
        let text = std::fs::read_to_string(path).map_err(|error| unread(path, &error))?;
        let password = text.lines().next().unwrap_or_default().to_owned();
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(path) = &servers.authority {
        options = options.add_root_certificates(path.clone());
    }
    Ok(options.require_tls(servers.tls))
}

fn unconnected(servers: &NatsServers, error: &ConnectError) -> NatsError {
    let names = servers.addresses.join(",");
    match (error.kind(), &servers.authority) {
        (ConnectErrorKind::AuthorizationViolation, _) => return denied(servers, names),
        // It is the file that makes no configuration.
        (ConnectErrorKind::Tls, Some(path)) => return unread(path, error),
        _ => {}
    }
    let inner = error.source().and_then(|error| error.downcast_ref::<io::Error>()?.get_ref());
    match inner.and_then(|error| error.downcast_ref()) {
        Some(bad @ rustls::Error::InvalidCertificate(flaw)) => {
            let cure = match (flaw, &servers.authority) {
                (CertificateError::UnknownIssuer, None) => {
                    "?ca=FILE names the authority that has signed it".to_owned()
                }
                (CertificateError::UnknownIssuer, Some(path)) => {
                    format!("the authority in {} has not signed it", path.display())
                }
                _ => "the server needs another certificate".to_owned(),
            };
            NatsError::Untrusted { servers: names, reason: bad.to_string(), cure }
        }
        _ => NatsError::Connect { servers: names, reason: error.to_string() },
    }
}

fn denied(servers: &NatsServers, names: String) -> NatsError {
    let (shown, cure) = match (&servers.credentials, &servers.user) {
        (Some(path), _) => (
            format!("the credentials in {}", path.display()),
            "are they of an account that it knows, and neither expired nor revoked?",
        ),
        (_, Some((user, path))) => (
            format!("user {user} with the password in {}", path.display()),
            "its configuration has another one",
        ),
        _ => (
            "clients without credentials".to_owned(),
            "add ?user=NAME&password_file=FILE or ?creds=FILE to the URL",
        ),
    };
    NatsError::Denied { servers: names, shown, cure }
}

fn unread(path: &Path, error: &impl Error) -> NatsError {
    NatsError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Finds the stream of `source`, if it can be used.
///
/// # Errors
/// Why it cannot.
pub(super) async fn find(
    connection: &Connection,
    source: &NatsSource,
) -> Result<stream::Info, NatsError> {
    let servers = || source.servers.addresses.join(",");
    let about = connection.client.server_info();
    if !connection.client.is_server_compatible(2, 11, 0) {
        return Err(NatsError::TooOld(servers(), about.version));
    }
    let info = match connection.jetstream.get_stream(&source.stream).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) => {
            return Err(match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    NatsError::NoStream { servers: servers(), stream: source.stream.clone() }
                }
                _ => NatsError::NoJetStream { servers: servers(), reason: error.to_string() },
            });
        }
    };
    let wanted = source.subjects();
    let takes = |pattern: &String| {
        let begins = pattern.split(['*', '>']).next().unwrap_or_default();
        begins.starts_with(&source.prefix) || source.prefix.starts_with(begins)
    };
    // A mirror has no subjects of its own.
    if !info.config.subjects.is_empty() && !info.config.subjects.iter().any(takes) {
        let found = info.config.subjects.join(", ");
        return Err(NatsError::Subjects { stream: source.stream.clone(), found, wanted });
    }
    if !info.config.allow_direct && !info.config.mirror_direct {
        return Err(NatsError::NoDirect(source.stream.clone()));
    }
    Ok(info)
}

/// Name of the stream's metadata that says what its numbers are of; mirrors of a stream may have
/// the same, because they have the same numbers.
pub const EPOCH: &str = "fanfare_epoch";

/// What the numbers of a stream are of: the same for every reader of the same subjects, and another
/// one for a stream that was deleted and made again.
pub(super) fn epoch(info: &stream::Info, prefix: &str) -> String {
    let own = || format!("{} {}", info.config.name, info.created.unix_timestamp_nanos());
    let identity = info.config.metadata.get(EPOCH).cloned().unwrap_or_else(own);
    let digest = digest::digest(&digest::SHA256, format!("{identity} {prefix}").as_bytes());
    let first = digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
    ulid::Ulid::from(u128::from_be_bytes(first)).to_string()
}

/// How a stream is made.
#[derive(Debug, Clone)]
pub struct Create {
    /// Servers that each keep all of it.
    pub replicas: usize,
    /// Time that it keeps a message; zero: for ever.
    pub age_max: Duration,
    /// Bytes that it keeps at most; none: all that there is room for.
    pub bytes_max: Option<u64>,
    /// Kept in memory only.
    pub in_memory: bool,
}

/// Makes the stream of `source`, unless there is one.
///
/// # Errors
/// The servers' reason.
pub(super) async fn create(
    connection: &Connection,
    source: &NatsSource,
    create: &Create,
) -> Result<(), NatsError> {
    match find(connection, source).await {
        Err(NatsError::NoStream { .. }) => {}
        found => return found.map(drop),
    }
    let storage = if create.in_memory { StorageType::Memory } else { StorageType::File };
    let config = stream::Config {
        name: source.stream.clone(),
        subjects: vec![source.subjects()],
        num_replicas: create.replicas,
        max_age: create.age_max,
        max_bytes: create.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        storage,
        allow_direct: true,
        duplicate_window: Duration::from_millis(STREAM_DUPLICATES_MS),
        metadata: [(EPOCH.to_owned(), ulid::Ulid::generate().to_string())].into(),
        ..stream::Config::default()
    };
    let made = connection.jetstream.create_stream(config).await;
    made.map_err(|error| NatsError::Refused {
        stream: source.stream.clone(),
        what: "making it",
        reason: error.to_string(),
    })?;
    tracing::info!("{source}: made, with {} replicas", create.replicas);
    Ok(())
}
