//! Encodings: the forms in which one event can be written, and what a client reads.
//!
//! All forms carry the same events; a client chooses one with its upgrade. Not here: the forms
//! themselves ([`super::data`], [`super::ws`]). Invariant: a client reads one form, or that and
//! frames of JSON between its own.

use crate::telemetry::tally::ENCODINGS;

use super::ws::deflate::{Agreed, WINDOW_BITS_MAX};

/// A form of an event's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// A WebSocket message of JSON text.
    Json,
    /// The same, compressed by itself (RFC 7692).
    Deflate,
    /// A WebSocket message of fixed fields (docs/PROTOCOL.md).
    Binary,
    /// An event of a stream of Server-Sent Events.
    Sse,
}

impl Form {
    /// All of them, each at its number.
    pub const ALL: [Self; 4] = [Self::Json, Self::Deflate, Self::Binary, Self::Sse];

    /// How many there are beside JSON.
    pub const FURTHER: usize = Self::ALL.len() - 1;

    /// The form with this name in metrics and lists.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&form| ENCODINGS[form as usize] == name)
    }

    /// Whether a client of this form cannot read JSON in its place.
    #[must_use]
    pub const fn is_alone(self) -> bool {
        matches!(self, Self::Binary | Self::Sse)
    }
}

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Sub-protocol `fanfare.v1.json`.
    #[default]
    Json,
    /// The same with permessage-deflate, without context takeover.
    Deflate {
        /// Base-2 logarithm of the window that the client can keep, `server_max_window_bits` of RFC
        /// 7692, section 7.1.2.1.
        window_bits: u8,
    },
    /// Sub-protocol `fanfare.v1.bin`.
    Binary,
    /// Server-Sent Events: no WebSocket at all.
    Sse,
}

impl Encoding {
    /// That of a client with which this was agreed on.
    #[must_use]
    pub fn of(agreed: Option<Agreed>) -> Self {
        agreed
            .map_or(Self::Json, |agreed| Self::Deflate { window_bits: agreed.server_window_bits() })
    }

    /// The form of its events.
    #[must_use]
    pub const fn form(self) -> Form {
        match self {
            Self::Json => Form::Json,
            Self::Deflate { .. } => Form::Deflate,
            Self::Binary => Form::Binary,
            Self::Sse => Form::Sse,
        }
    }

    /// Its name in metrics and lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ENCODINGS[self.form() as usize]
    }

    /// Whether its client can read a message in [`Self::form`] that came of a frame of JSON with so
    /// many bytes. Nothing in a message refers back further than to its beginning, so a window that
    /// is as long as the message is enough.
    #[must_use]
    pub const fn reads(self, json_len: u32) -> bool {
        match self {
            Self::Json | Self::Binary | Self::Sse => true,
            Self::Deflate { window_bits } => {
                window_bits >= WINDOW_BITS_MAX || json_len >> window_bits == 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_window_is_for_small_messages_and_the_largest_for_all() {
        let small = Encoding::Deflate { window_bits: 10 };
        assert!(small.reads(1_023) && !small.reads(1_024));
        assert!(Encoding::Deflate { window_bits: WINDOW_BITS_MAX }.reads(u32::MAX));
        assert_eq!(Form::ALL.len(), ENCODINGS.len());
        assert!(Form::ALL.iter().enumerate().all(|(at, &form)| form as usize == at));
    }
}
