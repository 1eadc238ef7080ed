//! What the query of a connection's URL asks for: a credential, and a subscription for clients that
//! cannot send a first message.
//!
//! A subscription in a URL is the `subscribe` request that it stands for: it becomes that request's
//! text, and what is wrong with it is found, and said, where requests are read
//! ([`super::command`]). Not here: who may have it. Invariant: the first parameter that has no
//! meaning is in the request, which is then refused by its name; others are not, so that a name is
//! looked for among a handful, however many there are.

use std::borrow::Cow;

use super::json::{write_string, write_u64};

/// The parameter with the credential.
const TOKEN: &str = "token";

/// What a parameter is in the request.
enum Form {
    /// `a,b`: an array of texts.
    List(char),
    /// A number, if it is one.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `EPOCH:SEQ`.
    Place,
    Text,
}

/// Parameters that ask for a subscription.
const SUBSCRIBE: [(&str, Form); 8] = [
    ("channels", Form::List(',')),
    ("streams", Form::List('/')),
    ("policy", Form::Text),
    ("max_age_ms", Form::Number),
    ("max_lag_bytes", Form::Number),
    ("interval_ms", Form::Number),
    ("snapshot", Form::Boolean),
    ("resume", Form::Place),
];

/// The value of the parameter `token`.
#[must_use]
pub fn token(query: &str) -> Option<String> {
    parameters(query).find(|(name, _)| name == TOKEN).map(|(_, value)| value.into_owned())
}

/// The `subscribe` request that a query stands for; none without a parameter of one.
#[must_use]
pub fn subscription(query: &str) -> Option<String> {
    let params = values(query);
    params.iter().any(|(name, _)| is_known(name)).then(|| request(&params))
}

/// The `subscribe` request that the query of an event stream stands for, whatever it has.
/// `last_event_id` is the place that it goes on from, before that of the parameter `resume`.
#[must_use]
pub fn stream(query: &str, last_event_id: Option<&str>) -> String {
    let mut params = values(query);
    if let Some(place) = last_event_id {
        params.retain(|(name, _)| name != "resume");
        params.push(("resume".into(), place.to_owned()));
    }
    request(&params)
}

/// Whether a parameter asks for a subscription.
fn is_known(name: &str) -> bool {
    SUBSCRIBE.iter().any(|(known, _)| *known == name)
}

/// The parameters but for the credential, each once, and of those that have no meaning the first.
fn values(query: &str) -> Vec<(Cow<'_, str>, String)> {
    let mut params: Vec<(Cow<'_, str>, String)> = Vec::new();
    for (name, value) in parameters(query).filter(|(name, _)| name != TOKEN) {
        let separator = if name == "streams" { '/' } else { ',' };
        let is_refused = params.iter().any(|(before, _)| !is_known(before));
        match params.iter_mut().find(|(before, _)| *before == name) {
            // More of a list; of anything else a value that does not exist.
            Some((_, values)) => {
                values.push(separator);
                values.push_str(&value);
            }
            None if is_refused && !is_known(&name) => {}
            None => params.push((name, value.into_owned())),
        }
    }
    params
}

/// The text of the request.
fn request(params: &[(Cow<'_, str>, String)]) -> String {
    let mut out = br#"{"method":"subscribe","params":{"#.to_vec();
    for (at, (name, value)) in params.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let form = SUBSCRIBE.iter().find(|(known, _)| known == name).map(|(_, form)| form);
        write_string(&mut out, if name == "streams" { "channels" } else { name });
        out.push(b':');
        write(&mut out, form.unwrap_or(&Form::Text), value);
    }
    out.extend_from_slice(b"}}");
    String::from_utf8(out).expect("JSON of texts is text")
}

/// Appends a value as what it is meant to be, or else as a text, which is refused.
fn write(out: &mut Vec<u8>, form: &Form, value: &str) {
    let number = || value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok());
    match form {
        Form::List(separator) => {
            out.push(b'[');
            for (at, name) in value.split(*separator).filter(|name| !name.is_empty()).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(out, name);
            }
            out.push(b']');
        }
        Form::Number if let Some(number) = number().flatten() => write_u64(out, number),
        Form::Boolean if ["true", "false"].contains(&value) => {
            out.extend_from_slice(value.as_bytes());
        }
        Form::Place => {
            let (epoch, seq) = value.split_once(':').unwrap_or((value, ""));
            out.extend_from_slice(br#"{"epoch":"#);
            write_string(out, epoch);
            out.extend_from_slice(br#","seq":"#);
            write(out, &Form::Number, seq);
            out.push(b'}');
        }
        Form::Number | Form::Boolean | Form::Text => write_string(out, value),
    }
}

/// Names and values, percent-decoded (RFC 3986, section 2.1).
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

/// The text with each `%` and two hexadecimal digits replaced by their byte. What does not come to
/// UTF-8 is neither a credential nor a name, so its form does not matter.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_at_checked(2)).flatten();
        let decoded = escaped.and_then(|(digits, after)| Some((hexadecimal(digits)?, after)));
        let (byte, after) = decoded.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        u8::try_from(u32::from(value) * 16 + digit).ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::command::{Command, Resume, Start, parse};
    use super::super::policy::Policy;
    use super::super::refusal::ErrorCode;
    use super::super::terms::{Interval, Wish};
    use super::*;

    fn asked(query: &str) -> Result<Command, ErrorCode> {
        let text = subscription(query).expect("a subscription");
        parse(&text, &mut Vec::new()).map(|request| request.command).map_err(|error| error.code)
    }

    #[test]
    fn a_query_is_the_request_that_it_stands_for() {
        let wish = Wish {
            policy: Some(Policy::Latest),
            max_age_ms: Some(250),
            max_lag_bytes: Some(4096),
            interval: Some(Interval::Ms100),
        };
        let resume = Some(Resume { epoch: "01J".into(), seq: 7 });
        assert_eq!(
            asked(
                "channels=trade.*,quote.%3E&policy=latest&max_age_ms=250&max_lag_bytes=4096\
                 &interval_ms=100&snapshot=false&resume=01J:7&token=secret"
            ),
            Ok(Command::Subscribe {
                channels: vec!["trade.*".into(), "quote.>".into()],
                wish,
                start: Start { snapshot: false, resume },
            })
        );
        let names = |query: &str| asked(query).map(|command| command.channels().to_vec());
        assert_eq!(names("streams=a/b.c"), Ok(vec!["a".into(), "b.c".into()]));
        assert_eq!(names("channels=a&channels=b,c"), Ok(["a", "b", "c"].map(String::from).into()));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_refused_as_in_a_request() {
        for (query, code) in [
            ("channels=", ErrorCode::ChannelsEmpty),
            ("policy=all", ErrorCode::ParamMissing),
            ("channels=a&policy=some", ErrorCode::ParamInvalid),
            ("channels=a&policy=all&policy=all", ErrorCode::ParamInvalid),
            ("channels=a&max_age_ms=soon", ErrorCode::ParamInvalid),
            ("channels=a&max_age_ms=", ErrorCode::ParamInvalid),
            ("channels=a&max_age_ms=99999999999999999999999", ErrorCode::ParamInvalid),
            ("channels=a&snapshot=no", ErrorCode::ParamInvalid),
            ("channels=a&resume=01J", ErrorCode::ParamInvalid),
            ("channels=a&polcy=all", ErrorCode::ParamUnknown),
        ] {
            assert_eq!(asked(query), Err(code), "{query}");
        }
    }

    #[test]
    fn of_thousands_of_names_without_a_meaning_the_first_is_refused_and_no_other_is_kept() {
        let many: String = (0..2_600).map(|number| format!("&{number:x}")).collect();
        let query = format!("policy=all&first=1{many}&channels=a&first=2&resume=01J:7");
        let params = values(&query);
        let names: Vec<_> = params.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["policy", "first", "channels", "resume"]);
        let refused = parse(&subscription(&query).unwrap(), &mut Vec::new()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ParamUnknown);
        assert!(refused.message.contains("first"), "{}", refused.message);
    }

    #[test]
    fn a_query_without_a_subscription_is_none() {
        for query in ["", "token=a", "utm_source=mail", "&&=", "channel"] {
            assert_eq!(subscription(query), None, "{query}");
        }
        assert_eq!(token("a=1&token=x%2Fy"), Some("x/y".into()));
        assert_eq!(token("a=1"), None);
    }

    #[test]
    fn the_last_event_of_a_stream_is_where_it_goes_on() {
        let text = stream("channels=a&resume=old:1", Some("01J:9"));
        let Ok(request) = parse(&text, &mut Vec::new()) else { panic!("{text}") };
        let Command::Subscribe { start, .. } = request.command else { panic!("{text}") };
        assert_eq!(start.resume, Some(Resume { epoch: "01J".into(), seq: 9 }));
    }

    proptest! {
        #[test]
        fn any_query_is_a_request_or_none(
            query in "\\PC{0,60}|((channels|policy|resume|%[0-9a-f]{2}|[\"\\\\])[=&,:%]){0,9}",
            place in prop::option::of("\\PC{0,20}"),
        ) {
            for text in [Some(stream(&query, place.as_deref())), subscription(&query)] {
                let Some(text) = text else { continue };
                let read: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&read["method"], "subscribe");
                let named = parse(&text, &mut Vec::new()).map(|read| read.command.channels().len());
                prop_assert!(named != Ok(0), "{}", text);
            }
        }
    }
}
