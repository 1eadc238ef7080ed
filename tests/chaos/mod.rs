//! The parts of the chaos test.
//!
//! [`truth`] what is published · [`stage`] the server and the producer · [`plan`] what a client
//! wants · [`member`], [`account`] and [`copy`] what it makes of it · [`crew`] its sockets ·
//! [`library`] and [`relay`] the same with `fanfare::client`.

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) mod account;
pub(crate) mod copy;
pub(crate) mod crew;
pub(crate) mod library;
pub(crate) mod member;
pub(crate) mod plan;
pub(crate) mod relay;
pub(crate) mod stage;
pub(crate) mod truth;

/// What everybody is up against: storm, then calm, then the end.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    is_calm: AtomicBool,
    is_over: AtomicBool,
}

impl Weather {
    /// Nothing is reset any more, and everybody reads on to the end.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Ends the wait of everybody when it is dropped, also by a failure.
pub(crate) struct Over<'a>(pub(crate) &'a Weather);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}
