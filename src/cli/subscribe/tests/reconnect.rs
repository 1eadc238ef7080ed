//! The subscriber against servers that refuse, drain, close, fall silent or go away.

use std::path::PathBuf;

use rustls::HandshakeKind;
use rustls::version::TLS13;

use super::*;
use crate::shell::dial::Producer;
use crate::shell::fake::{Authority, listen_times, nobody, secure};

/// One connection, as a server plays it.
enum Scene {
    /// Upgrades, waits for the command, sends frames, and reads until the end.
    Frames(Vec<u8>),
    /// The same, but goes away without a word after the frames.
    Cut(Vec<u8>),
    /// Answers the request with this instead of an upgrade.
    Answer(Vec<u8>),
}

use Scene::{Answer, Cut, Frames};

/// What a scene saw: the head of the request, and the client's messages.
type Seen = (String, Vec<String>);

const FIRST_WELCOME: &str =
    r#"{"channel":"control","type":"welcome","v":1,"epoch":"01A","seq":1,"heartbeat_ms":100}"#;

fn play(scene: &Scene, stream: &mut impl ReadWrite) -> Seen {
    let mut reader = Reader::new(Role::Server, 1 << 20);
    match scene {
        Answer(answer) => {
            stream.write_all(answer).unwrap();
            let mut head = vec![0; 4096];
            let filled = stream.read(&mut head).unwrap();
            (String::from_utf8_lossy(&head[..filled]).into_owned(), Vec::new())
        }
        Frames(frames) | Cut(frames) => {
            let head = upgrade(stream, FIRST_WELCOME);
            let mut seen = messages(stream, &mut reader, 1);
            stream.write_all(frames).unwrap();
            stream.flush().unwrap();
            if matches!(scene, Frames(_)) {
                seen.extend(messages(stream, &mut reader, usize::MAX));
            }
            (head, seen)
        }
    }
}

fn scenes(scenes: Vec<Scene>) -> (String, JoinHandle<Vec<Seen>>) {
    let (address, played) =
        listen_times(scenes.len(), move |at, mut stream: Producer| play(&scenes[at], &mut stream));
    (format!("ws://{address}/v1"), played)
}

fn again(url: &str) -> Subscribe {
    Subscribe { no_reconnect: false, ..subscribe(url) }
}

fn elapsed_ms(start_ns: u64) -> u64 {
    (clock::now().monotonic_ns - start_ns) / MS_NS
}

fn closed(code: u16) -> Vec<u8> {
    let mut scene = frames(&[REPLY]);
    write_close(&mut scene, code, "words");
    scene
}

fn refused(rejection: Rejection) -> Scene {
    let mut answer = Vec::new();
    rejection.write(&mut answer);
    Answer(answer)
}

fn reply(seq: u64) -> String {
    reply_with(seq, "")
}

fn reply_with(seq: u64, more: &str) -> String {
    let result = format!(r#"[{{"channel":"a","policy":"all","seq":{seq}{more}}}]"#);
    format!(r#"{{"method":"subscribe","success":true,"req_id":1,"result":{result}}}"#)
}

fn end(kind: &str, seq: u64) -> String {
    format!(r#"{{"channel":"control","type":"{kind}","channels":["a"],"seq":{seq}}}"#)
}

fn event(seq: u64) -> String {
    let prev = seq - 1;
    format!(r#"{{"channel":"a","type":"update","seq":{seq},"prev":{prev},"data":{seq}}}"#)
}

/// The events that were printed.
fn events(out: &str) -> Vec<&str> {
    out.lines().filter(|line| line.contains(r#""data""#)).collect()
}

#[test]
fn a_connection_that_breaks_is_made_again_and_the_summary_says_so() {
    let third = r#"{"channel":"a","type":"update","seq":9,"prev":8,"data":1}"#;
    let (url, played) =
        scenes(vec![Cut(frames(&[&reply(1), FIRST])), Frames(frames(&[&reply(2), SECOND]))]);
    let (result, out) = run(&Subscribe { stats: true, ends: after(2), ..again(&url) });
    result.unwrap();
    assert!(out.contains("2 events in") && out.contains("gaps 0"), "{out}");
    assert!(out.contains("reconnects 1  resumed 1  latency"), "nothing was torn: {out}");
    let seen = played.join().unwrap();
    assert_eq!(seen[0].1[0], seen[1].1[0], "there was no place to go on at");

    let (url, _played) =
        scenes(vec![Cut(frames(&[&reply(1), FIRST])), Frames(frames(&[&reply(8), third]))]);
    let (result, out) = run(&Subscribe { stats: true, ends: after(2), ..again(&url) });
    result.unwrap();
    assert!(out.contains("gaps 0") && out.contains("reconnects 1  torn 1"), "{out}");
}

#[test]
fn what_was_missed_is_asked_for_and_nothing_is_printed_twice() {
    let resumed = reply_with(6, r#","resumed":true"#);
    let (url, played) = scenes(vec![
        Cut(frames(&[&reply(2), &event(1), &event(2), &end("snapshot_end", 2), &event(3)])),
        Cut(frames(&[&resumed, &event(4)])),
        Frames(frames(&[
            &resumed,
            &event(4),
            &event(5),
            &event(6),
            &end("replay_end", 6),
            &event(7),
        ])),
    ]);
    let (result, out) = run(&Subscribe { ends: after(7), ..again(&url) });
    result.unwrap();
    assert_eq!(events(&out), (1..=7).map(event).collect::<Vec<_>>());
    let seen = played.join().unwrap();
    let asked: Vec<_> = seen.iter().map(|seen| seen.1[0].contains("resume")).collect();
    assert_eq!(asked, [false, true, true]);
    let resume = r#""resume":{"epoch":"01A","seq":3}"#;
    assert!(seen[1].1[0].contains(resume) && seen[2].1[0].contains(resume), "{seen:?}");
}

#[test]
fn a_hole_ends_the_connection_and_the_next_one_brings_what_was_missing() {
    let (url, played) = scenes(vec![
        Frames(frames(&[&reply(0), &end("snapshot_end", 0), &event(1), &event(4), &event(5)])),
        Frames(frames(&[
            &reply_with(5, r#","resumed":true"#),
            &event(2),
            &event(3),
            &event(4),
            &event(5),
            &end("replay_end", 5),
        ])),
    ]);
    let (result, out) = run(&Subscribe { ends: after(5), ..again(&url) });
    result.unwrap();
    assert_eq!(events(&out), (1..=5).map(event).collect::<Vec<_>>());
    assert!(played.join().unwrap()[1].1[0].contains(r#""resume":{"epoch":"01A","seq":1}"#));
    let (url, _played) =
        scenes(vec![Frames(frames(&[&reply(0), &end("snapshot_end", 0), &event(1), &event(4)]))]);
    let (result, out) = run(&Subscribe { ends: after(2), stats: true, ..subscribe(&url) });
    result.unwrap();
    assert!(out.contains("gaps 1"), "a single connection reads on: {out}");
}

#[test]
fn a_place_and_no_snapshot_are_asked_for_as_they_were_typed() {
    let (url, played) = scenes(vec![Frames(frames(&[&reply(2), &event(3)]))]);
    let resume = "01A:2".parse().ok();
    let command = Subscribe { no_snapshot: true, resume, ends: after(1), ..again(&url) };
    run(&command).0.unwrap();
    assert_eq!(
        played.join().unwrap()[0].1[0],
        r#"{"method":"subscribe","params":{"channels":["a","b.*"],"snapshot":false,"#.to_owned()
            + r#""resume":{"epoch":"01A","seq":2}},"req_id":1}"#
    );
}

#[test]
fn close_codes_decide_whether_there_is_another_connection() {
    for code in [1000, 1001, 1011, 1012, 1013, 3000, 4100, 4101, 4102] {
        let (url, played) = scenes(vec![Frames(closed(code)), Frames(frames(&[REPLY, FIRST]))]);
        run(&Subscribe { ends: after(1), ..again(&url) }).0.unwrap();
        assert_eq!(played.join().unwrap().len(), 2, "{code}");
    }
    for code in [1002, 1003, 1007, 1008, 1009, 4000, 4001, 4002, 4003, 4099] {
        let (url, _played) = scenes(vec![Frames(closed(code))]);
        let failure = run(&again(&url)).0.unwrap_err();
        assert_eq!(failure.exit_code(), 1, "{code}");
        assert!(failure.to_string().contains(&format!("closed with {code}")), "{failure}");
    }
}

#[test]
fn a_server_without_room_is_asked_again_no_sooner_than_it_said_and_a_no_is_final() {
    let (url, played) = scenes(vec![
        refused(Rejection::AtCapacity { retry_after_s: 1 }),
        Frames(frames(&[REPLY, FIRST])),
    ]);
    let start_ns = clock::now().monotonic_ns;
    run(&Subscribe { ends: after(1), ..again(&url) }).0.unwrap();
    assert!(elapsed_ms(start_ns) >= 1_000);
    assert_eq!(played.join().unwrap().len(), 2);
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "426 Upgrade Required"] {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 0\r\n\r\nno\n");
        let (url, _played) = scenes(vec![Answer(answer.into_bytes())]);
        let failure = run(&again(&url)).0.unwrap_err().to_string();
        assert!(failure.contains(status), "{failure}");
        assert_eq!(failure.ends_with("--token-file FILE"), status.starts_with("401"), "{failure}");
    }
}

#[test]
fn a_draining_server_is_read_until_this_clients_turn_comes() {
    let (other, moved) = scenes(vec![Frames(frames(&[REPLY, SECOND]))]);
    let drain = format!(
        r#"{{"channel":"control","type":"drain","deadline_ms":9000,"retry_after_ms":300,
            "to":["{other}"]}}"#
    );
    let (url, drained) = scenes(vec![Frames(frames(&[REPLY, &drain, FIRST]))]);
    let start_ns = clock::now().monotonic_ns;
    let (result, out) = run(&Subscribe { ends: after(2), ..again(&url) });
    result.unwrap();
    assert!(elapsed_ms(start_ns) >= 300);
    assert!(out.contains(FIRST) && out.contains(SECOND), "{out}");
    assert_eq!(drained.join().unwrap()[0].1[1..], ["close 1000"]);
    assert_eq!(moved.join().unwrap().len(), 1);
}

#[test]
fn a_server_that_closes_before_the_turn_is_not_asked_before_it() {
    let drain = r#"{"channel":"control","type":"drain","deadline_ms":9,"retry_after_ms":700}"#;
    let mut scene = frames(&[REPLY, drain]);
    write_close(&mut scene, 1012, "draining");
    let (url, _played) = scenes(vec![Frames(scene), Frames(frames(&[REPLY, FIRST]))]);
    let start_ns = clock::now().monotonic_ns;
    run(&Subscribe { ends: after(1), ..again(&url) }).0.unwrap();
    assert!(elapsed_ms(start_ns) >= 700);
}

#[test]
fn a_server_that_falls_silent_is_left_for_another_connection() {
    let (url, played) = scenes(vec![Frames(frames(&[REPLY])), Frames(frames(&[REPLY, FIRST]))]);
    let start_ns = clock::now().monotonic_ns;
    run(&Subscribe { ends: after(1), ..again(&url) }).0.unwrap();
    assert!(elapsed_ms(start_ns) >= 1_300, "three heartbeats and a sweep");
    assert_eq!(played.join().unwrap().len(), 2);
    let (url, _played) = scenes(vec![Frames(frames(&[REPLY]))]);
    let failure = run(&subscribe(&url)).0.unwrap_err().to_string();
    assert!(failure.starts_with("nothing came for 1300 ms"), "{failure}");
}

#[test]
fn a_credential_that_expires_is_renewed_from_its_file_and_shown_again_later() {
    let path = std::env::temp_dir().join(format!("fanfare-renewed-{}", std::process::id()));
    std::fs::write(&path, "old\n").unwrap();
    let file: PathBuf = path.clone();
    let expiring = r#"{"channel":"control","type":"auth_expiring","expires_in_ms":59000}"#;
    let (address, played) = listen_times(2, move |time, mut stream: Producer| {
        let head = upgrade(&mut stream, FIRST_WELCOME);
        let mut reader = Reader::new(Role::Server, 1 << 20);
        let mut seen = messages(&mut stream, &mut reader, 1);
        if time == 1 {
            stream.write_all(&frames(&[REPLY, FIRST])).unwrap();
            seen.extend(messages(&mut stream, &mut reader, usize::MAX));
            return (head, seen);
        }
        std::fs::write(&file, "new\n").unwrap();
        stream.write_all(&frames(&[REPLY, expiring])).unwrap();
        seen.extend(messages(&mut stream, &mut reader, 1));
        (head, seen)
    });
    let token = TokenFlags { token_file: Some(path.clone()) };
    let url = format!("ws://{address}");
    run(&Subscribe { ends: after(1), token, ..again(&url) }).0.unwrap();
    let seen = played.join().unwrap();
    assert!(seen[0].0.contains("\r\nAuthorization: Bearer old\r\n"), "{}", seen[0].0);
    assert_eq!(seen[0].1[1], r#"{"method":"auth","params":{"token":"new"},"req_id":2}"#);
    assert!(seen[1].0.contains("\r\nAuthorization: Bearer new\r\n"), "{}", seen[1].0);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_token_that_is_refused_when_it_is_shown_again_ends_nothing_and_is_shown_until_it_is_taken() {
    let path = std::env::temp_dir().join(format!("fanfare-refused-{}", std::process::id()));
    std::fs::write(&path, "old\n").unwrap();
    let file: PathBuf = path.clone();
    // The next look is a second later, in which nothing comes.
    let welcome = FIRST_WELCOME.replace("\"heartbeat_ms\":100", "\"heartbeat_ms\":20000");
    let expiring = r#"{"channel":"control","type":"auth_expiring","expires_in_ms":59000}"#;
    let refused = r#"{"method":"auth","success":false,"req_id":2,
        "error":{"code":"auth_failed","message":"no such key","retryable":false}}"#;
    let (address, played) = listen_times(1, move |_, mut stream: Producer| {
        upgrade(&mut stream, &welcome);
        let mut reader = Reader::new(Role::Server, 1 << 20);
        let mut seen = messages(&mut stream, &mut reader, 1);
        // The file is not written to its end at first, and then the server does not know it yet.
        std::fs::write(&file, "wh\n").unwrap();
        stream.write_all(&frames(&[REPLY, expiring])).unwrap();
        seen.extend(messages(&mut stream, &mut reader, 1));
        std::fs::write(&file, "whole\n").unwrap();
        for answer in [refused, refused, FIRST] {
            stream.write_all(&frames(&[answer])).unwrap();
            let count = if answer == FIRST { usize::MAX } else { 1 };
            seen.extend(messages(&mut stream, &mut reader, count));
        }
        seen
    });
    let token = TokenFlags { token_file: Some(path.clone()) };
    let url = format!("ws://{address}");
    run(&Subscribe { ends: after(1), token, ..again(&url) }).0.unwrap();
    let seen = played.join().unwrap().remove(0);
    let shown: Vec<_> = seen[1..4].iter().map(|text| text.contains("whole")).collect();
    assert_eq!(shown, [false, true, true], "{seen:?}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_second_connection_over_tls_resumes_the_session_of_the_first() {
    let authority = Authority::new("subscribe");
    let config = authority.server("127.0.0.1", &TLS13, false);
    let scene = [Cut(frames(&[REPLY])), Frames(frames(&[REPLY, FIRST]))];
    let (address, played) = listen_times(2, move |time, stream: Producer| {
        let mut stream = secure(&config, stream);
        let _seen = play(&scene[time], &mut stream);
        stream.conn.handshake_kind()
    });
    let url = format!("wss://{address}/v1");
    let trust = TrustFlags::of(authority.file());
    run(&Subscribe { ends: after(1), trust, ..again(&url) }).0.unwrap();
    let kinds = played.join().unwrap();
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[test]
fn the_wait_for_another_connection_ends_with_the_command() {
    let (url, played) = scenes(vec![Cut(frames(&[REPLY]))]);
    let start_ns = clock::now().monotonic_ns;
    let ends = EndFlags { count: None, seconds: Some(1.5) };
    run(&Subscribe { ends, ..again(&url) }).0.unwrap();
    assert!(elapsed_ms(start_ns) >= 1_500, "it tried until then");
    played.join().unwrap();
}

#[test]
fn where_nobody_listens_at_the_start_nothing_is_tried_again() {
    let failure = run(&again(&format!("ws://{}", nobody()))).0.unwrap_err();
    assert!(failure.to_string().contains("nothing listens at"), "{failure}");
    assert_eq!(failure.exit_code(), 1);
}
