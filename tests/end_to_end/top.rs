//! `fanfare top` against a running server: what it prints is what the server says.
//!
//! Not here: keys and layout, which are tested beside the code.

use crate::support::{Client, Folder, Server, eventually, fanfare};

/// Exit code, standard output and standard error of `fanfare top`.
fn top(arguments: &str) -> (Option<i32>, String, String) {
    let output = fanfare(&format!("top {arguments}")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn one_frame_shows_the_server_its_cores_channels_and_clients() {
    let server = Server::start("--cores 0");
    let mut client = Client::subscribed(&server, "a.*");
    let mut producer = server.producer();
    for number in 1..=3 {
        producer.publish("a.b", "1");
        assert_eq!(client.event().seq, number);
    }
    eventually("it is counted", || server.counter("deliveries") == 3);
    let (code, frame, errors) = top(&format!("{} --once --interval 100ms", server.admin));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let lines: Vec<_> = frame.lines().collect();
    let place = format!(" at {}  up 0:00:", server.admin);
    assert!(lines[0].contains("  ready  ") && lines[0].contains(&place), "{frame}");
    assert!(lines[1].contains("connections 1  blocked 0  missed 0"), "{frame}");
    let words = |start: &str| -> Vec<&str> {
        let line = lines.iter().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("{start} in {frame}")).split_whitespace().collect()
    };
    let channel = words("a.b");
    assert_eq!((channel[2], channel[3]), ("3", "1"), "{frame}");
    assert_eq!(words("0 ")[1], "1", "{frame}");
    let listed = words("0-0-");
    assert_eq!((listed[2], listed[3]), ("anyone", "in_sync"), "{frame}");
}

#[test]
fn with_a_token_it_shows_the_token_and_says_what_is_missing_without() {
    let folder = Folder::new();
    let file = folder.file("token", "an-admin-token-of-at-least-32-characters\n");
    let server = Server::start(&format!("--admin-token-file {file}"));
    let (code, _, errors) = top(&format!("{} --once --interval 100ms", server.admin));
    assert_eq!(code, Some(1));
    assert!(errors.contains("show it with --token-file FILE"), "{errors}");
    let (code, frame, errors) =
        top(&format!("http://{} --once --interval 100ms --token-file {file}", server.admin));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(frame.contains("ready"), "{frame}");
}

#[test]
fn what_was_typed_wrongly_is_named() {
    for (arguments, code, said) in [
        ("9003 --once", 2, "`9003` is not an admin address"),
        ("127.0.0.1:1 --once", 1, "nothing listens at 127.0.0.1:1"),
        ("127.0.0.1:1 --interval 1h", 2, "--interval: `1h` is not a time with its unit"),
        ("127.0.0.1:1 --token-file /absent", 2, "--token-file: cannot read `/absent`"),
    ] {
        let (exit, _, errors) = top(arguments);
        assert_eq!(exit, Some(code), "{arguments}: {errors}");
        assert!(errors.contains(said), "{arguments}: {errors}");
    }
    // A client's address is no admin address: the server says so, and so does the tool.
    let server = Server::start("");
    let (code, _, errors) = top(&format!("{} --once", server.listen));
    assert_eq!(code, Some(1), "{errors}");
}
