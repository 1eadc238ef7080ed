//! The values of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1): names and their parameters.
//!
//! Not here: what an extension's parameters mean ([`super::deflate`]). Invariant: what follows the
//! grammar is taken apart whole, and nothing else is taken.

use std::borrow::Cow;

/// One extension as it is offered or chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its registered name.
    pub name: &'a str,
    /// Names and values in the order they came, repeated ones too.
    pub parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The header does not follow the grammar: the handshake fails (RFC 6455, section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Extensions must be a list of 'name; parameter; parameter=value'")]
pub struct Malformed;

/// Takes one header's value apart; empty elements of the list are passed over (RFC 9110, section
/// 5.6.1).
///
/// # Errors
/// [`Malformed`].
pub fn parse(value: &str) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut rest = value.trim_ascii_start();
    let mut list = Vec::new();
    while !rest.is_empty() {
        if !rest.starts_with(',') {
            list.push(extension(&mut rest)?);
        }
        if !rest.is_empty() && !take(&mut rest, ',') {
            return Err(Malformed);
        }
    }
    Ok(list)
}

fn extension<'a>(rest: &mut &'a str) -> Result<Extension<'a>, Malformed> {
    let name = token(rest)?;
    let mut parameters = Vec::new();
    while take(rest, ';') {
        let parameter = token(rest)?;
        let value = if take(rest, '=') { Some(parameter_value(rest)?) } else { None };
        parameters.push((parameter, value));
    }
    Ok(Extension { name, parameters })
}

/// A token, or a quoted string that holds one.
fn parameter_value<'a>(rest: &mut &'a str) -> Result<Cow<'a, str>, Malformed> {
    let Some(quoted) = rest.strip_prefix('"') else { return token(rest).map(Cow::Borrowed) };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next().ok_or(Malformed)? {
            (at, '"') => {
                *rest = quoted[at + 1..].trim_ascii_start();
                let is_token = !value.is_empty() && value.chars().all(is_token);
                return if is_token { Ok(value.into()) } else { Err(Malformed) };
            }
            (_, '\\') => value.push(characters.next().ok_or(Malformed)?.1),
            (_, character) => value.push(character),
        }
    }
}

fn token<'a>(rest: &mut &'a str) -> Result<&'a str, Malformed> {
    let end = rest.find(|character| !is_token(character)).unwrap_or(rest.len());
    let (token, behind) = rest.split_at(end);
    *rest = behind.trim_ascii_start();
    if token.is_empty() { Err(Malformed) } else { Ok(token) }
}

/// Takes a separator and the space behind it.
fn take(rest: &mut &str, separator: char) -> bool {
    let behind = rest.strip_prefix(separator);
    *rest = behind.map_or(*rest, str::trim_ascii_start);
    behind.is_some()
}

/// A character of a token (RFC 9110, section 5.6.2).
const fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(
            character,
            '!' | '#'
                | '$'
                | '%'
                | '&'
                | '\''
                | '*'
                | '+'
                | '-'
                | '.'
                | '^'
                | '_'
                | '`'
                | '|'
                | '~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list in one form: names and parameters by themselves, values with their equals sign.
    fn parsed(value: &str) -> Result<String, Malformed> {
        let extensions = parse(value)?;
        let extensions = extensions.iter().map(|extension| {
            let parameters = extension.parameters.iter().map(|(name, value)| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            });
            format!("{}{}", extension.name, parameters.collect::<String>())
        });
        Ok(extensions.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn what_follows_the_grammar_is_taken_apart() {
        for (value, expected) in [
            ("", ""),
            (" , ,", ""),
            ("foo", "foo"),
            ("foo, bar; baz=2", "foo,bar;baz=2"),
            ("foo ;a ; b = \"2\" ,, bar;a;a=1 ", "foo;a;b=2,bar;a;a=1"),
            ("foo; a=\"1\\0\"", "foo;a=10"),
            ("permessage-deflate", "permessage-deflate"),
        ] {
            assert_eq!(parsed(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [
            ";a",
            "foo;",
            "foo;;a",
            "foo;a=",
            "foo;=1",
            "foo bar",
            "foo; a b",
            "foo;a=\"",
            "=",
            "\"",
            "foo;a=\"1",
            "foo;a=\"1\\",
            "foo;a=\"\"",
            "foo;a=\"1 2\"",
            "foo;a=\"1\"2",
            "föö",
            "a/b",
        ] {
            assert_eq!(parse(value), Err(Malformed), "{value}");
        }
    }
}
