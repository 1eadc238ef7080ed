//! Control frames in words, for standard error.
//!
//! Not here: what follows from them (`session`). Invariant: a note is one line.

use crate::cli::frame::{Frame, ReplyError};

/// Every pattern that was refused, or the refusal of the whole command.
pub(super) fn refusal(frame: &Frame<'_>) -> String {
    let reason = |error: &ReplyError<'_>| {
        let code = error.code.unwrap_or("no code");
        format!("{code}: {}", error.message.unwrap_or("no reason given"))
    };
    let refused: Vec<_> = frame
        .outcomes()
        .filter_map(|outcome| Some((outcome.channel?, outcome.error.as_ref()?)))
        .map(|(channel, error)| format!("{channel}: {}", reason(error)))
        .collect();
    let method = frame.method.unwrap_or("the command");
    let reasons = match &frame.error {
        _ if !refused.is_empty() => refused.join("; "),
        Some(error) => reason(error),
        None => "no reason given".into(),
    };
    let is_unknown = frame.error.as_ref().is_some_and(|error| error.code == Some("auth_required"));
    let cure = if is_unknown { "; show a key or token with --token-file FILE" } else { "" };
    format!("the server refused {method}: {reasons}{cure}")
}

/// Whether a frame is worth a note even where every frame is printed: somebody has to act on it.
pub(super) fn is_urgent(frame: &Frame<'_>) -> bool {
    frame.kind == Some("auth_expiring")
}

/// A short note of a control frame for standard error; heartbeats are silence.
pub(super) fn note(frame: &Frame<'_>, text: &str, security: Option<&str>) {
    match (frame.kind, frame.method) {
        (Some("heartbeat"), _) => {}
        (Some("gap" | "unsubscribed" | "tier"), _) => eprintln!("{}", slowness(frame)),
        (Some("welcome"), _) => {
            let security = security.map(|how| format!(", {how}")).unwrap_or_default();
            eprintln!("connected at seq {}{security}", frame.seq.unwrap_or_default());
        }
        (Some("drain"), _) => {
            let ms = frame.retry_after_ms.unwrap_or_default();
            eprintln!("the server drains; this client's turn to connect anew is in {ms} ms");
        }
        (Some("auth_expiring"), _) => {
            let ms = frame.expires_in_ms.unwrap_or_default();
            eprintln!("the credential expires in {ms} ms; put a new one into the --token-file");
        }
        (None, Some("auth")) => eprintln!("the server has taken the new credential"),
        (None, Some("subscribe")) => {
            let outcomes = frame.outcomes();
            match outcomes.filter_map(|outcome| outcome.matched).sum::<u64>() {
                0 => eprintln!("no channel matches yet; waiting for one to appear"),
                matched => eprintln!("subscribed; channels that match now: {matched}"),
            }
        }
        _ => eprintln!("{text}"),
    }
}

/// What the server did because this client reads slowly.
pub(super) fn slowness(frame: &Frame<'_>) -> String {
    let cause = frame.cause.unwrap_or("unknown");
    let seq = frame.seq.unwrap_or_default();
    let channels = match frame.channels.as_deref().unwrap_or_default() {
        [] => "unnamed channels".to_owned(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    match frame.kind {
        Some("gap") => {
            let missed = frame.missed.unwrap_or_default();
            format!("gap: {missed} events missed on {channels}, cause {cause}")
        }
        Some("unsubscribed") => {
            format!("unsubscribed: the server ended {channels} at seq {seq}, cause {cause}")
        }
        _ => match frame.interval_ms {
            Some(ms @ 1..) => format!("tier: slowed to one event of a key every {ms} ms at least"),
            _ => "tier: back to what was agreed".to_owned(),
        },
    }
}
