//! What is subscribed to, where, as whom, and on which terms.
//!
//! Not here: what comes of it ([`super::subscriber`]). Invariant: the request that is made of it is
//! one that the protocol accepts.

use std::io::Write;

use super::credential::Credential;
use super::error::Error;
use super::pair::Pair;
use super::place::Place;
use super::subscriber::Subscriber;
use crate::protocol::channel::Pattern;
use crate::protocol::json::write_string;
use crate::protocol::terms::Wish;
use crate::shell::trust::TrustFiles;

/// What is asked of a server; [`Self::start`] makes a [`Subscriber`] of it.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub(super) url: String,
    pub(super) patterns: Vec<String>,
    terms: Wish,
    pub(super) wants_snapshot: bool,
    pub(super) place: Option<Place>,
    pub(super) credential: Credential,
    pub(super) trust: TrustFiles,
    pub(super) compress: bool,
    pub(super) binary: bool,
    pub(super) is_single: bool,
}

impl Subscription {
    /// To these channels or patterns of the server at `url` (`ws://HOST:PORT/v1`, `wss://…`), or
    /// of the nodes of a cluster, with commas between them: on the server's terms, with a snapshot
    /// first, without a credential.
    ///
    /// Of several nodes chance chooses the first; where one fails or drains, another one goes on.
    pub fn new<P: Into<String>>(
        url: impl Into<String>,
        patterns: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            url: url.into(),
            patterns: patterns.into_iter().map(Into::into).collect(),
            terms: Wish::default(),
            wants_snapshot: true,
            place: None,
            credential: Credential::None,
            trust: TrustFiles::default(),
            compress: false,
            binary: false,
            is_single: false,
        }
    }

    /// Asks for these terms: a policy for when this client reads too slowly, limits, sampling.
    #[must_use]
    pub const fn terms(mut self, terms: Wish) -> Self {
        self.terms = terms;
        self
    }

    /// Begins with the next event instead of a snapshot, also where a gap cannot be closed.
    #[must_use]
    pub const fn without_snapshot(mut self) -> Self {
        self.wants_snapshot = false;
        self
    }

    /// Begins after a place that was kept from before, instead of with a snapshot.
    #[must_use]
    pub fn resume(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Shows this to the server.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Uses these files for `wss://` instead of what this host trusts.
    #[must_use]
    pub fn trust(mut self, trust: TrustFiles) -> Self {
        self.trust = trust;
        self
    }

    /// Asks for compressed messages (RFC 7692), which cost less to send and more to read; a server
    /// that does not compress sends them as they are.
    #[must_use]
    pub const fn compressed(mut self) -> Self {
        self.compress = true;
        self
    }

    /// Asks for binary messages, which say the same in fewer bytes; a server that has none sends
    /// JSON. It compresses none.
    #[must_use]
    pub const fn binary(mut self) -> Self {
        self.binary = true;
        self
    }

    /// Ends when the connection does.
    #[must_use]
    pub const fn without_reconnect(mut self) -> Self {
        self.is_single = true;
        self
    }

    /// Checks the patterns; the connection is made when something is read.
    ///
    /// # Errors
    /// There is no pattern, or one that is none.
    pub fn start(self) -> Result<Subscriber, Error> {
        self.check()?;
        Ok(Subscriber::new(self))
    }

    /// The same with two connections at once, to different nodes if there are several: of each
    /// event the first one is given, and what one of them has lost comes from the other.
    ///
    /// # Errors
    /// As [`Self::start`]; or there are no threads for them.
    pub fn start_pair(self) -> Result<Pair, Error> {
        self.check()?;
        Pair::new(&self)
    }

    fn check(&self) -> Result<(), Error> {
        if self.patterns.is_empty() {
            return Err(Error::NoPattern);
        }
        for pattern in &self.patterns {
            if let Err(error) = Pattern::parse(pattern) {
                return Err(Error::Pattern(pattern.clone(), error));
            }
        }
        Ok(())
    }

    /// The request, from `place` on if there is one.
    pub(super) fn request(&self, place: Option<&Place>) -> String {
        let mut out = br#"{"method":"subscribe","params":{"channels":["#.to_vec();
        for (at, pattern) in self.patterns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(&mut out, pattern);
        }
        out.push(b']');
        write_terms(&mut out, &self.terms);
        if !self.wants_snapshot {
            out.extend_from_slice(br#","snapshot":false"#);
        }
        if let Some(Place { epoch, seq }) = place {
            out.extend_from_slice(br#","resume":{"epoch":"#);
            write_string(&mut out, epoch);
            write(&mut out, format_args!(r#","seq":{seq}}}"#));
        }
        out.extend_from_slice(br#"},"req_id":1}"#);
        String::from_utf8(out).expect("it was put together from strings")
    }
}

/// Appends what is asked for as members of a JSON object, each with its comma before it.
fn write_terms(out: &mut Vec<u8>, terms: &Wish) {
    if let Some(policy) = terms.policy {
        write(out, format_args!(r#","policy":"{}""#, policy.as_str()));
    }
    if let Some(ms) = terms.max_age_ms {
        write(out, format_args!(r#","max_age_ms":{ms}"#));
    }
    if let Some(bytes) = terms.max_lag_bytes {
        write(out, format_args!(r#","max_lag_bytes":{bytes}"#));
    }
    if let Some(interval) = terms.interval {
        write(out, format_args!(r#","interval_ms":{}"#, interval.ms()));
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::{self, Command};
    use crate::protocol::policy::Policy;
    use crate::protocol::terms::Interval;

    #[test]
    fn the_request_says_what_was_asked_for_and_nothing_else() {
        let plain = Subscription::new("ws://h", ["a", "b.*"]);
        let request = r#"{"method":"subscribe","params":{"channels":["a","b.*"]},"req_id":1}"#;
        assert_eq!(plain.request(None), request);
        let terms = Wish {
            policy: Some(Policy::Latest),
            max_age_ms: Some(500),
            max_lag_bytes: Some(2_048),
            interval: Some(Interval::Ms100),
        };
        let place = "01J:7".parse().ok();
        let full = Subscription::new("ws://h", [">"]).terms(terms).without_snapshot();
        let request = command::parse(&full.request(None), &mut Vec::new()).unwrap();
        let Command::Subscribe { channels, wish, .. } = request.command else { panic!() };
        assert_eq!((channels, wish), (vec![">".to_owned()], terms));
        assert_eq!(
            full.request(place.as_ref()),
            r#"{"method":"subscribe","params":{"channels":[">"],"policy":"latest","#.to_owned()
                + r#""max_age_ms":500,"max_lag_bytes":2048,"interval_ms":100,"snapshot":false,"#
                + r#""resume":{"epoch":"01J","seq":7}},"req_id":1}"#
        );
    }

    #[test]
    fn a_wrong_pattern_is_refused_before_connecting() {
        let start = |patterns: &[&str]| Subscription::new("ws://h", patterns.to_vec()).start();
        assert!(matches!(start(&[]), Err(Error::NoPattern)));
        let error = start(&["a", "b..c"]).unwrap_err();
        assert!(error.to_string().starts_with("pattern `b..c`: empty token") && error.is_usage());
    }
}
