//! Takes secrets out of a line, whoever put them there.
//!
//! Nothing that fanfare logs holds a secret; this is the second lock on that door, for the words of
//! libraries and of errors. Not here: what credentials look like (`access`). Invariant: what
//! follows `token=` or `Bearer` is not written.

const MASK: &[u8] = b"***";

/// Replaces each secret of `line`.
pub(super) fn redact(line: &mut Vec<u8>) {
    let mut from = 0;
    while let Some((start, end)) = secret(line, from) {
        line.splice(start..end, MASK.iter().copied());
        from = start + MASK.len();
    }
}

/// Where the next secret is.
fn secret(line: &[u8], from: usize) -> Option<(usize, usize)> {
    (from..line.len()).find_map(|at| {
        let word = WORDS.iter().find(|word| begins_with(&line[at..], word))?;
        let after = at + word.len();
        let gap = line[after..].iter().take_while(|byte| b" =:\"'\\".contains(byte)).count();
        let is_marked = match *word {
            b"bearer" => gap > 0,
            _ => line[after..after + gap].iter().any(|byte| b"=:".contains(byte)),
        };
        let start = after + gap;
        let length = line[start..].iter().take_while(|byte| is_secret(**byte)).count();
        let is_masked = line[start..start + length] == *MASK;
        (is_marked && length > 0 && !is_masked).then_some((start, start + length))
    })
}

/// In lower case.
const WORDS: [&[u8]; 3] = [b"token", b"bearer", b"secret"];

fn begins_with(line: &[u8], word: &[u8]) -> bool {
    line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Base64, hexadecimal, percent-encoding, and whatever is between them in tokens.
const fn is_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'/' | b'%' | b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_other_words_stay() {
        for (line, written) in [
            ("GET /v1?token=a.b-_%2E&x=1", "GET /v1?token=***&x=1"),
            ("Authorization: Bearer eyJ.eyJ.x end", "Authorization: Bearer *** end"),
            (r#"{"method":"auth","token":"desk.s"}"#, r#"{"method":"auth","token":"***"}"#),
            (r#"text=\"bearer  k.s\""#, r#"text=\"bearer  ***\""#),
            ("access_token=1 token: 2", "access_token=*** token: ***"),
            ("the token has expired; 2 tokens, no secret", ""),
            ("Bearer", ""),
            ("token=", ""),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            redact(&mut bytes);
            let expected = if written.is_empty() { line } else { written };
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
