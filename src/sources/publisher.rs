//! Who a producer is, and where it may publish.
//!
//! A producer shows its credential in its first line, and a newer one in any later line:
//! `{"method":"auth","params":{"token":"…"}}`. Not here: the rules ([`crate::access`]), reading and
//! deadlines ([`super::producers`]). Invariant: an event that is let through is on a channel that
//! the present grant covers.

use std::sync::Arc;

use crate::access::{Credential, Denied, Gate, Member};
use crate::protocol::command::{self, Command, Secret};
use crate::sources::intake::Refusal;

/// One producer and what it has proven.
#[derive(Debug)]
pub struct Publisher {
    /// None: whoever can connect may publish.
    gate: Option<Arc<Gate>>,
    member: Member,
    /// The channel that was allowed last, because events of one channel come in rows.
    allowed: String,
    scratch: Vec<u8>,
}

/// What a line was, beside an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A credential that is good.
    Authenticated,
    /// A credential that is not; whoever is in keeps what it had.
    Refused(Refusal),
    /// The last line that counts: the producer may not go on.
    Ended(Refusal),
}

impl Publisher {
    /// A producer that has just come, at `now_ns`, nanoseconds since the Unix epoch, with the
    /// certificate that it has shown, if any. Without a gate it may publish everything.
    #[must_use]
    pub fn new(gate: Option<Arc<Gate>>, certificate: Option<&Credential>, now_ns: u64) -> Self {
        let member = match &gate {
            None => Member::anyone(),
            Some(gate) => (gate.admit(certificate, now_ns).ok())
                .filter(|member| !member.grant().publish.is_empty())
                .unwrap_or_else(|| gate.stranger()),
        };
        Self { gate, member, allowed: String::new(), scratch: Vec::new() }
    }

    /// One of whom a credential is still to come, if one is asked for.
    #[must_use]
    pub fn stranger(gate: Option<Arc<Gate>>) -> Self {
        let member = gate.as_ref().map_or_else(Member::anyone, |gate| gate.stranger());
        Self { gate, member, allowed: String::new(), scratch: Vec::new() }
    }

    /// Whether it has to show a credential before anything else.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_stranger(&self.member))
    }

    /// Looks at a line before it is taken for an event; none when it may be one.
    pub fn handle_line(&mut self, line: &[u8], now_ns: u64) -> Option<Heard> {
        if is_auth(line) {
            return Some(self.authenticate(line, now_ns));
        }
        self.look(now_ns).map(Heard::Ended)
    }

    /// Why it may not go on, if it may not: rules change and credentials end.
    pub fn look(&mut self, now_ns: u64) -> Option<Refusal> {
        let gate = self.gate.as_ref()?;
        match gate.recheck(&mut self.member) {
            None => {}
            Some(true) => self.allowed.clear(),
            Some(false) => {
                let message = "the credential was revoked by the operator".into();
                return Some(Refusal { code: "auth_revoked", message });
            }
        }
        if gate.is_stranger(&self.member) {
            return Some(auth_required());
        }
        self.member.grant().is_expired(now_ns).then(auth_expired)
    }

    /// Whether it may publish on `channel`.
    pub fn may_publish(&mut self, channel: &str) -> bool {
        if self.allowed == channel {
            return true;
        }
        let is_allowed = self.member.grant().may_publish(channel);
        if is_allowed {
            self.allowed.clear();
            self.allowed.push_str(channel);
        }
        is_allowed
    }

    fn authenticate(&mut self, line: &[u8], now_ns: u64) -> Heard {
        let was_stranger = self.is_stranger();
        let Err(refusal) = self.renew(line, now_ns) else {
            self.allowed.clear();
            return Heard::Authenticated;
        };
        if was_stranger { Heard::Ended(refusal) } else { Heard::Refused(refusal) }
    }

    fn renew(&mut self, line: &[u8], now_ns: u64) -> Result<(), Refusal> {
        let text = std::str::from_utf8(line).map_err(|_| auth_required())?;
        let request = command::parse(text, &mut self.scratch)
            .map_err(|refusal| Refusal { code: refusal.code.as_str(), message: refusal.message });
        // The parser's copy of the secret is not kept.
        self.scratch = Vec::new();
        let Command::Auth { token: Secret(token) } = request?.command else {
            return Err(auth_required());
        };
        let Some(gate) = &self.gate else { return Ok(()) };
        let renewed = gate.renew(&mut self.member, &Credential::Bearer(token), now_ns);
        renewed.map_err(|denied| Refusal { code: "auth_failed", message: denied.text().into() })
    }
}

/// The refusal of whoever sends something else first, or nothing in time.
#[must_use]
pub fn auth_required() -> Refusal {
    let message = "begin with the line {\"method\":\"auth\",\"params\":{\"token\":\"…\"}}".into();
    Refusal { code: "auth_required", message }
}

/// The refusal of whoever has a credential that has ended.
#[must_use]
pub fn auth_expired() -> Refusal {
    Refusal { code: "auth_expired", message: Denied::Expired.text().into() }
}

/// Whether the first member of the object in `line` is `"method":"auth"`: looked at in every line,
/// so it does not parse.
fn is_auth(line: &[u8]) -> bool {
    let after = |bytes: &[u8], token: &[u8]| -> Option<usize> {
        let rest = bytes.trim_ascii_start().strip_prefix(token)?;
        Some(bytes.len() - rest.len())
    };
    let tokens: [&[u8]; 4] = [b"{", b"\"method\"", b":", b"\"auth\""];
    let found = tokens.iter().try_fold(0, |at, token| Some(at + after(&line[at..], token)?));
    found.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::keys::NewKey;
    use crate::access::{Access, Grant};

    const DAY_NS: u64 = 86_400_000_000_000;

    fn access(text: &str) -> Access {
        let folder =
            std::env::temp_dir().join(format!("fanfare-publisher-{}", ulid::Ulid::generate()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("access.toml");
        std::fs::write(&path, text).unwrap();
        let access = Access::load(&path);
        std::fs::remove_dir_all(folder).unwrap();
        access.unwrap()
    }

    fn auth(token: &str) -> Vec<u8> {
        format!("{{ \"method\": \"auth\", \"params\": {{\"token\": \"{token}\"}}}}").into_bytes()
    }

    #[test]
    fn a_stranger_has_one_line_to_say_who_it_is() {
        let NewKey { credential, sha256 } = NewKey::generate("a").unwrap();
        let rule = |publish: &str| {
            format!(
                "[[key]]\nid = \"a\"\nsha256 = \"{sha256}\"\npublish = [{publish}]\n\
                connections_max = 1\nexpires = 1970-01-02T00:00:00Z"
            )
        };
        let gate = Arc::new(Gate::new(access(&rule("\"quote.*\""))));
        let new = || Publisher::new(Some(Arc::clone(&gate)), None, 0);
        let event = br#"{"channel":"quote.a","data":1}"#;
        assert!(new().is_stranger());
        assert_eq!(new().handle_line(event, 0), Some(Heard::Ended(auth_required())));
        let wrong = new().handle_line(&auth("a.wrong"), 0);
        assert!(matches!(wrong, Some(Heard::Ended(refusal)) if refusal.code == "auth_failed"));
        let wrong = new().handle_line(br#"{"method":"auth"}"#, 0);
        assert!(matches!(wrong, Some(Heard::Ended(refusal)) if refusal.code == "param_missing"));

        let mut publisher = new();
        assert_eq!(publisher.handle_line(&auth(&credential), 0), Some(Heard::Authenticated));
        assert_eq!(publisher.handle_line(event, 0), None);
        for _ in 0..2 {
            assert!(publisher.may_publish("quote.a") && !publisher.may_publish("trade.a"));
        }
        let second = new().handle_line(&auth(&credential), 0);
        assert!(matches!(second, Some(Heard::Ended(refusal)) if refusal.message.contains("open")));
        let again = publisher.handle_line(&auth("a.wrong"), 0);
        assert!(matches!(again, Some(Heard::Refused(_))), "it keeps what it had");
        assert_eq!(publisher.handle_line(event, DAY_NS - 1), None);
        let late = publisher.handle_line(event, DAY_NS);
        assert!(matches!(late, Some(Heard::Ended(refusal)) if refusal.code == "auth_expired"));

        assert!(publisher.may_publish("quote.a"));
        gate.replace(access(&rule("\"trade.a\"")));
        assert_eq!(publisher.handle_line(event, 0), None);
        assert!(publisher.may_publish("trade.a") && !publisher.may_publish("quote.a"));
        gate.replace(access("[anonymous]\npublish = [\"open.>\"]"));
        let revoked = publisher.handle_line(event, 0);
        assert!(matches!(revoked, Some(Heard::Ended(refusal)) if refusal.code == "auth_revoked"));
        assert!(!new().is_stranger() && new().may_publish("open.a") && !new().may_publish("a"));
    }

    #[test]
    fn without_rules_a_credential_is_not_needed_and_not_refused() {
        let open = Arc::new(Gate::new(Access::open()));
        for gate in [None, Some(open)] {
            let mut publisher = Publisher::new(gate, None, 0);
            assert!(!publisher.is_stranger());
            assert_eq!(publisher.handle_line(&auth("a.b"), 0), Some(Heard::Authenticated));
            assert!(publisher.may_publish("any.channel"));
            assert_eq!(publisher.handle_line(br#"{"method":"subscription"}"#, 0), None);
            assert_eq!(publisher.handle_line(br#"{"method":"#, 0), None);
            assert_eq!(publisher.handle_line(b"", 0), None);
        }
        assert_eq!(Member::anyone().grant(), &Grant::everything());
    }
}
