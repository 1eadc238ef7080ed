//! What somebody shows to be let in.
//!
//! Not here: whether it is good. Invariant: its `Debug` text has no secret.

use std::fmt;

use crate::protocol::query;
use crate::protocol::tls::ClientCertificate;

/// What somebody shows to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key `ID.SECRET` or a JSON Web Token, as it was sent.
    Bearer(Box<str>),
    /// A client certificate that TLS has verified, perhaps in an earlier session.
    Certificate(ClientCertificate),
}

impl Credential {
    /// The credential of an upgrade request: that of its `Authorization` header (RFC 6750, section
    /// 2.1), or else the query parameter `token`, percent-decoded.
    #[must_use]
    pub fn find(authorization: Option<&str>, query: Option<&str>) -> Option<Self> {
        let in_header = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_ascii().into())
        });
        let in_query = || query::token(query?).map(String::into_boxed_str);
        in_header.or_else(in_query).map(Self::Bearer)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(_) => out.write_str("Bearer(…)"),
            Self::Certificate(certificate) => certificate.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_goes_before_the_query_and_other_schemes_are_no_credential() {
        let bearer = |text: &str| Some(Credential::Bearer(text.into()));
        for (authorization, query, found) in [
            (Some("Bearer a.b"), Some("token=c.d"), bearer("a.b")),
            (Some("bearer  a.b "), None, bearer("a.b")),
            (Some("Basic YTpi"), Some("x=1&token=c.d&token=e"), bearer("c.d")),
            (Some("Bearer"), None, None),
            (None, Some("mytoken=c.d"), None),
            (None, Some("token=a%2Eb%2d%5F"), bearer("a.b-_")),
            (None, Some("token=100%&y"), bearer("100%")),
            (None, Some("token=%zz%C3%A9%2"), bearer("%zzé%2")),
            (None, Some("token="), bearer("")),
            (None, None, None),
        ] {
            assert_eq!(
                Credential::find(authorization, query),
                found,
                "{authorization:?} {query:?}"
            );
        }
    }

    #[test]
    fn its_debug_text_has_no_secret() {
        let text = format!("{:?}", Credential::Bearer("desk-7.secret".into()));
        assert!(!text.contains("desk") && !text.contains("secret"), "{text}");
    }
}
