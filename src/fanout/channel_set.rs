//! A set of channels, one bit each.
//!
//! Not here: why a channel is in it. Invariant: memory is one bit for each channel up to the
//! largest in the set.

use crate::handoff::batch::ChannelId;

/// A set of channels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelSet(Vec<u64>);

impl ChannelSet {
    /// Whether `channel` is in the set.
    #[must_use]
    pub fn contains(&self, channel: ChannelId) -> bool {
        let word = self.0.get(channel as usize / 64);
        word.is_some_and(|word| word >> (channel % 64) & 1 == 1)
    }

    /// Puts `channel` into the set.
    pub fn insert(&mut self, channel: ChannelId) {
        let word = channel as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (channel % 64);
    }

    /// The first channel from `channel` on that is in the set.
    #[must_use]
    pub fn next(&self, channel: ChannelId) -> Option<ChannelId> {
        let (first, bit) = (channel as usize / 64, channel % 64);
        let words = self.0.iter().enumerate().skip(first);
        let mut masked = words
            .map(|(at, &word)| (at, if at == first { word & (u64::MAX << bit) } else { word }));
        let (at, word) = masked.find(|(_, word)| *word != 0)?;
        let base = ChannelId::try_from(at * 64).expect("made of channel ids");
        Some(base + word.trailing_zeros())
    }

    /// True when no channel was ever put in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<ChannelId> for ChannelSet {
    fn from_iter<T: IntoIterator<Item = ChannelId>>(channels: T) -> Self {
        let mut set = Self::default();
        channels.into_iter().for_each(|channel| set.insert(channel));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_walks_it_in_order(
            channels in prop::collection::btree_set(0_u32..300, 0..40),
        ) {
            let set: ChannelSet = channels.iter().copied().collect();
            let (mut at, mut walked) = (0, BTreeSet::new());
            while let Some(channel) = set.next(at) {
                walked.insert(channel);
                at = channel + 1;
            }
            for channel in 0..400 {
                prop_assert_eq!(set.contains(channel), channels.contains(&channel));
            }
            prop_assert_eq!(walked, channels);
        }
    }
}
