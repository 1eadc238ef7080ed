//! What a case is.

/// One thing of which the instructions are counted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What the count is for.
    pub unit: &'static str,
    /// Sets up, warms up, and does the work within [`counted`]; returns how many units it did.
    pub run: fn() -> f64,
}

/// What is done in here is counted. Callgrind finds it by its name.
#[inline(never)]
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    std::hint::black_box(work())
}
