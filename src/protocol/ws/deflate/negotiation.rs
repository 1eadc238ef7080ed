//! Which parameters of permessage-deflate hold for a connection (RFC 7692, sections 5 and 7.1).
//!
//! Not here: the grammar of the header ([`super::super::extensions`]). Invariant: an answer to an
//! offer is one that the offer allows, and an offer that cannot be answered so is declined, which
//! costs the client its compression and nothing else.

use std::fmt;

use super::super::extensions::Extension;
use super::{COMPRESSOR_BITS_MIN, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// The extension's registered name.
pub const NAME: &str = "permessage-deflate";

/// What our own client offers: it inflates anything. Since it compresses nothing, a server may ask
/// of it what it likes.
pub const OFFER: &str = "permessage-deflate; client_max_window_bits";

const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// A client's offer, as valid as RFC 7692 demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// The outer one: it can be told how large a window to use. The inner one is a hint.
    client_bits: Option<Option<u8>>,
}

/// What a server agrees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Base-2 logarithm of the largest window that the server compresses with, 9 to 15.
    pub window_bits: u8,
    /// Its messages are compressed for one client at a time: it may keep its context, and uses a
    /// smaller window for a client that asks for it. Otherwise such a client gets long messages as
    /// they are: see [`Agreed::message_bytes_max`].
    pub is_own: bool,
    /// Clients may keep their context, which costs the server a window for each.
    pub client_context: bool,
}

/// What holds for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The server's messages may refer to earlier ones.
    pub server_context: bool,
    /// The client's messages may refer to earlier ones.
    pub client_context: bool,
    /// Base-2 logarithm of the server's window, if it was said.
    pub server_bits: Option<u8>,
    /// Base-2 logarithm of the client's window, if it was said.
    pub client_bits: Option<u8>,
}

impl Terms {
    /// Each message is compressed once, for everybody who has agreed to this.
    #[must_use]
    pub const fn shared(window_bits: u8) -> Self {
        Self { window_bits, is_own: false, client_context: false }
    }

    /// A compressor and a decompressor for each connection.
    #[must_use]
    pub const fn own() -> Self {
        Self { window_bits: WINDOW_BITS_MAX, is_own: true, client_context: true }
    }

    /// What holds on these terms for a client that made these offers, in the order of its
    /// preference; none without an offer that can be accepted.
    #[must_use]
    pub fn agree(self, offers: &[Offer]) -> Option<Agreed> {
        offers.iter().find_map(|&offer| self.answer(offer))
    }

    fn answer(self, offer: Offer) -> Option<Agreed> {
        // Eight bits can be asked for, but no compressor at hand has so small a window.
        if self.is_own && offer.server_bits.is_some_and(|bits| bits < COMPRESSOR_BITS_MIN) {
            return None;
        }
        // A smaller window than the default is said, so that the client need not keep a larger one.
        let unasked = (self.window_bits < WINDOW_BITS_MAX).then_some(self.window_bits);
        Some(Agreed {
            server_context: self.is_own && !offer.server_no_context,
            client_context: self.client_context && !offer.client_no_context,
            server_bits: offer.server_bits.map(|bits| bits.min(self.window_bits)).or(unasked),
            client_bits: None,
        })
    }
}

impl Offer {
    /// The offer in an element of the header; none if it is another extension, or has a parameter
    /// that RFC 7692 does not define, a value that it does not allow, or one parameter twice: then
    /// it is to be declined (section 7.1).
    #[must_use]
    pub fn read(extension: &Extension<'_>) -> Option<Self> {
        if extension.name != NAME {
            return None;
        }
        let mut offer = Self::default();
        for (name, value) in &extension.parameters {
            let is_new = match (*name, value.as_deref()) {
                (SERVER_NO_CONTEXT, None) => !std::mem::replace(&mut offer.server_no_context, true),
                (CLIENT_NO_CONTEXT, None) => !std::mem::replace(&mut offer.client_no_context, true),
                (SERVER_BITS, Some(bits)) => offer.server_bits.replace(window(bits)?).is_none(),
                (CLIENT_BITS, None) => offer.client_bits.replace(None).is_none(),
                (CLIENT_BITS, Some(bits)) => {
                    offer.client_bits.replace(Some(window(bits)?)).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(offer)
    }
}

/// What holds after a server's answer to [`OFFER`], of which `extension` is the one element.
///
/// # Errors
/// What is wrong with it.
pub fn agreed_by_response(extension: &Extension<'_>) -> Result<Agreed, &'static str> {
    if extension.name != NAME {
        return Err("it chose an extension that was not offered");
    }
    let wrong = "it answered permessage-deflate with parameters that RFC 7692 does not allow";
    // Answers have the parameters of offers, but the client's window always with its value.
    let answer = Offer::read(extension).ok_or(wrong)?;
    if answer.client_bits == Some(None) {
        return Err(wrong);
    }
    Ok(Agreed {
        server_context: !answer.server_no_context,
        client_context: !answer.client_no_context,
        server_bits: answer.server_bits,
        client_bits: answer.client_bits.flatten(),
    })
}

impl Agreed {
    /// Bytes of a message that may be compressed by itself with any window: what is no longer than
    /// the window that was agreed on refers no further back.
    #[must_use]
    pub fn message_bytes_max(self) -> usize {
        self.server_bits.map_or(usize::MAX, |bits| 1 << bits)
    }

    /// Base-2 logarithm of the window that the server compresses with.
    #[must_use]
    pub fn server_window_bits(self) -> u8 {
        self.server_bits.unwrap_or(WINDOW_BITS_MAX)
    }
}

impl fmt::Display for Agreed {
    /// The answer, as it stands in the header.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(NAME)?;
        if !self.server_context {
            write!(out, "; {SERVER_NO_CONTEXT}")?;
        }
        if !self.client_context {
            write!(out, "; {CLIENT_NO_CONTEXT}")?;
        }
        if let Some(bits) = self.server_bits {
            write!(out, "; {SERVER_BITS}={bits}")?;
        }
        if let Some(bits) = self.client_bits {
            write!(out, "; {CLIENT_BITS}={bits}")?;
        }
        Ok(())
    }
}

/// A window's size as it is written: 8 to 15, without leading zeros.
fn window(text: &str) -> Option<u8> {
    let bits =
        text.parse().ok().filter(|bits| (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(bits))?;
    text.starts_with(|first: char| matches!(first, '1'..='9')).then_some(bits)
}
