//! The sources of a server: bound at the start, run by the ingest.
//!
//! Not here: what a source does with its bytes ([`crate::sources`]). Invariant: a source that is
//! bound has said under which URL.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{SOURCE_TCP, SOURCE_TLS, SOURCE_UNIX, StartError, bind_error};
use crate::access::Gate;
use crate::config::{Settings, Source, SourceAddress};
use crate::nats::Subscription;
use crate::shell::certificates::Certificates;
use crate::shell::doorman::Doorman;
use crate::shell::estate::Estate;
use crate::shell::feed::Feed;
use crate::shell::net::Listener;
use crate::sources::producers::{self, SourceSettings};
use crate::sources::{nats, replay, stdin};

/// A source that is ready to run.
pub(super) enum Ready {
    Producers(Listener, SourceSettings),
    Stdin(SourceSettings),
    Replay(crate::config::Replay, SourceSettings),
    Nats(Subscription, SourceSettings),
}

/// Takes in what a source has had before the start, and says up to which `seq`; none when it keeps
/// nothing.
pub(super) async fn take_in(source: &mut Ready, feed: &Feed) -> Option<io::Result<u64>> {
    match source {
        Ready::Nats(subscription, settings) => {
            Some(nats::take_in(subscription, feed, settings).await)
        }
        _ => None,
    }
}

/// Runs a source until it ends.
pub(super) async fn run(source: Ready, feed: Feed) {
    let set_up = |number, is_up: bool| {
        if let Some(counters) = feed.source(number) {
            counters.is_up.set(u64::from(is_up));
        }
    };
    match source {
        Ready::Producers(listener, settings) => {
            producers::serve(listener, feed, settings).await;
        }
        Ready::Stdin(settings) => {
            let number = settings.number;
            set_up(number, true);
            stdin::run(feed.clone(), settings).await;
            set_up(number, false);
        }
        Ready::Replay(replay, settings) => {
            let number = settings.number;
            set_up(number, true);
            replay::run(replay, feed.clone(), settings).await;
            set_up(number, false);
        }
        Ready::Nats(subscription, settings) => nats::run(subscription, feed, settings).await,
    }
}

/// Socket files, which outlive their listeners.
pub(super) fn socket_files(settings: &Settings) -> Vec<PathBuf> {
    let sources = (settings.sources.iter()).filter_map(|source| match &source.address {
        SourceAddress::Unix { path, .. } => Some(path.clone()),
        _ => None,
    });
    sources.chain(settings.control.clone()).collect()
}

/// Binds what must be bound, and says under which URLs.
pub(super) fn bind(
    settings: &Settings,
    estate: &mut Estate,
    doorman: &Doorman,
    gate: &Arc<Gate>,
    certificates: Option<&Arc<Certificates>>,
    mut stream: Option<Subscription>,
) -> Result<(Vec<String>, Vec<Ready>), StartError> {
    let mut urls = Vec::new();
    let mut ready = Vec::new();
    for (number, Source { address, map }) in settings.sources.iter().enumerate() {
        let producer = SourceSettings {
            number,
            rules: map.clone(),
            line_bytes_max: settings.line_bytes_max,
            // Who may write to a Unix socket is decided by its file; the others are our own.
            gate: matches!(address, SourceAddress::Tcp(_) | SourceAddress::Tls(_))
                .then(|| Arc::clone(gate)),
            certificates: matches!(address, SourceAddress::Tls(_)).then(|| {
                let certificates = certificates.expect("the configuration asks for them");
                Arc::clone(certificates)
            }),
            auth_timeout: settings.auth_timeout,
        };
        let (url, source) = match address {
            SourceAddress::Tcp(address) => {
                let (listener, address) = listener(estate, SOURCE_TCP, *address, doorman)?;
                (format!("tcp://{address}"), Ready::Producers(listener, producer))
            }
            SourceAddress::Tls(address) => {
                let (listener, address) = listener(estate, SOURCE_TLS, *address, doorman)?;
                (format!("tls://{address}"), Ready::Producers(listener, producer))
            }
            SourceAddress::Unix { path, mode } => {
                let listener = estate
                    .unix(SOURCE_UNIX, path, *mode)
                    .and_then(|bound| Listener::new(bound, doorman))
                    .map_err(|source| bind_error(SOURCE_UNIX, path.display(), source))?;
                (format!("unix://{}", path.display()), Ready::Producers(listener, producer))
            }
            SourceAddress::Stdin => ("stdin://".to_owned(), Ready::Stdin(producer)),
            SourceAddress::Nats(address) => {
                let stream = stream.take().expect("the configuration allows one, and it was found");
                (address.to_string(), Ready::Nats(stream, producer))
            }
            SourceAddress::Replay(replay) => {
                (replay.to_string(), Ready::Replay(replay.clone(), producer))
            }
        };
        urls.push(url);
        ready.push(source);
    }
    Ok((urls, ready))
}

fn listener(
    estate: &mut Estate,
    what: &'static str,
    address: SocketAddr,
    doorman: &Doorman,
) -> Result<(Listener, SocketAddr), StartError> {
    let bound = estate.tcp(what, address);
    bound
        .and_then(|(bound, at)| Ok((Listener::new(bound, doorman)?, at)))
        .map_err(|source| bind_error(what, address, source))
}
