//! What a subscriber is told beside events, in words, for standard error.
//!
//! Not here: gaps and notices, which have words of their own (`client`). Invariant: a note is one
//! line.

use crate::client::frame::Frame;
use crate::client::item::{Control, Notice};

/// Signs of life, and what a notice or a gap says as well.
const SILENT: [&str; 8] = [
    "heartbeat",
    "welcome",
    "gap",
    "unsubscribed",
    "snapshot_begin",
    "snapshot_end",
    "replay_begin",
    "replay_end",
];

/// Whether a notice is worth a note even where every frame is printed.
pub(super) const fn is_urgent(notice: &Notice) -> bool {
    !matches!(notice, Notice::Connected { .. } | Notice::Whole { .. } | Notice::Unsubscribed { .. })
}

/// The note of a control frame, if it is worth one.
pub(super) fn note(control: &Control<'_>) -> Option<String> {
    let frame = control.frame;
    let note = match (frame.kind, frame.method) {
        (Some(kind), _) if SILENT.contains(&kind) => return None,
        _ if frame.success == Some(false) => return None,
        (Some("tier"), _) => tier(frame),
        (Some("drain"), _) => {
            let ms = frame.retry_after_ms.unwrap_or_default();
            format!("the server drains; this client's turn to connect anew is in {ms} ms")
        }
        (Some("auth_expiring"), _) => {
            let ms = frame.expires_in_ms.unwrap_or_default();
            format!("the credential expires in {ms} ms; put a new one into the --token-file")
        }
        (None, Some("auth")) => "the server has taken the new credential".to_owned(),
        (None, Some("subscribe")) => {
            let outcomes = frame.outcomes();
            match outcomes.filter_map(|outcome| outcome.matched).sum::<u64>() {
                0 => "no channel matches yet; waiting for one to appear".to_owned(),
                matched => format!("subscribed; channels that match now: {matched}"),
            }
        }
        _ => control.text.to_owned(),
    };
    Some(note)
}

/// What the server did because this client reads slowly.
pub(super) fn tier(frame: &Frame<'_>) -> String {
    match frame.interval_ms {
        Some(ms @ 1..) => format!("tier: slowed to one event of a key every {ms} ms at least"),
        _ => "tier: back to what was agreed".to_owned(),
    }
}
