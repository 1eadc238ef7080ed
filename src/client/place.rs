//! A place in a server's total order: what a client has up to it, it need not be sent again.
//!
//! Invariant: a place reads back from its text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Everything up to `seq` of `epoch`.
///
/// ```
/// use fanfare::client::Place;
///
/// let place: Place = "01M886ZV0PNRC1AWV6MWP4AGZ2:1041".parse().unwrap();
/// assert_eq!(place.seq, 1041);
/// assert_eq!(place.to_string(), "01M886ZV0PNRC1AWV6MWP4AGZ2:1041");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The life of the total order that `seq` belongs to; see `welcome`.
    pub epoch: Arc<str>,
    /// The last `seq` that is had, with everything before it.
    pub seq: u64,
}

/// What was typed is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place; write EPOCH:SEQ, such as 01M886ZV0PNRC1AWV6MWP4AGZ2:1041")]
pub struct PlaceError(String);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError(text.to_owned());
        let (epoch, seq) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_epoch = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match seq.parse() {
            Ok(seq) if is_epoch => Ok(Self { epoch: epoch.into(), seq }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_named_with_an_example() {
        for text in ["", "1041", ":1041", "01J:", "01J:x", "01J:-1", "0 J:1", "a:b:1"] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("EPOCH:SEQ"), "{error}");
        }
    }
}
