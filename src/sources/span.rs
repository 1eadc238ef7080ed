//! Finds where values are in a line of JSON, without changing or copying them.
//!
//! simd-json judges a scratch copy, because it unescapes in place, and leaves the positions of the
//! line's structural characters; a value's bytes are then found by walking those positions, so no
//! byte of a payload is looked at twice. Not here: what the values mean. Invariant: a [`Document`]
//! exists only for valid JSON, and every span it gives is exactly one value of it.

use simd_json::{Buffers, Error, ErrorType, Node, Tape};

use crate::config::mapping::{Pointer, Step};
use crate::sources::error::LineError;

/// Judges lines; keeps its buffers from one line to the next.
pub struct Scanner {
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("scratch_bytes", &self.scratch.capacity()).finish()
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self { scratch: Vec::new(), buffers: Buffers::default(), tape: Tape(Vec::new()) }
    }
}

impl Scanner {
    /// Judges one line.
    ///
    /// A number too large for a 64-bit float (`1e999`) is refused although RFC 8259 has no such
    /// bound: subscribers would read infinity. The count of digits has no bound, and a number too
    /// small for a float passes; nesting has simd-json's bound, 1,024.
    ///
    /// # Errors
    /// What is wrong, and at which byte as far as it is known.
    pub fn scan<'a>(&'a mut self, line: &'a [u8]) -> Result<Document<'a>, LineError> {
        self.scratch.clear();
        self.scratch.reserve(line.len() + simd_json::INPUT_PADDING);
        self.scratch.extend_from_slice(line);
        self.scratch.extend_from_slice(&[b' '; simd_json::INPUT_PADDING]);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let judged = simd_json::fill_tape_padded(
            &mut self.scratch,
            line.len(),
            &mut self.buffers,
            &mut tape,
        );
        self.tape = tape.reset();
        match judged {
            Ok(()) => Ok(Document { line, marks: self.buffers.structural_indexes() }),
            Err(error) => Err(refusal(line, &error)),
        }
    }
}

#[cold]
fn refusal(line: &[u8], error: &Error) -> LineError {
    if line.starts_with(b"\xEF\xBB\xBF") {
        return LineError::ByteOrderMark;
    }
    if let Err(error) = std::str::from_utf8(line) {
        return LineError::Utf8 { at: error.valid_up_to() + 1 };
    }
    let at = error.index().min(line.len());
    match error.error() {
        ErrorType::DepthLimitExceeded => LineError::Depth,
        ErrorType::InvalidNumber if is_too_large(line, at) => LineError::NumberRange { at: at + 1 },
        _ if at == 0 => LineError::Json,
        _ => LineError::JsonAt { at: at + 1 },
    }
}

/// Whether the number at `at` is one that a 64-bit float turns into infinity.
fn is_too_large(line: &[u8], at: usize) -> bool {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let length = line[at..].iter().take_while(|byte| part(byte)).count();
    let number = std::str::from_utf8(&line[at..at + length]).unwrap_or_default();
    number.parse().is_ok_and(f64::is_infinite)
}

/// A valid line, with the positions of its structural characters: brackets, colons, commas, opening
/// quotes and the first characters of numbers and words.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    line: &'a [u8],
    marks: &'a [u32],
}

/// A value of a [`Document`]: the mark that it starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
}

impl Type {
    /// With its article, for messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Null => "null",
        }
    }
}

impl<'a> Document<'a> {
    /// The whole document.
    #[must_use]
    pub const fn root(&self) -> Value {
        Value(0)
    }

    /// The value at `pointer`; of members with the same name the first.
    #[must_use]
    pub fn find(&self, pointer: &Pointer) -> Option<Value> {
        pointer.steps().iter().try_fold(self.root(), |value, step| self.step(value, step))
    }

    fn step(&self, value: Value, step: &Step) -> Option<Value> {
        match self.type_of(value) {
            Type::Object => self
                .members(value)
                .find(|(name, _)| string_is(name, step.name.as_bytes()))
                .map(|(_, member)| member),
            Type::Array => self.element(value, step.index?),
            Type::String | Type::Number | Type::Boolean | Type::Null => None,
        }
    }

    fn element(&self, array: Value, index: usize) -> Option<Value> {
        let mut mark = array.0 + 1;
        if self.byte(mark) == b']' {
            return None;
        }
        for _ in 0..index {
            mark = self.after(Value(mark));
            if self.byte(mark) == b']' {
                return None;
            }
            mark += 1;
        }
        Some(Value(mark))
    }

    /// The members of an object in their order: the name as written, with its quotes, and the
    /// value. Nothing for any other value.
    pub fn members(&self, object: Value) -> impl Iterator<Item = (&'a [u8], Value)> + use<'a> {
        let document = *self;
        let empty = document.byte(object.0) != b'{' || document.byte(object.0 + 1) == b'}';
        let mut last = None;
        std::iter::from_fn(move || {
            // A value is passed only when the next member is wanted: a search that ends here never
            // walks through what it has found.
            let before = last.map_or(object.0, |value| document.after(value));
            if empty || document.byte(before) == b'}' {
                return None;
            }
            let value = Value(before + 3);
            last = Some(value);
            Some((document.raw(Value(before + 1)), value))
        })
    }

    /// The bytes of a value as written, without space around them.
    #[must_use]
    pub fn raw(&self, value: Value) -> &'a [u8] {
        let start = self.marks[value.0] as usize;
        let end = match self.line[start] {
            b'{' | b'[' => return &self.line[start..=self.marks[self.after(value) - 1] as usize],
            _ => self.marks.get(value.0 + 1).map_or(self.line.len(), |&mark| mark as usize),
        };
        self.line[start..end].trim_ascii_end()
    }

    /// What a value is.
    #[must_use]
    pub fn type_of(&self, value: Value) -> Type {
        match self.byte(value.0) {
            b'{' => Type::Object,
            b'[' => Type::Array,
            b'"' => Type::String,
            b't' | b'f' => Type::Boolean,
            b'n' => Type::Null,
            _ => Type::Number,
        }
    }

    /// The mark after a value's last one.
    fn after(&self, value: Value) -> usize {
        if nesting(self.byte(value.0)) == 0 {
            return value.0 + 1;
        }
        let mut depth = 0;
        let closes = |&mark: &u32| {
            depth += nesting(self.line[mark as usize]);
            depth == 0
        };
        let last = self.marks[value.0..].iter().position(closes);
        value.0 + 1 + last.expect("a valid document closes what it opens")
    }

    fn byte(&self, mark: usize) -> u8 {
        self.line[self.marks[mark] as usize]
    }
}

/// How a mark changes the depth: 1 for `{` and `[`, -1 for `}` and `]`; each pair differs in a bit.
fn nesting(byte: u8) -> i32 {
    let bracket = byte | 0x20;
    i32::from(bracket == b'{') - i32::from(bracket == b'}')
}

/// Whether a JSON string, as written with its quotes and known to be valid, says `text`.
#[must_use]
pub fn string_is(raw: &[u8], text: &[u8]) -> bool {
    let inside = &raw[1..raw.len() - 1];
    // Most names differ in their first letter, and escapes only make a name longer.
    let differs = inside.first() != text.first() && inside.first() != Some(&b'\\');
    if differs || inside.len() < text.len() {
        return false;
    }
    if !inside.contains(&b'\\') {
        return inside == text;
    }
    let mut unescaped = String::new();
    unescape(raw, &mut unescaped);
    unescaped.as_bytes() == text
}

/// The text of a valid JSON string where it needs no unescaping.
#[must_use]
pub fn plain(raw: &[u8]) -> Option<&str> {
    let inside = &raw[1..raw.len() - 1];
    if inside.contains(&b'\\') { None } else { std::str::from_utf8(inside).ok() }
}

/// Appends the text of a valid JSON string, given with its quotes.
pub fn unescape(raw: &[u8], out: &mut String) {
    if let Some(text) = plain(raw) {
        return out.push_str(text);
    }
    let mut copy = raw.to_vec();
    let tape = simd_json::to_tape(&mut copy).expect("a part of a valid document is valid");
    if let Some(Node::String(text)) = tape.0.first() {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, pointer: &str) -> Option<String> {
        let mut scanner = Scanner::default();
        let document = scanner.scan(line.as_bytes()).unwrap();
        let value = document.find(&Pointer::parse(pointer).unwrap())?;
        Some(String::from_utf8(document.raw(value).to_vec()).unwrap())
    }

    #[test]
    fn a_pointer_gives_exactly_the_bytes_of_its_value() {
        let line = " { \"a\" : [ 1.10 , { \"b\\u0063\":\t\"x\\\"]}\" } ,[ ] , null ] , \"\": -0 ,\
                     \"a/b\":{\"~\":true},\"a\":2, \"d\" : { } } \r";
        for (pointer, expected) in [
            ("", Some(line.trim())),
            ("/a/0", Some("1.10")),
            ("/a/1", Some("{ \"b\\u0063\":\t\"x\\\"]}\" }")),
            ("/a/1/bc", Some("\"x\\\"]}\"")),
            ("/a/2", Some("[ ]")),
            ("/a/3", Some("null")),
            ("/", Some("-0")),
            ("/a~1b/~0", Some("true")),
            ("/d", Some("{ }")),
            ("/a/4", None),
            ("/a/2/0", None),
            ("/a/00", None),
            ("/a/-", None),
            ("/a/0/0", None),
            ("/d/x", None),
            ("/b", None),
        ] {
            assert_eq!(found(line, pointer).as_deref(), expected, "{pointer}");
        }
    }

    #[test]
    fn a_document_may_be_a_single_scalar() {
        for scalar in ["1", "\"x\"", "null", "-1E+5", "[]"] {
            assert_eq!(found(scalar, "").as_deref(), Some(scalar));
            assert_eq!(found(&format!("\t{scalar}\r"), "").as_deref(), Some(scalar));
        }
    }

    #[test]
    fn a_name_with_a_backslash_is_compared_after_unescaping() {
        assert_eq!(found(r#"{"a\\b":1,"\b":2}"#, r"/a\b").as_deref(), Some("1"));
        assert_eq!(found(r#"{"\b":2}"#, r"/\b"), None);
        assert_eq!(found(r#"{"\ud83d\ude00":3}"#, "/😀").as_deref(), Some("3"));
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        let error = |line: &[u8]| Scanner::default().scan(line).map(|_| ()).unwrap_err();
        assert_eq!(error(b"\xEF\xBB\xBF{}"), LineError::ByteOrderMark);
        assert_eq!(error(b"{\"a\":\"\xff\"}"), LineError::Utf8 { at: 7 });
        assert_eq!(error(b"[1,x]"), LineError::JsonAt { at: 4 });
        for (number, at) in [("1e999", 6), ("-1e400", 6), ("1e1000", 6), ("1.8e308", 6)] {
            let line = format!("{{\"a\":{number}}}");
            assert_eq!(error(line.as_bytes()), LineError::NumberRange { at }, "{number}");
        }
        assert_eq!(error("9".repeat(400).as_bytes()), LineError::NumberRange { at: 1 });
        for number in ["01", "1.", "-", "1e", "1e+", ".5", "+1", "1.2.3", "0x1"] {
            let line = format!("{{\"a\":{number}}}");
            let error = error(line.as_bytes());
            assert!(
                matches!(error, LineError::JsonAt { .. } | LineError::Json),
                "{number} {error}"
            );
        }
        for line in
            ["", " ", "{", "}", "{} {}", "{\"a\" 1}", "[1 2]", "{\"a\":\"\t\"}", "\"\\ud800\""]
        {
            let error = error(line.as_bytes());
            assert!(matches!(error, LineError::JsonAt { .. } | LineError::Json), "{line} {error}");
        }
        assert_eq!(error("[".repeat(2_000).as_bytes()), LineError::Depth);
    }

    #[test]
    fn numbers_of_any_length_are_numbers() {
        for number in [
            "12345678901234567890123",
            "-12345678901234567890123",
            "1.10",
            "1E+5",
            "1e-400",
            "1e0001",
        ] {
            assert_eq!(found(&format!("[{number}]"), "/0").as_deref(), Some(number));
        }
    }
}
