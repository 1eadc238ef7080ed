//! What is written is read back, and whatever happens to the bytes is noticed.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[a-zé€]{0,12}", "[a-z]{255}"].prop_map(Arc::from)
}

prop_compose! {
    fn event()(
        steps in (1_u64..4, 0_u64..4),
        ts in any::<Option<u64>>(),
        ts_in in any::<u64>(),
        (channel, slot) in any::<(u32, u32)>(),
        is_snapshot in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..40),
    ) -> (Sequenced, (u64, u64), Vec<u8>) {
        let kind = if is_snapshot { Kind::Snapshot } else { Kind::Update };
        (Sequenced { seq: 0, prev: 0, ts, ts_in, channel, slot, kind, data: 0..0 }, steps, data)
    }
}

prop_compose! {
    fn batch()(
        channels in prop::collection::vec(text(), 0..4),
        slots in prop::collection::vec((any::<u32>(), prop::option::of(text())), 0..4),
        events in prop::collection::vec(event(), 0..8),
    ) -> Batch {
        let slots = slots.into_iter().map(|(channel, key)| NewSlot { channel, key }).collect();
        let mut batch = Batch { channels, slots, ..Batch::default() };
        let mut seq = 0;
        for (event, (step, back), data) in events {
            seq += step;
            let start = u32::try_from(batch.bytes.len()).unwrap();
            batch.bytes.extend_from_slice(&data);
            let end = u32::try_from(batch.bytes.len()).unwrap();
            let prev = (seq - 1).saturating_sub(back);
            batch.events.push(Sequenced { seq, prev, data: start..end, ..event });
        }
        batch
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => batch().prop_map(Record::Batch),
        1 => (any::<u32>(), prop::collection::vec(any::<u64>(), 0..9))
            .prop_map(|(from, seqs)| Record::Ends { from, seqs }),
        1 => prop::collection::vec(any::<u32>(), 0..9).prop_map(Record::Broken),
        1 => any::<u64>().prop_map(Record::Closing),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_one_record_after_the_other(
        records in prop::collection::vec(any_record(), 0..5),
    ) {
        let mut bytes = Vec::new();
        for record in &records {
            write(&mut bytes, record);
        }
        let mut rest = &bytes[..];
        for record in &records {
            let (found, length) = read(rest).unwrap().unwrap();
            prop_assert_eq!(&found, record);
            rest = &rest[length..];
        }
        prop_assert_eq!(read(rest), Ok(None));
    }

    /// A cut is told from damage, because nobody has seen what was never written to the end.
    #[test]
    fn every_cut_is_noticed_and_told_from_every_flipped_bit(record in any_record()) {
        let mut bytes = Vec::new();
        write(&mut bytes, &record);
        for end in 1..bytes.len() {
            prop_assert_eq!(read(&bytes[..end]), Err(Flaw::Torn), "cut at {}", end);
        }
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read(&bytes), Err(Flaw::Damaged), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_where_a_record_should_be_are_damage(count in PREFIX_BYTES..64) {
        prop_assert_eq!(read(&vec![0; count]), Err(Flaw::Damaged));
    }
}
