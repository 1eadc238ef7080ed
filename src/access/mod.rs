//! Who may do what, decided before a channel opens.
//!
//! A [`Credential`] comes with an upgrade request, a client certificate, an `auth` command or a
//! producer's first line; [`Access`] knows which are good and what they [`Grant`]; the [`Gate`] is
//! what all cores share of it, and changes whole when the operator changes the rules. Not here:
//! where a credential was found, and what a refusal looks like on the wire. Invariant: a secret is
//! compared in constant time, and never part of a text that leaves this module.

mod addresses;
mod credential;
mod file;
mod gate;
mod grant;
pub mod keys;
mod ledger;
mod rules;
mod token;
mod token_keys;

pub use addresses::{AddressLimits, Addresses, Network, TooMany};
pub use credential::Credential;
pub use gate::{Gate, Member};
pub use grant::{Grant, Identity, Proof};
pub use ledger::{Ledger, Permit};
pub use rules::{Access, AccessError};

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub enum Denied {
    /// No credential, where one is needed.
    Missing,
    /// There is no such key, or its secret is another one, or a token's signature is not of a
    /// known key. One text for all, because the difference helps only those who guess.
    Invalid,
    /// A token in another form, or of an algorithm, issuer or audience that is not taken here.
    Unsuitable(&'static str),
    /// It was good once.
    Expired,
    /// It will be good later; clocks differ, perhaps.
    NotYet,
    /// As many connections as it may have are open.
    TooManyConnections,
}

impl Denied {
    /// What was wrong, and the cure.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => {
                "a credential is needed: the header 'Authorization: Bearer …', the query parameter \
                 token=…, or an auth command"
            }
            Self::Invalid => "the credential is not valid here",
            Self::Unsuitable(what) => what,
            Self::Expired => "the credential has expired; get a new one",
            Self::NotYet => "the credential is not valid yet; is the clock right?",
            Self::TooManyConnections => {
                "as many connections are open with this credential as it may have; close one"
            }
        }
    }
}
