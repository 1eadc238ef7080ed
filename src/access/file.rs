//! The access file: TOML into rules, or every problem with its line.
//!
//! Not here: what the rules decide ([`super::rules`]). Invariant: a field that is not known, in any
//! table, is a problem; nothing that an operator wrote is silently without effect.

use std::collections::HashSet;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Range;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::keys::{ID_ALLOWED, is_id};
use super::token::{ALGORITHMS, Texts, Tokens};
use super::token_keys::{TokenKey, algorithm};
use super::{Access, Grant, Identity, Proof};
use crate::config::raw::{Origin, Problem, Problems};
use crate::config::values;
use crate::limits::{ACCESS_NAME_BYTES_MAX, TOKEN_LEEWAY_MS, TOKEN_LEEWAY_MS_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;

/// Reads the contents of a file that the access file names.
type ReadFile<'a> = &'a mut dyn FnMut(&str) -> io::Result<Vec<u8>>;

/// Takes the texts of access files, each with its name; together they are the rules.
pub(super) fn parse<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    read: ReadFile<'_>,
) -> Result<Access, Problems> {
    let mut reader =
        Reader { file: "", text: "", read, problems: Vec::new(), access: Access::default() };
    for (file, text) in files {
        (reader.file, reader.text) = (file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let wrong = error.message().replace('\n', ", ");
            reader.problem(error.span().unwrap_or_default(), "syntax", wrong, SYNTAX_ALLOWED);
        }
        if errors.is_empty() {
            reader.document(document.into_inner());
        }
    }
    if reader.problems.is_empty() && !reader.access.lets_somebody_in() {
        reader.problem(0..0, "access", "nobody may do anything", NOBODY_ALLOWED);
    }
    if reader.problems.is_empty() { Ok(reader.access) } else { Err(Problems(reader.problems)) }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    read: ReadFile<'a>,
    problems: Vec<Problem>,
    access: Access,
}

/// What every table may have: what its holder may do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rights {
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    policies: Option<Vec<Spanned<String>>>,
    connections_max: Option<NonZeroU32>,
    subscriptions_max: Option<NonZeroUsize>,
}

const RIGHTS: [&str; 5] =
    ["subscribe", "publish", "policies", "connections_max", "subscriptions_max"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: Spanned<String>,
    sha256: Spanned<String>,
    expires: Option<Spanned<Datetime>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    algorithms: Vec<Spanned<String>>,
    jwks: Option<Spanned<String>>,
    #[serde(default)]
    keys: Vec<Spanned<IssuerKey>>,
    issuer: Option<String>,
    #[serde(default)]
    audience: Texts,
    leeway: Option<Spanned<String>>,
    require_expiry: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerKey {
    id: Option<String>,
    algorithm: Spanned<String>,
    file: Spanned<String>,
}

impl Reader<'_> {
    fn document(&mut self, document: DeTable<'_>) {
        for (key, value) in document {
            match key.get_ref().as_ref() {
                // Within one file TOML itself refuses it.
                "origins" | "anonymous" | "token" if self.has(key.get_ref()) => {
                    let allowed = "allowed: one of all entries";
                    self.problem(key.span(), key.get_ref(), "it is there twice", allowed);
                }
                "origins" => self.origins(value),
                "anonymous" => self.anonymous(value),
                "key" => self.tables("key", value, Self::key),
                "certificate" => self.tables("certificate", value, Self::certificate),
                "token" => self.token(value),
                other => self.problem(key.span(), other, "no such field", DOCUMENT_ALLOWED),
            }
        }
    }

    fn has(&self, field: &str) -> bool {
        let Access { origins, anonymous, tokens, .. } = &self.access;
        match field {
            "origins" => origins.is_some(),
            "anonymous" => anonymous.is_some(),
            _ => tokens.is_some(),
        }
    }

    fn origins(&mut self, value: Spanned<DeValue<'_>>) {
        let Some(origins) = self.deserialize::<Vec<Spanned<String>>>("origins", value, ORIGIN)
        else {
            return;
        };
        for origin in &origins {
            if !is_origin(origin.get_ref()) {
                let what = format!("`{}` is not an origin", origin.get_ref());
                self.problem(origin.span(), "origins", what, ORIGIN);
            }
        }
        self.access.origins = Some(origins.into_iter().map(Spanned::into_inner).collect());
    }

    fn anonymous(&mut self, value: Spanned<DeValue<'_>>) {
        if let Some((Nothing {}, grant)) = self.table("anonymous", value, ANONYMOUS_ALLOWED) {
            self.access.anonymous = Some(Arc::new(grant));
        }
    }

    fn key(&mut self, value: Spanned<DeValue<'_>>) {
        let Some((key, grant)) = self.table::<Key>("key", value, KEY_ALLOWED) else { return };
        let id = key.id.get_ref();
        if !is_id(id) {
            let what = format!("`{id}` is not an id");
            self.problem(key.id.span(), "key.id", what, &format!("allowed: {ID_ALLOWED}"));
        }
        let Some(proof) = hexadecimal(key.sha256.get_ref()).map(Proof) else {
            return self.problem(key.sha256.span(), "key.sha256", SHA256_WRONG, SHA256_ALLOWED);
        };
        let expires_ns = match &key.expires {
            None => None,
            Some(expires) => match nanoseconds(expires.get_ref()) {
                Some(expires_ns) => Some(expires_ns),
                None => {
                    let what = format!("`{}` is no point in time", expires.get_ref());
                    return self.problem(expires.span(), "key.expires", what, EXPIRES_ALLOWED);
                }
            },
        };
        let identity = Identity::Key(id.as_str().into());
        let grant = Grant { identity, expires_ns, proof: Some(proof), ..grant };
        if !self.access.keys.insert(id.as_str().into(), grant) {
            let what = format!("`{id}` is there twice");
            self.problem(key.id.span(), "key.id", what, "allowed: one [[key]] for each id");
        }
    }

    fn certificate(&mut self, value: Spanned<DeValue<'_>>) {
        let Some((certificate, grant)) =
            self.table::<Certificate>("certificate", value, CERTIFICATE_ALLOWED)
        else {
            return;
        };
        let name = certificate.name.get_ref().to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
        if name.is_empty() || name.len() > ACCESS_NAME_BYTES_MAX || !name.bytes().all(plain) {
            let what = format!("`{name}` is not a DNS name");
            return self.problem(certificate.name.span(), "certificate.name", what, NAME_ALLOWED);
        }
        let identity = Identity::Certificate(name.as_str().into());
        let grant = Arc::new(Grant { identity, ..grant });
        if self.access.certificates.insert(name.as_str().into(), grant).is_some() {
            let what = format!("`{name}` is there twice");
            let allowed = "allowed: one [[certificate]] for each name";
            self.problem(certificate.name.span(), "certificate.name", what, allowed);
        }
    }

    fn token(&mut self, value: Spanned<DeValue<'_>>) {
        let span = value.span();
        let Some((token, grant)) = self.table::<Token>("token", value, TOKEN_ALLOWED) else {
            return;
        };
        let mut algorithms = Vec::new();
        for name in &token.algorithms {
            algorithms.extend(self.algorithm("token.algorithms", name));
        }
        if token.algorithms.is_empty() {
            self.problem(span.clone(), "token.algorithms", "empty", ALGORITHMS_ALLOWED);
        }
        let keys = self.token_keys(span, &token, &algorithms);
        let leeway = token.leeway.as_ref().map_or(Some(TOKEN_LEEWAY_MS), |leeway| {
            match values::duration(leeway.get_ref(), 0..=TOKEN_LEEWAY_MS_MAX) {
                Ok(leeway) => u64::try_from(leeway.as_millis()).ok(),
                Err(wrong) => {
                    let allowed = format!("allowed: {}", wrong.allowed);
                    self.problem(leeway.span(), "token.leeway", wrong.what, &allowed);
                    None
                }
            }
        });
        self.access.tokens = Some(Tokens {
            keys,
            issuer: token.issuer,
            audience: token.audience,
            leeway_ns: leeway.unwrap_or_default() * 1_000_000,
            needs_expiry: token.require_expiry.unwrap_or(true),
            grant,
        });
    }

    fn token_keys(
        &mut self,
        span: Range<usize>,
        token: &Token,
        algorithms: &[Algorithm],
    ) -> Vec<TokenKey> {
        let mut keys = Vec::new();
        if let Some(jwks) = &token.jwks
            && let Some(bytes) = self.contents("token.jwks", jwks)
        {
            match TokenKey::from_jwks(bytes, algorithms) {
                Ok(found) if found.is_empty() => {
                    let what = format!("`{}` has no key of these algorithms", jwks.get_ref());
                    self.problem(jwks.span(), "token.jwks", what, ALGORITHMS_ALLOWED);
                }
                Ok(found) => keys.extend(found),
                Err(error) => {
                    let what = format!("`{}` is {error}", jwks.get_ref());
                    self.problem(jwks.span(), "token.jwks", what, error.allowed());
                }
            }
        }
        for key in token.keys.iter().map(Spanned::get_ref) {
            let Some(algorithm) = self.algorithm("token.keys.algorithm", &key.algorithm) else {
                continue;
            };
            if !algorithms.contains(&algorithm) {
                let what = format!("{} is not in algorithms", key.algorithm.get_ref());
                let allowed = "allowed: one of those that [token] takes";
                self.problem(key.algorithm.span(), "token.keys.algorithm", what, allowed);
            }
            let Some(bytes) = self.contents("token.keys.file", &key.file) else { continue };
            match TokenKey::from_file(key.id.clone(), algorithm, &bytes) {
                Ok(key) => keys.push(key),
                Err(error) => {
                    let what = format!("`{}` is {error}", key.file.get_ref());
                    self.problem(key.file.span(), "token.keys.file", what, error.allowed());
                }
            }
        }
        if token.jwks.is_none() && token.keys.is_empty() {
            self.problem(span.clone(), "token", "there are no keys", TOKEN_KEYS_ALLOWED);
        }
        self.check_choice(span, &keys);
        keys
    }

    /// Checks that a token can always be given its one key.
    fn check_choice(&mut self, span: Range<usize>, keys: &[TokenKey]) {
        let mut seen = HashSet::new();
        for key in keys {
            let of_algorithm = keys.iter().filter(|other| other.algorithm() == key.algorithm());
            let is_alone = of_algorithm.count() == 1;
            if !is_alone && (key.id.is_none() || !seen.insert((key.algorithm(), &key.id))) {
                let id = key.id.as_deref().unwrap_or("(none)");
                let what = format!("several keys of {:?}, one with id {id}", key.algorithm());
                let allowed = "allowed: one key of an algorithm, or a different id for each";
                return self.problem(span, "token", what, allowed);
            }
        }
    }

    fn algorithm(&mut self, key: &str, name: &Spanned<String>) -> Option<Algorithm> {
        let found = algorithm(name.get_ref());
        if found.is_none() {
            let what = format!("`{}` is not an algorithm that is taken", name.get_ref());
            self.problem(name.span(), key, what, ALGORITHMS_ALLOWED);
        }
        found
    }

    /// The contents of a file that is named here.
    fn contents(&mut self, key: &str, name: &Spanned<String>) -> Option<Vec<u8>> {
        let read = (self.read)(name.get_ref());
        read.map_err(|error| {
            let what = format!("cannot read `{}`: {error}", name.get_ref());
            self.problem(name.span(), key, what, "allowed: a file; beside this one if relative");
        })
        .ok()
    }

    /// Takes each of the tables of `[[name]]`.
    fn tables<'v>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'v>>,
        take: impl Fn(&mut Self, Spanned<DeValue<'v>>),
    ) {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(tables) => tables.into_iter().for_each(|table| take(self, table)),
            other => {
                let what = format!("a {} instead of a list of tables", other.type_str());
                self.problem(span, name, what, &format!("allowed: [[{name}]] tables"));
            }
        }
    }

    /// A table's own fields, and what its holder may do.
    fn table<T: DeserializeOwned>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'_>>,
        allowed: &str,
    ) -> Option<(T, Grant)> {
        let span = value.span();
        let DeValue::Table(fields) = value.into_inner() else {
            self.problem(span, name, "not a table", allowed);
            return None;
        };
        let is_right = |name: &str| RIGHTS.contains(&name);
        let (rights, own): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| is_right(name.get_ref().as_ref()));
        let table = |fields: Vec<_>| {
            Spanned::new(span.clone(), DeValue::Table(fields.into_iter().collect()))
        };
        let own = self.deserialize(name, table(own), allowed);
        let rights = self.deserialize(name, table(rights), RIGHTS_ALLOWED);
        Some((own?, self.grant(name, &rights?)))
    }

    fn grant(&mut self, name: &str, rights: &Rights) -> Grant {
        let mut patterns = |field: &str, texts: &[Spanned<String>]| -> Arc<[Pattern]> {
            let parsed = texts.iter().filter_map(|text| {
                let wrong = |error| {
                    let key = format!("{name}.{field}");
                    let what = format!("`{}`: {error}", text.get_ref());
                    self.problem(text.span(), &key, what, PATTERN_ALLOWED);
                };
                Pattern::parse(text.get_ref()).map_err(wrong).ok()
            });
            parsed.collect()
        };
        let subscribe = patterns("subscribe", &rights.subscribe);
        let publish = patterns("publish", &rights.publish);
        let policies = rights.policies.as_ref().map(|words| {
            let parsed = words.iter().filter_map(|word| {
                let wrong = |_| {
                    let what = format!("`{}` is not a policy", word.get_ref());
                    let key = format!("{name}.policies");
                    self.problem(word.span(), &key, what, POLICIES_ALLOWED);
                };
                Policy::parse(word.get_ref()).map_err(wrong).ok()
            });
            parsed.collect()
        });
        Grant {
            subscribe,
            publish,
            policies,
            connections_max: rights.connections_max.map(NonZeroU32::get),
            subscriptions_max: rights.subscriptions_max.map(NonZeroUsize::get),
            ..Grant::nothing()
        }
    }

    fn deserialize<T: DeserializeOwned>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'_>>,
        allowed: &str,
    ) -> Option<T> {
        let span = value.span();
        let taken = T::deserialize(value.into_deserializer());
        taken
            .map_err(|error| {
                let what = error.message().replace('\n', ", ");
                self.problem(error.span().unwrap_or(span), name, what, allowed);
            })
            .ok()
    }

    fn problem(&mut self, span: Range<usize>, key: &str, what: impl ToString, allowed: &str) {
        let start = span.start.min(self.text.len());
        let line = 1 + memchr::memchr_iter(b'\n', &self.text.as_bytes()[..start]).count();
        let origin = Origin::File(self.file.to_owned(), line);
        let (key, what, allowed) = (key.to_owned(), what.to_string(), allowed.to_owned());
        self.problems.push(Problem { origin, key, what, allowed });
    }
}

const SYNTAX_ALLOWED: &str = "allowed: TOML, see https://toml.io";
const NOBODY_ALLOWED: &str = "allowed: at least one of [anonymous], [[key]], [[certificate]] and \
    [token]; `[anonymous]` with `subscribe = [\">\"]` lets everybody subscribe";
const DOCUMENT_ALLOWED: &str = "allowed: origins, [anonymous], [[key]], [[certificate]], [token]";
const ORIGIN: &str = "allowed: a list of scheme://host[:port] without a path, such as \
    \"https://app.example\"; \"null\" for pages from files";
const ANONYMOUS_ALLOWED: &str =
    "allowed: subscribe, publish, policies, connections_max, subscriptions_max";
const KEY_ALLOWED: &str = "allowed: id, sha256, expires, subscribe, publish, policies, \
    connections_max, subscriptions_max; `fanfare key --id ID` makes such a table";
const CERTIFICATE_ALLOWED: &str = "allowed: name, subscribe, publish, policies, connections_max, \
    subscriptions_max";
const TOKEN_ALLOWED: &str = "allowed: algorithms, jwks, keys, issuer, audience, leeway, \
    require_expiry, subscribe, publish, policies, connections_max, subscriptions_max";
const TOKEN_KEYS_ALLOWED: &str = "allowed: jwks = \"jwks.json\", or keys = [{ id = \"a\", \
    algorithm = \"ES256\", file = \"a.pem\" }]";
const RIGHTS_ALLOWED: &str = "allowed: lists of patterns in subscribe and publish, a list of words \
    in policies, whole numbers from 1 in connections_max and subscriptions_max";
const ALGORITHMS_ALLOWED: &str = "allowed: a list of HS256, RS256, ES256, EdDSA";
const SHA256_WRONG: &str = "not a SHA-256 digest";
const SHA256_ALLOWED: &str = "allowed: 64 hexadecimal digits, as `fanfare key` prints them";
const EXPIRES_ALLOWED: &str = "allowed: a date and time with its zone: 2027-01-01T00:00:00Z";
const NAME_ALLOWED: &str = "allowed: a DNS name as the certificate has it, such as feed-1.example";
const PATTERN_ALLOWED: &str = "allowed: channels and patterns such as \"quote.>\"";
const POLICIES_ALLOWED: &str = "allowed: auto, all, latest, close, unsubscribe";

const _: () = assert!(ALGORITHMS.len() == 4, "ALGORITHMS_ALLOWED names all");

/// Whether it is what a browser may send in `Origin` (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    let plain = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']);
    text == "null" || host.is_some_and(plain)
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Nanoseconds since the Unix epoch; none without a zone, or outside 1970 to 2554.
fn nanoseconds(time: &Datetime) -> Option<u64> {
    let time: jiff::Timestamp = time.to_string().parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests;
