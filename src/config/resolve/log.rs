//! The settings of the log.
//!
//! Not here: who writes it (`cli`). Invariant: as for all of [`super`].

use tracing_subscriber::EnvFilter;

use super::Resolver;
use crate::config::values::{self, Wrong};
use crate::config::{LogFormat, LogSettings};
use crate::limits;

impl Resolver<'_> {
    pub(super) fn log(&mut self) -> Option<LogSettings> {
        let filter = self.take("log", None, true, |text| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(Wrong::new(
                format!("`{text}`: {error}"),
                "off, error, warn, info, debug, trace or target=level",
            )),
        });
        let format = self.take("log_format", None, true, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(Wrong::new(format!("`{other}` is no format"), "text, json")),
        });
        let ends = self.take("log_ends_per_second", None, false, |text| {
            values::count(text, 0..=limits::LOG_ENDS_PER_SECOND_MAX as usize)
        });
        Some(LogSettings {
            filter: filter?,
            format: format?,
            ends_per_second: u32::try_from(ends?).expect("within its range"),
        })
    }
}
