//! How many lines of one kind are logged in a second; of the others, how many there were.
//!
//! A kind is one place in the source. What passes the limit is neither formatted nor written, so
//! that a storm costs a few atomic operations for each line that is left out. Not here: the lines
//! that are written (`queue`). Invariant: no line waits for another one, and each line that is left
//! out is in a report.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use papaya::HashMap;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::limits::LOG_KIND_PER_SECOND;
use crate::shell::clock;
use crate::telemetry::ENDS_TARGET;

/// The target of lines about the log itself.
pub(super) const LOG_TARGET: &str = "fanfare::log";

/// The limits of all kinds.
#[derive(Debug, Clone)]
pub(super) struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kinds: HashMap<Identifier, Kind>,
    ends_per_second: AtomicU32,
}

#[derive(Debug)]
struct Kind {
    level: Level,
    /// The second that is counted.
    second: AtomicU64,
    /// Lines that came in it.
    lines: AtomicU32,
    /// Lines left out since the last report.
    suppressed: AtomicU64,
    /// The words of one of them.
    example: Mutex<String>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// The first of its second that does not.
    First,
    Suppressed,
}

impl Limiter {
    pub(super) fn new(ends_per_second: u32) -> Self {
        let ends_per_second = AtomicU32::new(ends_per_second);
        Self(Arc::new(Shared { kinds: HashMap::new(), ends_per_second }))
    }

    pub(super) fn set_ends_per_second(&self, ends_per_second: u32) {
        self.0.ends_per_second.store(ends_per_second, Ordering::Relaxed);
    }

    /// Logs how many lines of each kind were left out since the last report.
    pub(super) fn report(&self) {
        for kind in self.0.kinds.pin().values() {
            let suppressed = kind.suppressed.swap(0, Ordering::Relaxed);
            if suppressed == 0 {
                continue;
            }
            let example = kind.example.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let words = format!("suppressed {suppressed} of kind `{example}`");
            if kind.level <= Level::WARN {
                tracing::warn!(target: LOG_TARGET, suppressed, kind = example, "{words}");
            } else {
                tracing::info!(target: LOG_TARGET, suppressed, kind = example, "{words}");
            }
        }
    }

    /// Lines of a kind in a second; none: all of them.
    fn lines_max(&self, metadata: &Metadata<'_>) -> Option<u32> {
        match metadata.target() {
            ENDS_TARGET => Some(self.0.ends_per_second.load(Ordering::Relaxed)),
            LOG_TARGET => None,
            // Who asks for those wants to see them.
            _ if *metadata.level() >= Level::DEBUG => None,
            _ => Some(LOG_KIND_PER_SECOND),
        }
    }
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let Some(lines_max) = self.lines_max(metadata) else { return true };
        let kinds = self.0.kinds.pin();
        let kind = kinds.get_or_insert_with(metadata.callsite(), || Kind::new(*metadata.level()));
        match kind.count(lines_max, clock::now().monotonic_ns / 1_000_000_000) {
            Verdict::Passes => true,
            Verdict::First => {
                // Nobody waits for it: an example that is a little older is as good.
                if let Ok(mut example) = kind.example.try_lock() {
                    example.clear();
                    event.record(&mut Words(&mut example));
                }
                false
            }
            Verdict::Suppressed => false,
        }
    }
}

impl Kind {
    const fn new(level: Level) -> Self {
        Self {
            level,
            second: AtomicU64::new(0),
            lines: AtomicU32::new(0),
            suppressed: AtomicU64::new(0),
            example: Mutex::new(String::new()),
        }
    }

    /// Counts one line that comes in `second`. Threads that begin a second at once may let a few
    /// lines more pass.
    fn count(&self, lines_max: u32, second: u64) -> Verdict {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        let before = self.lines.fetch_add(1, Ordering::Relaxed);
        if before < lines_max {
            return Verdict::Passes;
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        if before == lines_max { Verdict::First } else { Verdict::Suppressed }
    }
}

/// Takes the message of an event.
struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _infallible = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_of_a_kind_pass_in_each_second_and_the_others_are_counted() {
        let kind = Kind::new(Level::INFO);
        for second in [7, 8] {
            let verdicts: Vec<_> = (0..5).map(|_| kind.count(2, second)).collect();
            use Verdict::{First, Passes, Suppressed};
            assert_eq!(verdicts, [Passes, Passes, First, Suppressed, Suppressed]);
        }
        assert_eq!(kind.suppressed.swap(0, Ordering::Relaxed), 6);
        assert_eq!(kind.count(0, 9), Verdict::First, "none at all");
    }

    #[test]
    fn each_kind_has_its_own_limit_and_a_report_names_it() {
        let limiter = Limiter::new(1);
        let subscriber = tracing_subscriber::registry().with(limiter.clone());
        use tracing_subscriber::layer::SubscriberExt;
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LOG_KIND_PER_SECOND + 5 {
                tracing::warn!("accept failed {number}");
                tracing::info!(target: ENDS_TARGET, "connection ended");
                tracing::debug!("never left out");
            }
        });
        let kinds = limiter.0.kinds.pin();
        let mut counts: Vec<_> = (kinds.values())
            .map(|kind| (kind.suppressed.load(Ordering::Relaxed), kind.example.lock().unwrap()))
            .map(|(count, example)| (count, example.split(' ').next().unwrap().to_owned()))
            .collect();
        counts.sort_unstable();
        // A second may begin in between, after which as many pass again.
        assert_eq!(counts.len(), 2);
        assert!(counts[0].0 <= 5 && counts[0].1 == "accept" || counts[0].0 == 0, "{counts:?}");
        assert!(counts[1].1 == "connection", "{counts:?}");
        assert!(counts[1].0 >= u64::from(LOG_KIND_PER_SECOND) + 2, "{counts:?}");
    }
}
