//! Addresses as they are typed, and a server that is not there.

use super::*;

#[test]
fn urls_are_split_and_wrong_ones_say_what_is_right() {
    let url = |secure, host, path| Url { secure, host, path };
    for (text, parts) in [
        ("ws://localhost:9001", url(false, "localhost:9001", "/v1")),
        ("wss://[::1]:9443/v1?x=1", url(true, "[::1]:9443", "/v1?x=1")),
    ] {
        assert_eq!(split_url(text).unwrap(), parts);
    }
    for (url, part) in [
        ("http://a:1", "ws://HOST:PORT/v1"),
        ("ws://", "ws://HOST:PORT/v1"),
        ("ws://a b/", "ws://HOST:PORT/v1"),
    ] {
        let error = split_url(url).unwrap_err().to_string();
        assert!(error.contains(part), "{url}: {error}");
    }
}

#[test]
fn what_is_sent_in_the_clear_is_exposed_unless_it_stays_on_this_host() {
    for url in ["ws://a.example/v1", "ws://10.0.0.1:9001", "ws://localhost.example"] {
        assert!(is_exposed(url), "{url}");
    }
    for url in ["wss://a.example", "ws://localhost:9001/v1", "ws://127.0.0.2", "ws://[::1]:1"] {
        assert!(!is_exposed(url), "{url}");
    }
}

#[test]
fn where_nobody_listens_the_error_says_what_to_start() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{free}/v1");
    let error = Dialer::default().connect(&url, None).unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert!(error.to_string().contains("fanfare demo"));
}
