//! The binary form against the JSON form, its reader against bad bytes, and its schema.

use proptest::prelude::*;

use super::super::data::tests::Sample;
use super::super::ws::reader::{Message, Reader, Role};
use super::*;

fn written(parts: &Parts<'_>) -> Vec<u8> {
    let mut out = vec![0; parts.len()];
    parts.write(&mut out);
    out
}

#[test]
fn a_message_has_its_fields_at_the_documented_places() {
    let event = Envelope {
        channel: "quote.BTCUSDT",
        kind: Kind::Snapshot,
        key_json: Some(br#""BTC""#),
        seq: 0x0102_0304_0506_0708,
        prev: 9,
        ts: None,
        ts_in: 10,
        data: b"{}",
    };
    let frame = written(&frame(0x0a0b_0c0d, &event));
    let expected: Vec<u8> = [
        &[0x82, 61][..],
        &[40, 0, 1, 0, 1, 0, 0, 0],
        &[8, 7, 6, 5, 4, 3, 2, 1],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[255; 8],
        &[10, 0, 0, 0, 0, 0, 0, 0],
        &[0x0d, 0x0c, 0x0b, 0x0a, 1, 0, 0, 0],
        &[5, 0],
        br#""BTC""#,
        &[2, 0, 0, 0],
        b"{}",
    ]
    .concat();
    assert_eq!(frame, expected);
}

proptest! {
    #[test]
    fn both_forms_say_the_same(sample in Sample::any(), channel: u32) {
        let (event, json_frame) = (sample.envelope(), sample.frame());
        let direct = written(&frame(channel, &event));
        let transcoded = written(&from_json_frame(channel, &json_frame).unwrap());
        prop_assert_eq!(&direct, &transcoded);

        let (mut bytes, mut used) = (direct, 0);
        let mut reader = Reader::new(Role::Client, 1 << 20);
        let Ok(Some(Message::Binary(message))) = reader.next_message(&mut bytes, &mut used) else {
            panic!("one whole binary message");
        };
        let read = read(message).unwrap().unwrap();
        prop_assert_eq!(read.channel, channel);
        let mut out = Vec::new();
        prop_assert_eq!(read.json_text(event.channel, &mut out), &sample.text()[..]);
    }

    #[test]
    fn a_message_that_is_cut_is_an_error(sample in Sample::any(), at: prop::sample::Index) {
        let frame = written(&frame(7, &sample.envelope()));
        let message = payload(&frame);
        prop_assert_eq!(read(&message[..at.index(message.len())]), Err(Unreadable::Cut));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(mut bytes: Vec<u8>, is_ours: bool) {
        if is_ours && bytes.len() >= HEADER_BYTES {
            bytes[..HEADER_BYTES].copy_from_slice(&[40, 0, 1, 0, 1, 0, 0, 0]);
        }
        if let Ok(Some(event)) = read(&bytes) {
            prop_assert!(event.data.len() < bytes.len());
        }
    }
}

#[test]
fn a_later_version_may_have_more_fields_and_other_messages() {
    let event = Envelope::find(
        br#"{"channel":"a","type":"update","seq":2,"prev":1,"ts":3,"ts_in":4,"data":5}"#,
    );
    let frame = written(&frame(6, &event.unwrap()));
    let mut message = payload(&frame).to_vec();
    let wanted = read(&message.clone()).unwrap().map(|event| (event.seq, event.data.to_vec()));
    message[offset::BLOCK_LENGTH] += 8;
    message[offset::VERSION] = 1;
    message.splice(offset::KEY_LENGTH..offset::KEY_LENGTH, [0xff; 8]);
    let found = read(&message).unwrap().map(|event| (event.seq, event.data.to_vec()));
    assert_eq!(found, wanted);
    assert_eq!(wanted, Some((2, b"5".to_vec())));
    message[offset::TEMPLATE_ID] = 2;
    assert_eq!(read(&message), Ok(None));
    message[offset::SCHEMA_ID] = 2;
    assert_eq!(read(&message), Err(Unreadable::Schema(2)));
}

/// What clients' decoders are tested with; `BLESS=1` writes it anew.
#[test]
fn the_vectors_of_the_clients_are_what_is_written() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/vectors/binary.json");
    let texts = [
        r#"{"channel":"trade.BTCUSDT","type":"update","seq":1,"prev":0,"ts_in":2,"data":1.50}"#,
        concat!(
            r#"{"channel":"quote.BTCUSDT","type":"update","key":"BTCUSDT","seq":811,"prev":809,"#,
            r#""ts":1742944025743419099,"ts_in":1795559779984488696,"#,
            r#""data":{"b":"60001.10","a":60001.2000}}"#,
        ),
        concat!(
            r#"{"channel":"quote.BTCUSDT","type":"snapshot","key":"a\"b\\c\u0007\n é","#,
            r#""seq":9007199254740991,"prev":4294967296,"ts":0,"ts_in":18446744073709551615,"#,
            r#""data":{"text":",\"data\":","é":[]}}"#,
        ),
        concat!(
            r#"{"channel":"book.ETHUSDT","type":"snapshot","seq":4,"prev":0,"#,
            r#""ts_in":1795689764820153137,"data":{"bids":[["60001.30","2"]],"asks":[]}}"#,
        ),
    ];
    let ids = ["trade.BTCUSDT", "quote.BTCUSDT", "book.ETHUSDT"];
    let vectors: Vec<_> = (texts.iter())
        .map(|text| {
            let event = Envelope::find(text.as_bytes()).unwrap();
            let channel = ids.iter().position(|&name| name == event.channel).unwrap();
            // Ids are any numbers to a client.
            let channel = [0, 7, u32::MAX][channel];
            let frame = written(&frame(channel, &event));
            let hex: String = payload(&frame).iter().map(|byte| format!("{byte:02x}")).collect();
            let id = channel;
            serde_json::json!({ "channel": event.channel, "id": id, "hex": hex, "text": text })
        })
        .collect();
    let expected = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), expected, "BLESS=1 renews it");
}

/// The values of an attribute in a document, of the elements that begin with `tag`, in order.
/// Enough of XML for a file of our own.
fn elements<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let open = format!("<{tag} ");
    xml.split(&open).skip(1).map(|rest| &rest[..rest.find('>').unwrap()]).collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let at = element.find(&format!("{name}=\"")).map(|at| at + name.len() + 2);
    let rest = &element[at.unwrap_or_else(|| panic!("no {name} in {element}"))..];
    &rest[..rest.find('"').unwrap()]
}

#[test]
fn the_schema_says_where_the_fields_are() {
    let xml = include_str!("../../../docs/schema/fanfare-v1-bin.xml");
    let schema = elements(xml, "sbe:messageSchema")[0];
    assert_eq!(attribute(schema, "id"), SCHEMA_ID.to_string());
    assert_eq!(attribute(schema, " version"), SCHEMA_VERSION.to_string());
    assert_eq!(attribute(schema, "byteOrder"), "littleEndian");
    let message = elements(xml, "sbe:message")[0];
    assert_eq!(attribute(message, " id"), TEMPLATE_EVENT.to_string());
    assert_eq!(attribute(message, "blockLength"), BLOCK_BYTES.to_string());
    let types = elements(xml, "type");
    let bytes_of = |wanted: &str| {
        let element = types.iter().find(|element| attribute(element, "name") == wanted)?;
        let length = element.contains(" length=").then(|| attribute(element, " length"));
        let count: usize = length.map_or(1, |length| length.parse().unwrap());
        let bits: usize =
            attribute(element, "primitiveType").trim_start_matches("uint").parse().unwrap();
        Some(count * bits / 8)
    };
    let fields: Vec<_> = (elements(xml, "field").into_iter())
        .map(|field| {
            let at: usize = attribute(field, "offset").parse().unwrap();
            let kind = attribute(field, "type");
            // The enumeration is the one type that is not in the list of plain ones.
            (attribute(field, "name"), HEADER_BYTES + at, bytes_of(kind).unwrap_or(1))
        })
        .collect();
    assert_eq!(
        fields,
        [
            ("seq", offset::SEQ, 8),
            ("prev", offset::PREV, 8),
            ("ts", offset::TS, 8),
            ("tsIn", offset::TS_IN, 8),
            ("channel", offset::CHANNEL, 4),
            ("kind", offset::KIND, 1),
            ("reserved", offset::RESERVED, 3),
        ]
    );
    assert_eq!(offset::RESERVED + 3, HEADER_BYTES + BLOCK_BYTES, "and the block ends there");
    let lengths: Vec<_> = types.iter().filter(|of| attribute(of, "name") == "length").collect();
    let lengths: Vec<_> = lengths.iter().map(|of| attribute(of, "primitiveType")).collect();
    assert_eq!(lengths, ["uint16", "uint32"]);
    let null = types.iter().find(|of| attribute(of, "name") == "OptionalTime").unwrap();
    assert_eq!(attribute(null, "nullValue"), TS_NONE.to_string());
}
