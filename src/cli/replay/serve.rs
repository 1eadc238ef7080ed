//! A capture served to subscribers, by a server that ends with it.
//!
//! Not here: the server, and the source that plays the capture (`sources::replay`). Invariant: the
//! end comes after every subscriber was sent the last event.

use crate::cli::failure::Failure;
use crate::cli::figures::grouped;
use crate::cli::flags::host;
use crate::cli::say::say;
use crate::cli::serve::{Running, start_log};
use crate::config::mapping::MapRule;
use crate::config::raw::{Given, Origin, Raw};
use crate::config::resolve::resolve;
use crate::config::{Replay, Settings, Source, SourceAddress};
use crate::limits::DEMO_CONNECTIONS_MAX;
use crate::shell::signals::Stop;

/// Where subscribers connect unless another address was given.
pub(super) const ADDRESS: &str = "127.0.0.1:9001";

/// Serves until the capture has ended and everybody has it, or until a signal.
pub(super) fn serve(listen: &str, replay: Replay, rules: Vec<MapRule>) -> Result<(), Failure> {
    let clients = replay.clients_min;
    let settings = settings(listen, replay, rules)?;
    let log = start_log(&settings.log, false)?;
    let ended = serve_to_end(&settings, clients);
    log.flush();
    ended
}

fn serve_to_end(settings: &Settings, clients: u64) -> Result<(), Failure> {
    let running = Running::start(settings, Stop::install(), None)?;
    let address = running.server().listen;
    let begin = match clients {
        0 => "the replay begins now".to_owned(),
        1 => "the replay begins when a client has subscribed".to_owned(),
        clients => format!("the replay begins when {clients} clients have subscribed"),
    };
    say(format_args!("ws://{address}/v1 is open; {begin}"));
    running.say_ready()?;
    let telemetry = std::sync::Arc::clone(&running.server().telemetry);
    running.run_to_end();
    let ingest = &telemetry.ingest;
    let (events, refused) = (ingest.events.value(), ingest.lines_bad.value());
    say(format_args!("{} events served, {} lines refused", grouped(events), grouped(refused)));
    // Why it broke off is in the log.
    let is_whole = refused == 0 && ingest.replays_broken.value() == 0;
    if is_whole { Ok(()) } else { Err(Failure::Said) }
}

fn settings(listen: &str, replay: Replay, map: Vec<MapRule>) -> Result<Settings, Failure> {
    let mut raw = Raw::default();
    let own = |text: String| Given { text, origin: Origin::Default };
    raw.values.insert("connections_max", own(DEMO_CONNECTIONS_MAX.to_string()));
    // Who ends a replay wants it to end.
    raw.values.insert("drain", own("0ms".into()));
    raw.values.insert("log", own("warn".into()));
    let given = Given { text: listen.to_owned(), origin: Origin::Flag("--serve".into()) };
    raw.values.insert("listen", given);
    let source = Source { address: SourceAddress::Replay(replay), map };
    let resolved = resolve(&raw, &host(), Some(source));
    resolved.map(|resolved| resolved.settings).map_err(|problems| {
        Failure::Usage(format!("{problems}; write --serve after the files, or --serve=IP:PORT"))
    })
}
