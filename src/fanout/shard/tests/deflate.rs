//! Commands of clients that compress them: one inflater for all, bounded, and only where it was
//! agreed on.

use super::super::*;
use super::{drain, shard};
use crate::access::Member;
use crate::protocol::encoding::Encoding;
use crate::protocol::ws::deflate::{Agreed, Deflater};
use crate::protocol::ws::frame::{Opcode, RSV1, write_masked};

const AGREED: Agreed =
    Agreed { server_context: false, client_context: false, server_bits: None, client_bits: None };

/// A client that may compress.
fn open(shard: &mut Shard) -> ConnectionId {
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    shard.handle_agreed(id, AGREED);
    drain(shard);
    id
}

/// A compressed command in one frame.
fn compressed(text: &[u8]) -> Vec<u8> {
    let (mut payload, mut frame) = (Vec::new(), Vec::new());
    Deflater::new(6, 15, false).deflate(text, &mut payload);
    write_masked(&mut frame, Opcode::Text, &payload, [1, 2, 3, 4]);
    frame[0] |= RSV1;
    frame
}

fn says(shard: &mut Shard, id: ConnectionId, mut bytes: Vec<u8>) -> String {
    shard.handle_bytes(id, &mut bytes, Now::default());
    String::from_utf8_lossy(&drain(shard)).into_owned()
}

#[test]
fn a_compressed_command_is_answered_as_any_other() {
    let mut shard = shard();
    let id = open(&mut shard);
    let answer = says(&mut shard, id, compressed(br#"{"method":"ping","req_id":7}"#));
    assert!(answer.contains(r#""req_id":7"#), "{answer}");
    let mut plain = Vec::new();
    write_masked(&mut plain, Opcode::Text, br#"{"method":"ping","req_id":8}"#, [1, 2, 3, 4]);
    let answer = says(&mut shard, id, plain);
    assert!(answer.contains(r#""req_id":8"#), "{answer}");
}

#[test]
fn commands_in_pieces_of_several_clients_do_not_mix() {
    let mut shard = shard();
    let ids = [open(&mut shard), open(&mut shard)];
    let commands = ids.map(|id| {
        compressed(format!(r#"{{"method":"ping","req_id":"of {}"}}"#, id.index).as_bytes())
    });
    for at in 0..commands[0].len() - 1 {
        for (id, command) in ids.iter().zip(&commands) {
            assert_eq!(says(&mut shard, *id, vec![command[at]]), "");
        }
    }
    for (id, command) in ids.iter().zip(&commands) {
        let answer = says(&mut shard, *id, command[command.len() - 1..].to_vec());
        assert!(answer.contains(&format!(r#""req_id":"of {}""#, id.index)), "{answer}");
    }
}

#[test]
fn a_bomb_ends_its_own_connection_only() {
    let mut shard = shard();
    let (hostile, other) = (open(&mut shard), open(&mut shard));
    let bomb = compressed(&vec![b' '; shard.settings.message_bytes_max + 1]);
    let answer = says(&mut shard, hostile, bomb);
    assert!(answer.contains("message too big"), "{answer}");
    let answer = says(&mut shard, other, compressed(br#"{"method":"ping","req_id":7}"#));
    assert!(answer.contains(r#""req_id":7"#), "{answer}");
}

#[test]
fn who_has_agreed_to_nothing_may_not_compress() {
    let mut shard = shard();
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    drain(&mut shard);
    let answer = says(&mut shard, id, compressed(br#"{"method":"ping"}"#));
    assert!(answer.contains("a reserved bit is set"), "{answer}");
}
