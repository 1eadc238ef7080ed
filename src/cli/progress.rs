//! The bar of a command that takes long, on standard error.
//!
//! Invariant: where there is no terminal nothing of it is shown, and what is printed through it is.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A spinner that shows what `template` says.
#[must_use]
pub fn spinner(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    bar.set_style(ProgressStyle::with_template(template).expect("a constant"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
