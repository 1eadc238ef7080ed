//! Channel names and the patterns that match them.
//!
//! Names are dot-separated tokens of `a-zA-Z0-9_-`; in a pattern `*` matches one token and a final
//! `>` the rest (one token or more), as in NATS subjects. Not here: which patterns a client holds
//! (`fanout`). Invariant: a [`Pattern`] that exists is valid.

use std::cmp::Ordering;

use crate::limits::{CHANNEL_BYTES_MAX, CHANNEL_TOKENS_MAX};

/// Why a channel name or a pattern was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between two dots, at an end, or at all.
    #[error("empty token; a name is tokens of a-z A-Z 0-9 _ - separated by single dots")]
    EmptyToken,
    /// A character outside the alphabet.
    #[error("character not allowed; tokens take a-z A-Z 0-9 _ -, and patterns also * and >")]
    Character,
    /// `*` or `>` beside other characters, or `>` before the end.
    #[error("a wildcard is a whole token: * for one token, > for the rest and only at the end")]
    Wildcard,
    /// More than [`CHANNEL_BYTES_MAX`] bytes.
    #[error("longer than {CHANNEL_BYTES_MAX} bytes")]
    TooLong,
    /// The server's own name.
    #[error("the first token `control` belongs to the server; choose another")]
    Reserved,
    /// More than [`CHANNEL_TOKENS_MAX`] tokens.
    #[error("more than {CHANNEL_TOKENS_MAX} tokens")]
    TooManyTokens,
}

/// The first token that nobody may use: the server's own messages have this channel.
const RESERVED: &str = "control";

/// Checks a channel name: no wildcards, and not the server's own.
///
/// # Errors
/// The first rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check(name, false)
}

fn check(name: &str, wildcards: bool) -> Result<(), NameError> {
    if name.len() > CHANNEL_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let mut tokens = 0;
    let mut rest_seen = false;
    for token in name.split('.') {
        tokens += 1;
        if rest_seen {
            return Err(NameError::Wildcard);
        }
        match token {
            "" => return Err(NameError::EmptyToken),
            "*" if wildcards => {}
            ">" if wildcards => rest_seen = true,
            _ if token.bytes().all(is_token_byte) => {}
            _ if wildcards && token.bytes().any(|byte| byte == b'*' || byte == b'>') => {
                return Err(NameError::Wildcard);
            }
            _ => return Err(NameError::Character),
        }
    }
    if tokens > CHANNEL_TOKENS_MAX {
        return Err(NameError::TooManyTokens);
    }
    if name.split('.').next() == Some(RESERVED) { Err(NameError::Reserved) } else { Ok(()) }
}

/// True for the bytes that a token may hold.
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A valid subscription pattern; without wildcards it is one channel's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Takes a pattern as a client wrote it.
    ///
    /// # Errors
    /// The first rule that the pattern breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, true)?;
        Ok(Self(text.into()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the pattern names exactly one channel.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.bytes().any(|byte| byte == b'*' || byte == b'>')
    }

    /// True when the pattern matches every channel.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        &*self.0 == ">"
    }

    /// Whether `channel`, a valid name, is matched.
    #[must_use]
    pub fn matches(&self, channel: &str) -> bool {
        let mut names = channel.split('.');
        for token in self.0.split('.') {
            match (token, names.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (token, Some(name)) if token == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether it matches every channel that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut others = other.0.split('.');
        for token in self.0.split('.') {
            match (token, others.next()) {
                (">", Some(_)) => return true,
                (_, Some(">")) | (_, None) => return false,
                ("*", Some(_)) => {}
                (token, Some(other)) if token == other => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }

    /// Whether there can be a channel that both match.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut others = other.0.split('.');
        for token in self.0.split('.') {
            match (token, others.next()) {
                (">", Some(_)) | (_, Some(">")) => return true,
                (_, None) => return false,
                ("*", Some(_)) | (_, Some("*")) => {}
                (token, Some(other)) if token == other => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }

    /// Orders patterns that match the same channel, the most specific first: token by token, a name
    /// before `*` before `>`.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        let rank = |token: &str| match token {
            ">" => 2,
            "*" => 1,
            _ => 0,
        };
        self.0.split('.').map(rank).cmp(other.0.split('.').map(rank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_checked_token_by_token() {
        for good in ["a", "trade.BTC-USDT", "a_b.c.D9"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_name("control"), Err(NameError::Reserved));
        assert_eq!(check_name("control.x"), Err(NameError::Reserved));
        assert_eq!(check_name(""), Err(NameError::EmptyToken));
        assert_eq!(check_name("a..b"), Err(NameError::EmptyToken));
        assert_eq!(check_name("a.b."), Err(NameError::EmptyToken));
        assert_eq!(check_name("a.b@c"), Err(NameError::Character));
        assert_eq!(check_name("a.*"), Err(NameError::Character));
        assert_eq!(check_name(&"x".repeat(256)), Err(NameError::TooLong));
        assert_eq!(check_name(&"x.".repeat(17)[..33]), Err(NameError::TooManyTokens));
        for (bad, why) in [
            ("a.>.b", NameError::Wildcard),
            ("a.b*", NameError::Wildcard),
            ("a.>b", NameError::Wildcard),
            ("a b", NameError::Character),
            ("control", NameError::Reserved),
            ("control.>", NameError::Reserved),
        ] {
            assert_eq!(Pattern::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn patterns_are_compared_by_what_they_match() {
        let pattern = |text| Pattern::parse(text).unwrap();
        for (wide, narrow, covers, overlaps) in [
            (">", "a.*", true, true),
            ("a.>", "a.b.c", true, true),
            ("a.>", "a", false, false),
            ("a.*", "a.b", true, true),
            ("a.*", "*.b", false, true),
            ("a.*", "a.>", false, true),
            ("a.b", "a.*", false, true),
            ("a.b", "a.b", true, true),
            ("a.b", "a.c", false, false),
            ("*", "a.b", false, false),
        ] {
            let (wide, narrow) = (pattern(wide), pattern(narrow));
            assert_eq!(wide.covers(&narrow), covers, "{wide:?} {narrow:?}");
            assert_eq!(wide.overlaps(&narrow), overlaps, "{wide:?} {narrow:?}");
            assert_eq!(narrow.overlaps(&wide), overlaps, "{narrow:?} {wide:?}");
        }
        let mut patterns = [">", "a.>", "*.b", "a.*", "a.b"].map(pattern);
        patterns.sort_by(Pattern::specificity);
        assert_eq!(patterns.map(|p| p.as_str().to_owned()), ["a.b", "a.*", "a.>", "*.b", ">"]);
    }

    #[test]
    fn wildcards_match_as_nats_subjects_do() {
        for (pattern, channel, expected) in [
            ("trade.BTC", "trade.BTC", true),
            ("trade.BTC", "trade.ETH", false),
            ("trade.*", "trade.BTC", true),
            ("trade.*", "trade", false),
            ("trade.*", "trade.a.b", false),
            ("*.BTC", "quote.BTC", true),
            ("trade.>", "trade.a.b", true),
            ("trade.>", "trade", false),
            (">", "a", true),
            ("*.>", "a", false),
            ("*.*", "a.b", true),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(channel), expected, "{} {channel}", pattern.as_str());
        }
    }
}
