//! Two connections to servers that play a scene each.

use std::io::{Read as _, Write as _};

use super::*;
use crate::protocol::ws::close::write_close;
use crate::protocol::ws::frame::{Opcode, write_frame};
use crate::shell::dial::Producer;
use crate::shell::fake::{listen_times, nobody, upgrade};

/// A server of one connection: a snapshot up to 0, these frames, then this close code.
fn server(epoch: &str, frames: Vec<String>, code: u16) -> String {
    let welcome = format!(r#"{{"channel":"control","type":"welcome","epoch":"{epoch}","seq":0}}"#);
    let (address, _played) = listen_times(1, move |_, mut stream: Producer| {
        upgrade(&mut stream, &welcome);
        let _asked = stream.read(&mut [0; 4096]);
        let reply = r#"{"method":"subscribe","success":true,"result":[
            {"channel":"a","policy":"all","seq":0}]}"#;
        let end = r#"{"channel":"control","type":"snapshot_end","channels":["a"],"seq":0}"#;
        let mut out = Vec::new();
        for text in [reply, end].into_iter().chain(frames.iter().map(String::as_str)) {
            write_frame(&mut out, Opcode::Text, text.as_bytes());
        }
        write_close(&mut out, code, "enough");
        stream.write_all(&out).unwrap();
    });
    format!("ws://{address}")
}

fn event(seq: u64) -> String {
    let prev = seq - 1;
    format!(r#"{{"channel":"a","type":"update","seq":{seq},"prev":{prev},"data":[{seq}]}}"#)
}

fn receipt(from: u64, to: u64) -> String {
    format!(
        r#"{{"channel":"control","type":"gap","channels":["a"],"from":{from},"to":{to},
            "missed":1,"cause":"slow","recover":"resume"}}"#
    )
}

/// Everything until both have ended, and why.
fn all(url: String) -> (Vec<u64>, Vec<String>, Error) {
    let mut pair = Subscription::new(url, ["a"]).start_pair().unwrap();
    let (mut seqs, mut others) = (Vec::new(), Vec::new());
    loop {
        let read = pair.read(STEP, |item| match item {
            Item::Event(event) => seqs.push(event.seq),
            Item::Gap(gap) => others.push(gap.to_string()),
            Item::Notice(Notice::Ended { why }) => others.push(why),
            _ => {}
        });
        if let Err(error) = read {
            return (seqs, others, error);
        }
    }
}

#[test]
fn two_servers_are_one_stream_until_both_have_ended() {
    let first = server("E", [event(1), receipt(2, 3), event(4)].into(), 4003);
    let second = server("E", [event(1), event(2), event(3), event(4)].into(), 4003);
    let (seqs, others, error) = all(format!("{first},{second}"));
    let came: std::collections::BTreeSet<_> = seqs.iter().copied().collect();
    // The second may have ended before the first has said what it lost.
    let is_told = others.iter().any(|what| what.starts_with("gap"));
    assert!(came.len() == 4 || is_told, "{seqs:?} {others:?}");
    assert!(seqs.is_sorted() && came.len() == seqs.len(), "{seqs:?}");
    assert!(others.iter().any(|what| what.contains("4003")), "{others:?}");
    assert!(error.to_string().contains("4003"));
}

#[test]
fn a_node_that_is_not_there_does_not_end_the_other_one() {
    let there = server("E", (1..=3).map(event).collect(), 1000);
    let url = format!("{there},ws://{}", nobody());
    let mut pair = Subscription::new(url, ["a"]).start_pair().unwrap();
    let mut seqs = Vec::new();
    while seqs.len() < 3 {
        let read = pair.read(STEP, |item| {
            if let Item::Event(event) = item {
                seqs.push(event.seq);
            }
        });
        read.unwrap();
    }
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn a_second_connection_of_another_epoch_is_left_alone() {
    let url = [server("E", vec![event(1)], 4003), server("F", vec![event(1)], 4003)].join(",");
    let mut pair = Subscription::new(url, ["a"]).start_pair().unwrap();
    let (mut seqs, mut is_anew) = (Vec::new(), false);
    while seqs.is_empty() || pair.place().is_none() {
        let read = pair.read(STEP, |item| match item {
            Item::Event(event) => seqs.push(event.seq),
            Item::Notice(Notice::Anew) => is_anew = true,
            _ => {}
        });
        if read.is_err() {
            break;
        }
    }
    // The first one may have ended before the second has come: then that one is taken from.
    assert!(seqs == [1] || (is_anew && seqs == [1, 1]), "{seqs:?}");
}
