//! RFC 6455 as a client meets it: frames, fragments, control frames, violations, closing.

use fanfare::protocol::ws::frame::{Opcode, write_frame, write_masked};

use crate::support::{Client, Heard, Server};

const MASK: [u8; 4] = [7, 0, 255, 9];

/// A masked frame that does not end its message.
fn fragment(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let start = out.len();
    write_masked(out, opcode, payload, MASK);
    out[start] &= 0x7f;
}

#[test]
fn a_ping_is_answered_with_its_payload_and_a_pong_is_ignored() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(Opcode::Pong, b"unasked");
    for payload in [b"".as_slice(), b"are you there", &[0xff; 125]] {
        client.send(Opcode::Ping, payload);
        assert_eq!(client.hear(), Heard::Pong(payload.to_vec()));
    }
}

#[test]
fn a_command_may_be_fragmented_with_a_ping_in_between() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let mut bytes = Vec::new();
    fragment(&mut bytes, Opcode::Text, br#"{"method":"#);
    write_masked(&mut bytes, Opcode::Ping, b"between", MASK);
    fragment(&mut bytes, Opcode::Continuation, br#""ping","#);
    write_masked(&mut bytes, Opcode::Continuation, br#""req_id":"f"}"#, MASK);
    client.write(&bytes);
    assert_eq!(client.hear(), Heard::Pong(b"between".to_vec()));
    assert_eq!(client.json()["req_id"], "f");
}

#[test]
fn several_commands_in_one_segment_are_answered_in_order() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let mut bytes = Vec::new();
    for number in 0..100 {
        let command = format!(r#"{{"method":"ping","req_id":{number}}}"#);
        write_masked(&mut bytes, Opcode::Text, command.as_bytes(), MASK);
    }
    client.write(&bytes);
    for number in 0..100 {
        assert_eq!(client.json()["req_id"], number);
    }
}

#[test]
fn a_binary_message_is_refused_and_the_connection_kept() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(Opcode::Binary, b"{}");
    assert_eq!(client.json()["error"]["code"], "message_not_text");
    client.hears_nothing_more();
}

#[test]
fn violations_end_the_connection_with_the_code_of_the_rfc() {
    let server = Server::start("--message-bytes-max 1KiB");
    let mut unmasked = Vec::new();
    write_frame(&mut unmasked, Opcode::Text, b"{}");
    let mut reserved = Vec::new();
    write_masked(&mut reserved, Opcode::Text, b"{}", MASK);
    reserved[0] |= 0x40;
    let mut not_utf8 = Vec::new();
    write_masked(&mut not_utf8, Opcode::Text, b"\xc3\x28", MASK);
    let mut too_big = Vec::new();
    write_masked(&mut too_big, Opcode::Text, &[b' '; 1_025], MASK);
    let mut orphan = Vec::new();
    write_masked(&mut orphan, Opcode::Continuation, b"x", MASK);
    for (bytes, code) in
        [(unmasked, 1002), (reserved, 1002), (not_utf8, 1007), (too_big, 1009), (orphan, 1002)]
    {
        let mut client = Client::connect(&server);
        client.write(&bytes);
        // Whatever a broken client sends after it, the server is not impressed.
        client.write(&bytes);
        client.send(Opcode::Continuation, b"}");
        assert_eq!(client.closed(), code, "{bytes:?}");
    }
    Client::connect(&server);
}

#[test]
fn a_close_is_answered_with_its_own_code_and_then_the_stream_ends() {
    let server = Server::start("");
    for (payload, code) in [(b"\x03\xe8bye".as_slice(), 1000), (b"\x0f\xa1", 4001)] {
        let mut client = Client::connect(&server);
        client.send(Opcode::Close, payload);
        assert!(matches!(client.hear(), Heard::Close(Some(found), _) if found == code));
        assert_eq!(client.hear(), Heard::End);
    }
    let mut client = Client::connect(&server);
    client.send(Opcode::Close, b"");
    assert!(matches!(client.hear(), Heard::Close(..)));
    assert_eq!(client.hear(), Heard::End);
}
