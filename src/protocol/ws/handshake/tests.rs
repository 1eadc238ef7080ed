//! The upgrade as a table: what is accepted, and which answer each mistake gets.

use super::*;

#[test]
fn a_request_that_drips_in_is_parsed_a_few_times_and_at_its_end() {
    let whole = b"GET /v1 HTTP/1.1\r\nHost: x\r\nX: 0123456789012345678901234567890123\r\n\r\n";
    let parsed: Vec<_> =
        (1..=whole.len()).filter(|&len| is_worth_parsing(&whole[..len], len - 1)).collect();
    assert_eq!(parsed, [1, 2, 4, 8, 16, 32, 64, whole.len()]);
    for split in 1..whole.len() {
        assert!(is_worth_parsing(whole, split), "the end came behind {split} bytes");
    }
    assert!(is_worth_parsing(b"G / HTTP/1.1\nA: b\n\n", 17), "a bare LF ends a line as well");
    assert!(is_worth_parsing(&[b'x'; UPGRADE_BYTES_MAX + 1], UPGRADE_BYTES_MAX - 1), "too large");
}

const GOOD: &str = "GET /v1 HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Version: 13\r\n\r\n";

fn accepted(request: &str) -> Upgrade {
    match parse(request.as_bytes()) {
        Ok(Parsed::Request { upgrade, head_len }) => {
            assert_eq!(head_len, request.len());
            upgrade
        }
        other => panic!("{other:?} for {request}"),
    }
}

#[test]
fn the_key_of_section_1_3_gets_the_accept_of_section_1_3() {
    assert_eq!(&accept("dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut response = Vec::new();
    write_accept(&mut response, &accepted(GOOD));
    assert_eq!(
        String::from_utf8(response).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn a_request_is_incomplete_until_its_last_byte_and_frames_may_follow_it() {
    for end in 0..GOOD.len() {
        assert_eq!(parse(&GOOD.as_bytes()[..end]), Ok(Parsed::Incomplete), "{end}");
    }
    let followed = [GOOD.as_bytes(), &[0x81; UPGRADE_BYTES_MAX]].concat();
    let Ok(Parsed::Request { head_len, .. }) = parse(&followed) else { panic!("complete") };
    assert_eq!(head_len, GOOD.len());
}

#[test]
fn what_rfc_6455_and_9110_leave_open_is_accepted() {
    for (from, to) in [
        ("Upgrade: websocket", "uPgRaDe: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("GET /v1", "GET http://a.example/v1"),
        ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
    ] {
        assert_eq!(accepted(&GOOD.replace(from, to)).accept, accepted(GOOD).accept, "{to}");
    }
    assert_eq!(accepted(GOOD).query, None);
    assert_eq!(accepted(&GOOD.replace("/v1", "/v1?t=1&u")).query.as_deref(), Some("t=1&u"));
}

const STREAM: &str = "GET /v1?channels=a HTTP/1.1\r\nHost: a.example\r\n\
                      Accept: text/html, Text/Event-Stream;q=0.9\r\nLast-Event-ID: 01J:7\r\n\
                      Origin: https://a.example\r\nAuthorization: Bearer x\r\n\r\n";

#[test]
fn an_event_stream_is_asked_for_by_what_is_accepted_or_by_its_path() {
    let asked = Events {
        query: Some("channels=a".into()),
        last_event_id: Some("01J:7".into()),
        authorization: Some("Bearer x".into()),
        origin: Some("https://a.example".into()),
    };
    let by_path = STREAM.replace("/v1?", "/v1/sse?").replace("Text/Event-Stream", "*/*");
    for request in [STREAM, &by_path] {
        assert_eq!(parse(request.as_bytes()), Ok(Parsed::Events(asked.clone())), "{request}");
    }
    for end in 0..STREAM.len() {
        assert_eq!(parse(&STREAM.as_bytes()[..end]), Ok(Parsed::Incomplete), "{end}");
    }
    // An upgrade is one, whatever it accepts; and it is asked for by that name, too.
    let upgrade =
        GOOD.replace("/v1", "/stream").replace("Host", "Accept: text/event-stream\r\nHost");
    assert_eq!(accepted(&upgrade).accept, accepted(GOOD).accept);
    for (from, to, status) in [
        ("/v1?", "/v2?", 404),
        ("GET", "POST", 405),
        ("Text/Event-Stream", "text/plain", 426),
        ("Host: ", "Guest: ", 400),
        ("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n", 400),
    ] {
        let rejection = parse(STREAM.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(rejection.status(), status, "{to}");
    }
}

#[test]
fn the_responses_of_an_event_stream_are_complete() {
    let mut out = Vec::new();
    write_events_accept(&mut out, Some("https://a.example"));
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), "{text}");
    assert!(text.contains("\r\nAccess-Control-Allow-Origin: https://a.example\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1, "{text}");
    for (code, status) in [
        (ErrorCode::ChannelInvalid, 400),
        (ErrorCode::AuthRequired, 401),
        (ErrorCode::Forbidden, 403),
    ] {
        let mut out = Vec::new();
        write_events_refusal(&mut out, code, b"{}");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.ends_with("\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"), "{text}");
    }
}

#[test]
fn our_sub_protocol_is_chosen_only_when_it_was_offered() {
    for (offered, chosen) in [
        ("", None),
        ("Sec-WebSocket-Protocol: chat, superchat\r\n", None),
        ("Sec-WebSocket-Protocol: chat,fanfare.v1.json\r\n", Some(SUBPROTOCOL)),
        (
            "Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: fanfare.v1.json\r\n",
            Some(SUBPROTOCOL),
        ),
    ] {
        let upgrade = accepted(&GOOD.replace("Host", &format!("{offered}Host")));
        assert_eq!(upgrade.subprotocol, chosen, "{offered}");
        let mut response = Vec::new();
        write_accept(&mut response, &upgrade);
        let response = String::from_utf8(response).unwrap();
        assert_eq!(
            response.contains("\r\nSec-WebSocket-Protocol: fanfare.v1.json\r\n"),
            chosen.is_some()
        );
    }
}

#[test]
fn compression_is_answered_when_it_was_offered_and_agreed_to() {
    for (offered, answered) in [
        ("", None),
        ("Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; mystery\r\n", None),
        (
            "Sec-WebSocket-Extensions: x\r\nsec-websocket-extensions: permessage-deflate; \
             server_max_window_bits=\"10\"\r\n",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
    ] {
        let mut upgrade = accepted(&GOOD.replace("Host", &format!("{offered}Host")));
        assert_eq!(upgrade.deflate, None, "nothing is agreed to yet");
        upgrade.agree(Terms::own());
        let mut response = Vec::new();
        write_accept(&mut response, &upgrade);
        let response = String::from_utf8(response).unwrap();
        let answer = response.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Extensions: "));
        assert_eq!(answer, answered, "{offered}");
    }
}

#[test]
fn every_mistake_gets_its_own_status() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (from, to, status) in [
        ("GET /v1 HTTP/1.1", "GET /v1 HTTP/1.0", 400),
        ("GET /v1 HTTP/1.1", "GET /v1 HTTP/2.0", 400),
        ("GET /v1", "\x16\x03\x01", 400),
        ("Host: a.example\r\n", "", 400),
        ("Host: a.example", "Host: a.example\r\nHost: b.example", 400),
        (key, "X: y", 400),
        (key, "Sec-WebSocket-Key: c2hvcnQ=", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBpcyBsb25n", 400),
        (key, "Sec-WebSocket-Key: not base64", 400),
        (key, &format!("{key}\r\n{key}"), 400),
        ("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n", 400),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate;\r\n\r\n", 400),
        ("Host", "Ho st", 400),
        ("/v1", "/", 404),
        ("/v1", "/v1/", 404),
        ("/v1", "/v2?/v1", 404),
        ("/v1", "http://a.example", 404),
        ("GET", "POST", 405),
        ("GET", "HEAD", 405),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Connection: Upgrade", "Connection: keep-alive", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("\r\n\r\n", &format!("{}\r\n\r\n", "\r\na: b".repeat(UPGRADE_HEADERS_MAX)), 431),
        ("a.example", &"a".repeat(UPGRADE_BYTES_MAX), 431),
    ] {
        let request = GOOD.replacen(from, to, 1);
        assert_ne!(request, GOOD, "{from}");
        let rejection = parse(request.as_bytes()).unwrap_err();
        assert_eq!(rejection.status(), status, "{rejection} for {from} -> {to}");
    }
}

#[test]
fn a_refusal_is_one_complete_response_with_the_headers_its_status_needs() {
    for (rejection, header) in [
        (Rejection::Malformed("x"), ""),
        (Rejection::NotFound, ""),
        (Rejection::MethodNotAllowed, "Allow: GET\r\n"),
        (Rejection::UpgradeRequired, "Upgrade: websocket\r\n"),
        (Rejection::VersionUnsupported, "Sec-WebSocket-Version: 13\r\n"),
        (Rejection::HeadTooLarge, ""),
        (Rejection::Timeout, ""),
        (Rejection::AtCapacity { retry_after_s: 5 }, "Retry-After: 5\r\n"),
    ] {
        let mut out = Vec::new();
        rejection.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = format!("{head}\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", rejection.status())), "{head}");
        assert!(head.contains(header), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert_eq!(body.find('\n'), Some(body.len() - 1), "one line: {body}");
    }
}
