//! What may be beside a source that gives events their numbers.
//!
//! Not here: the URL ([`super::super::nats`]). Invariant: as for all of [`super`].

use super::Resolver;
use crate::config::raw::Origin;
use crate::config::values::Wrong;
use crate::config::{Source, SourceAddress};

impl Resolver<'_> {
    /// A stream's numbers are the only ones, so other sources publish to it, or there are none; and
    /// it is the journal as well.
    pub(super) fn beside_stream(&mut self, sources: &[Source]) {
        let streams: Vec<_> = sources
            .iter()
            .filter_map(|source| match &source.address {
                SourceAddress::Nats(stream) => Some((stream, source)),
                _ => None,
            })
            .collect();
        let Some((stream, source)) = streams.first() else { return };
        let has_journal = self.raw.values.contains_key("journal");
        let mut wrong = |key, what: String, allowed: &str| {
            let given = self.raw.values.get(key).map(|given| given.origin.clone());
            let origin = given.unwrap_or_else(|| {
                let urls = self.raw.sources.iter().map(|source| &source.url);
                let url = urls.into_iter().find(|url| url.text.starts_with("nats://"));
                url.map_or(Origin::Default, |url| url.origin.clone())
            });
            self.problem(origin, key, Wrong::new(what, allowed));
        };
        if streams.len() > 1 {
            let what = format!("{} streams, each with numbers of its own", streams.len());
            let allowed = "one; a stream that takes from several is made with: nats stream add \
                           --source";
            wrong("source", what, allowed);
        } else if sources.len() > 1 && stream.forward.is_none() {
            let what = "other sources beside a stream, whose numbers are the only ones";
            let allowed = "the stream alone; or `forward` in its URL, which publishes to it what \
                           the others bring: nats://…/STREAM?forward=acked";
            wrong("source", what.into(), allowed);
        }
        if !source.map.is_empty() {
            let allowed = "none; a stream's subjects and headers say what mapping rules would";
            wrong("source", "mapping rules for a stream".into(), allowed);
        }
        if has_journal {
            let what = "a journal beside a stream, which is one already";
            wrong("journal", what.into(), "none, or no nats:// source");
        }
    }
}
