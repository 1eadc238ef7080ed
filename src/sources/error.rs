//! Why a producer's line was refused: the text of the reply that the producer gets.
//!
//! One error is about one line and costs nothing else. Not here: what ends a whole replay
//! ([`crate::sources::capture::CaptureError`]). Invariant: a text is short, whatever the line held.

use crate::limits::KEY_BYTES_MAX;
use crate::protocol::channel::NameError;

/// Bytes of a producer's own text that an error repeats.
const QUOTED_BYTES_MAX: usize = 80;

/// Why a line was refused; bytes are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No newline within the limit; the line was skipped.
    #[error("longer than {limit} bytes; send less in one event or raise line_bytes_max")]
    TooLong {
        /// Bytes that a line may have, newline included.
        limit: usize,
    },
    /// The line starts with U+FEFF.
    #[error("starts with a byte order mark (EF BB BF); send UTF-8 without it")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("not valid UTF-8 at byte {at}")]
    Utf8 {
        /// The first byte that is wrong.
        at: usize,
    },
    /// Not JSON, at an unknown place: often an unclosed string or nothing at all.
    #[error("not valid JSON; a line is one whole JSON value (RFC 8259)")]
    Json,
    /// Not JSON.
    #[error("not valid JSON at byte {at}")]
    JsonAt {
        /// Where the judge stopped.
        at: usize,
    },
    /// A number that subscribers could not read.
    #[error("number at byte {at} is too large for a 64-bit float; send it as a string")]
    NumberRange {
        /// Its first byte.
        at: usize,
    },
    /// A message's body of more than one line.
    #[error("a newline between values; send the body as one line")]
    Newline,
    /// More nesting than the judge follows.
    #[error("nested deeper than 1,024 levels")]
    Depth,
    /// A producer event that is not an object.
    #[error("an event is an object {{\"channel\":…,\"data\":…}}, not {found}")]
    NotAnObject {
        /// What the line is.
        found: &'static str,
    },
    /// A top-level field that does not exist.
    #[error("unknown field \"{field}\"; an event has channel, key, ts, kind, data")]
    FieldUnknown {
        /// Its name as written, cut to a bound.
        field: String,
    },
    /// A top-level field written twice.
    #[error("field \"{field}\" is there twice")]
    FieldTwice {
        /// Its name.
        field: &'static str,
    },
    /// `channel` or `data` is absent.
    #[error("field \"{field}\" is missing")]
    FieldMissing {
        /// Its name.
        field: &'static str,
    },
    /// A top-level field of the wrong type.
    #[error("field \"{field}\" must be {expected}, not {found}")]
    FieldType {
        /// Its name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// `kind` is neither word.
    #[error("{at}: kind must be update or snapshot, not {found:?}")]
    Kind {
        /// The field or the rule's pointer.
        at: String,
        /// The value, cut to a bound.
        found: String,
    },
    /// Not a time from 1970 to 2554.
    #[error("{at}: not a time: {found}; allowed: {allowed}")]
    Time {
        /// The field or the pointer.
        at: String,
        /// The value as written, cut to a bound.
        found: String,
        /// The forms that the place takes.
        allowed: &'static str,
    },
    /// The channel's name breaks a rule.
    #[error("channel {name:?}: {why}")]
    Channel {
        /// The name, cut to a bound.
        name: String,
        /// The rule.
        why: NameError,
    },
    /// The key is too long or empty.
    #[error("key has {bytes} bytes; allowed: 1 to {KEY_BYTES_MAX} (leave it out for none)")]
    Key {
        /// Its length, unescaped.
        bytes: usize,
    },
    /// No mapping rule applies.
    #[error("no mapping rule applies: {lacks}")]
    NoRule {
        /// For each rule the pointer that the line lacks, cut to a bound.
        lacks: String,
    },
    /// The rule that applies uses a value that is not there.
    #[error("{at}: not in this line, but the mapping rule that applies uses it")]
    ValueMissing {
        /// The pointer.
        at: String,
    },
    /// A value of the wrong type.
    #[error("{at}: must be {expected}, not {found}")]
    ValueType {
        /// The pointer.
        at: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A part of a channel's name would be empty.
    #[error("{at}: empty, and a channel's token must not be")]
    ValueEmpty {
        /// The pointer or the variable.
        at: String,
    },
    /// A value that `lookup` does not have.
    #[error("{at}: {value:?} is not in the mapping's lookup table")]
    ValueUnknown {
        /// The pointer.
        at: String,
        /// The value, cut to a bound.
        value: String,
    },
    /// `{@stem}` or `{@dir}` for a line that comes from no file.
    #[error("{variable} in the mapping's channel is for replayed files; this line comes from none")]
    FileVariable {
        /// The variable.
        variable: &'static str,
    },
    /// An NDJSON line of a capture without a time.
    #[error("no time: the line has no top-level ts; name its place with time=/json/pointer")]
    NoTime,
}

impl LineError {
    /// The error's name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "line_too_long",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Utf8 { .. } => "utf8_invalid",
            Self::Json | Self::JsonAt { .. } => "json_invalid",
            Self::NumberRange { .. } => "number_range",
            Self::Newline => "newline",
            Self::Depth => "nested_too_deep",
            Self::NotAnObject { .. } => "not_an_object",
            Self::FieldUnknown { .. } => "field_unknown",
            Self::FieldTwice { .. } => "field_twice",
            Self::FieldMissing { .. } => "field_missing",
            Self::FieldType { .. } => "field_type",
            Self::Kind { .. } => "kind_invalid",
            Self::Time { .. } => "time_invalid",
            Self::Channel { .. } => "channel_invalid",
            Self::Key { .. } => "key_invalid",
            Self::NoRule { .. } => "no_rule",
            Self::ValueMissing { .. } => "value_missing",
            Self::ValueType { .. } => "value_type",
            Self::ValueEmpty { .. } => "value_empty",
            Self::ValueUnknown { .. } => "value_unknown",
            Self::FileVariable { .. } => "file_variable",
            Self::NoTime => "no_time",
        }
    }
}

/// A producer's text, cut to what an error repeats of it.
#[must_use]
pub fn bounded(text: &str) -> String {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = QUOTED_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
