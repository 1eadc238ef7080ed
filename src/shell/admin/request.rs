//! The head of an admin request: method, path, query, and who asks.
//!
//! Not here: what is answered. Invariant: a request that a page of another origin makes a browser
//! send is told apart, because who sits at the browser did not ask for it.

use std::net::{IpAddr, SocketAddr};

use crate::limits::UPGRADE_HEADERS_MAX;

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path, from its first slash to the question mark.
    pub(super) path: String,
    /// Names and values, as they were written.
    pub(super) query: Vec<(String, String)>,
    /// The token that is shown.
    pub(super) bearer: Option<String>,
    host: Option<String>,
    origin: Option<String>,
}

impl Request {
    /// Reads a head, with its empty line; none if it is no HTTP/1.1 request.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        if !parsed.parse(head).ok()?.is_complete() {
            return None;
        }
        let header = |name: &str| {
            let header =
                parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
        };
        let target = parsed.path?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let bearer = header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        Some(Self {
            method: parsed.method?.to_owned(),
            path: path.to_owned(),
            query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            bearer,
            host: header("host").map(str::to_owned),
            origin: header("origin").map(str::to_owned),
        })
    }

    /// Whether the name that was asked for is an address: a name that leads here may be anybody's,
    /// and a browser takes a page of that name for one of ours.
    pub(super) fn names_an_address(&self) -> bool {
        let Some(host) = &self.host else { return true };
        let is_local = |name: &str| name.eq_ignore_ascii_case("localhost");
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        host.parse::<SocketAddr>().is_ok()
            || host.parse::<IpAddr>().is_ok()
            || name.parse::<IpAddr>().is_ok()
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || is_local(name)
    }

    /// Whether a page of another origin makes the request.
    pub(super) fn is_of_another_origin(&self) -> bool {
        let Some(origin) = &self.origin else { return false };
        let own = origin.split_once("://").map(|(_, host)| host);
        own != self.host.as_deref()
    }

    /// The value of a parameter; an error names those that mean nothing here.
    pub(super) fn parameters<const N: usize>(
        &self,
        known: [&str; N],
    ) -> Result<[Option<&str>; N], String> {
        if let Some((name, _)) = self.query.iter().find(|(name, _)| !known.contains(&&**name)) {
            let known = if N == 0 { "none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no parameter `{name}` here; there are: {known}\n"));
        }
        let value = |name| {
            let pair = self.query.iter().rev().find(|(other, _)| other == name);
            pair.map(|(_, value)| value.as_str())
        };
        Ok(known.map(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Request> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_taken_apart_and_what_is_none_is_refused() {
        let head = "POST /connections/0-1-2/kick?a=1&b&a=2 HTTP/1.1\r\nHost: 127.0.0.1:9003\r\n\
            authorization: bearer  t0ken \r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((&*request.method, &*request.path), ("POST", "/connections/0-1-2/kick"));
        assert_eq!(request.bearer.as_deref(), Some("t0ken"));
        assert_eq!(request.parameters(["a", "b"]), Ok([Some("2"), Some("")]));
        assert!(request.parameters(["a"]).unwrap_err().contains("`b`"));
        assert!(request.names_an_address() && !request.is_of_another_origin());
        for other in ["", "GET / HTTP/1.1\r\n", "GET\r\n\r\n", "\0\0\r\n\r\n"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let with = |host: &str, origin: &str| {
            let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
            let request = parse(&head).unwrap();
            (request.names_an_address(), request.is_of_another_origin())
        };
        assert_eq!(with("127.0.0.1:9003", "http://127.0.0.1:9003"), (true, false));
        assert_eq!(with("[::1]:9003", "http://[::1]:9003"), (true, false));
        assert_eq!(with("localhost:9003", "null"), (true, true));
        assert_eq!(with("evil.example:9003", "http://evil.example:9003"), (false, false));
        assert_eq!(with("127.0.0.1:9003", "https://evil.example"), (true, true));
    }
}
