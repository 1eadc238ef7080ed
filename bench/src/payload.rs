//! The payload of an event: one layout, one length, so that reading it is a few loads.
//!
//! `{"n":"000000000017","p":"000000000016","c":"00000","t":"00001763…","x":"4071…"}`: `n` is the
//! event's number, `p` that of the one before it on its channel (0: none), `c` the channel, `t` the
//! time at which it was meant to be sent (`clock::now_ns`). Not here: what surrounds it on the
//! wire. Invariant: what [`Template::write`] wrote, the readers below give back.

const NUMBER_AT: usize = 6;
const PREVIOUS_AT: usize = 25;
const CHANNEL_AT: usize = 44;
const TIME_AT: usize = 56;
const FILL_AT: usize = 83;

const NUMBER_DIGITS: usize = 12;
const CHANNEL_DIGITS: usize = 5;
const TIME_DIGITS: usize = 20;

/// The shortest payload: nothing in `x`.
pub const BYTES_MIN: usize = FILL_AT + 2;
/// As many as `c` has room for.
pub const CHANNELS_MAX: u64 = 100_000;

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub number: u64,
    pub previous: u64,
    pub channel: u32,
    pub intended_ns: u64,
}

/// A payload of one length, of which only the digits change.
#[derive(Debug, Clone)]
pub struct Template(Vec<u8>);

impl Template {
    /// # Errors
    /// When the length is too small for the fields.
    pub fn new(bytes: usize) -> Result<Self, String> {
        let Some(fill) = bytes.checked_sub(BYTES_MIN) else {
            return Err(format!("payload_bytes = {bytes}: at least {BYTES_MIN} are needed"));
        };
        let head = r#"{"n":"000000000000","p":"000000000000","c":"00000","#;
        let tail = r#""t":"00000000000000000000","x":""#;
        let mut text = format!("{head}{tail}").into_bytes();
        text.extend(digits().take(fill));
        text.extend_from_slice(br#""}"#);
        Ok(Self(text))
    }

    /// Bytes of every payload.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Appends one.
    pub fn write(&self, out: &mut Vec<u8>, said: Said) {
        let start = out.len();
        out.extend_from_slice(&self.0);
        let text = &mut out[start..];
        put(&mut text[NUMBER_AT..NUMBER_AT + NUMBER_DIGITS], said.number);
        put(&mut text[PREVIOUS_AT..PREVIOUS_AT + NUMBER_DIGITS], said.previous);
        put(&mut text[CHANNEL_AT..CHANNEL_AT + CHANNEL_DIGITS], u64::from(said.channel));
        put(&mut text[TIME_AT..TIME_AT + TIME_DIGITS], said.intended_ns);
    }
}

/// The number of the event of this payload (all of it, and nothing else).
#[must_use]
#[inline]
pub fn number(payload: &[u8]) -> u64 {
    twelve(payload, NUMBER_AT)
}

/// The number of the event before it on its channel.
#[must_use]
#[inline]
pub fn previous(payload: &[u8]) -> u64 {
    twelve(payload, PREVIOUS_AT)
}

/// Its channel.
#[must_use]
#[inline]
pub fn channel(payload: &[u8]) -> u32 {
    let digit = |at: usize| u32::from(payload[CHANNEL_AT + at] & 0x0f);
    (0..CHANNEL_DIGITS).fold(0, |value, at| value * 10 + digit(at))
}

/// When it was meant to be sent.
#[must_use]
#[inline]
pub fn intended_ns(payload: &[u8]) -> u64 {
    let high = eight(payload, TIME_AT);
    let middle = eight(payload, TIME_AT + 8);
    let low = four(payload, TIME_AT + 16);
    high.wrapping_mul(1_000_000_000_000).wrapping_add(middle * 10_000 + low)
}

/// Digits in no order, as prices have them: a compressor finds in them what it finds in a feed.
fn digits() -> impl Iterator<Item = u8> {
    let step = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1_u32), step).map(|state| b'0' + (state >> 24) as u8 % 10)
}

fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
    }
    debug_assert_eq!(value, 0, "the field has room for it");
}

#[inline]
fn twelve(payload: &[u8], at: usize) -> u64 {
    eight(payload, at) * 10_000 + four(payload, at + 8)
}

/// Eight digits, two at a time, then four, then all.
#[inline]
fn eight(payload: &[u8], at: usize) -> u64 {
    let bytes: [u8; 8] = payload[at..at + 8].try_into().expect("eight bytes");
    let ones = u64::from_le_bytes(bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff
}

#[inline]
fn four(payload: &[u8], at: usize) -> u64 {
    let bytes: [u8; 4] = payload[at..at + 4].try_into().expect("four bytes");
    let ones = u32::from_le_bytes(bytes) & 0x0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff;
    u64::from((pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_is_json_of_the_asked_length() {
        let largest = Said {
            number: 999_999_999_999,
            previous: 987_654_321_098,
            channel: 99_999,
            intended_ns: u64::MAX,
        };
        let small = Said { number: 1, previous: 0, channel: 0, intended_ns: 17_630_000_000_123 };
        let mixed = Said { number: 123_456_789_012, channel: 12_345, ..small };
        for bytes in [BYTES_MIN, 128, 256, 4096] {
            let template = Template::new(bytes).unwrap();
            for said in [largest, small, mixed] {
                let mut out = b"before".to_vec();
                template.write(&mut out, said);
                let payload = &out[6..];
                assert_eq!(payload.len(), bytes);
                let read = Said {
                    number: number(payload),
                    previous: previous(payload),
                    channel: channel(payload),
                    intended_ns: intended_ns(payload),
                };
                assert_eq!(read, said);
                let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
                assert_eq!(value["t"], format!("{:020}", said.intended_ns));
                assert_eq!(value["n"], format!("{:012}", said.number));
            }
        }
        assert!(Template::new(BYTES_MIN - 1).unwrap_err().contains("85"));
    }
}
