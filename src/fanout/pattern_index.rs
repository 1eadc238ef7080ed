//! Patterns by their text: which of many match a channel, without a look at each.
//!
//! The *shape* of a pattern says which of its tokens are names, which `*`, and whether it ends with
//! `>`. Of one shape a single pattern can match a channel, and the channel's name spells it out: so
//! a search is one look into a table for each shape in use. Not here: what holds a pattern.
//! Invariant: every value has its pattern's shape counted, and no shape is counted without one.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::limits::CHANNEL_TOKENS_MAX;
use crate::protocol::channel::Pattern;

/// A value for each of some patterns.
#[derive(Debug)]
pub struct PatternIndex<T> {
    values: FxHashMap<Box<str>, T>,
    /// How many patterns there are of each shape, the most specific first.
    shapes: BTreeMap<Shape, usize>,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        Self { values: FxHashMap::default(), shapes: BTreeMap::new() }
    }
}

impl PatternIndex<usize> {
    /// Patterns with their places in the list; the last one of those that are equal.
    pub fn of<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let mut index = Self::default();
        patterns.enumerate().for_each(|(place, pattern)| *index.value(pattern) = place);
        index
    }
}

impl<T: Default> PatternIndex<T> {
    /// The value of `pattern`; a new one if there is none yet.
    pub fn value(&mut self, pattern: &Pattern) -> &mut T {
        if !self.values.contains_key(pattern.as_str()) {
            *self.shapes.entry(Shape::of(pattern)).or_default() += 1;
        }
        self.values.entry(pattern.as_str().into()).or_default()
    }
}

impl<T> PatternIndex<T> {
    /// The value of `pattern`.
    #[must_use]
    pub fn get(&self, pattern: &Pattern) -> Option<&T> {
        self.values.get(pattern.as_str())
    }

    /// Removes the value of `pattern`.
    pub fn remove(&mut self, pattern: &Pattern) {
        if self.values.remove(pattern.as_str()).is_none() {
            return;
        }
        let shape = Shape::of(pattern);
        let count = self.shapes.get_mut(&shape).expect("every value has its shape counted");
        *count -= 1;
        if *count == 0 {
            self.shapes.remove(&shape);
        }
    }

    /// The values of the patterns that match `channel`, a valid name; that of the most specific one
    /// comes first.
    pub fn matching(&self, channel: &str) -> impl Iterator<Item = &T> {
        let mut text = String::with_capacity(channel.len());
        self.shapes.keys().filter_map(move |shape| {
            text.clear();
            shape.spell(channel, &mut text).then(|| self.values.get(&*text)).flatten()
        })
    }
}

/// What a pattern's tokens are: two bits for each, the first token's on top, so that the order of
/// numbers is that of [`Pattern::specificity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape(u32);

const NAME: u32 = 1;
const ANY: u32 = 2;
const REST: u32 = 3;

const _: () = assert!(2 * CHANNEL_TOKENS_MAX <= u32::BITS as usize);

impl Shape {
    fn of(pattern: &Pattern) -> Self {
        let kinds = pattern.as_str().split('.').map(|token| match token {
            ">" => REST,
            "*" => ANY,
            _ => NAME,
        });
        let shifts = (0..u32::BITS).rev().step_by(2);
        Self(kinds.zip(shifts).fold(0, |shape, (kind, shift)| shape | kind << (shift - 1)))
    }

    /// Appends the text of the one pattern of this shape that matches `channel`; false when there
    /// can be none.
    fn spell(self, channel: &str, text: &mut String) -> bool {
        let mut kinds = self.0;
        for token in channel.split('.') {
            if !text.is_empty() {
                text.push('.');
            }
            match kinds >> (u32::BITS - 2) {
                NAME => text.push_str(token),
                ANY => text.push('*'),
                REST => {
                    text.push('>');
                    return true;
                }
                _ => return false,
            }
            kinds <<= 2;
        }
        kinds == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is put in and taken out: it finds what a look at each pattern finds.
        #[test]
        fn it_agrees_with_a_look_at_each_pattern(
            changes in prop::collection::vec(("([ab*]\\.){0,3}[ab*>]", any::<bool>()), 1..60),
            channels in prop::collection::vec("([ab]\\.){0,3}[abc]", 20),
        ) {
            let mut index = PatternIndex::default();
            let mut held = BTreeMap::new();
            for (number, (text, is_held)) in changes.into_iter().enumerate() {
                let pattern = Pattern::parse(&text).unwrap();
                if is_held {
                    *index.value(&pattern) = number;
                    held.insert(pattern, number);
                } else {
                    index.remove(&pattern);
                    held.remove(&pattern);
                }
            }
            for (pattern, number) in &held {
                prop_assert_eq!(index.get(pattern), Some(number));
            }
            for channel in channels {
                let mut expected: Vec<_> =
                    held.iter().filter(|(pattern, _)| pattern.matches(&channel)).collect();
                expected.sort_by(|(one, _), (other, _)| one.specificity(other));
                let expected: Vec<_> = expected.into_iter().map(|(_, number)| number).collect();
                prop_assert_eq!(index.matching(&channel).collect::<Vec<_>>(), expected);
            }
            held.keys().for_each(|pattern| index.remove(pattern));
            prop_assert!(index.values.is_empty() && index.shapes.is_empty());
        }
    }

    #[test]
    fn the_longest_patterns_have_a_shape() {
        let pattern = Pattern::parse(&["*"; CHANNEL_TOKENS_MAX].join(".")).unwrap();
        let mut index = PatternIndex::default();
        *index.value(&pattern) = 7;
        let channel = ["a"; CHANNEL_TOKENS_MAX].join(".");
        assert_eq!(index.matching(&channel).collect::<Vec<_>>(), [&7]);
        assert_eq!(index.matching(&channel[2..]).count(), 0);
    }
}
