//! The state of a feed as of one place in its stream: the last message of each subject, and what it
//! needs to be understood.
//!
//! A book is its last snapshot with the updates since. `prev` of a value is found as well, because
//! a node that was there has it. Not here: what comes after that place ([`super::reader`]).
//! Invariant: nothing behind the place is in it.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::header::HeaderValue;
use async_nats::jetstream::stream::{InfoError, Stream};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::chunk::Chunk;
use super::connection::Connection;
use super::error::NatsError;
use super::kept::Kept;
use super::subject::Address;
use crate::config::NatsSource;
use crate::limits::{
    PASSAGE_BYTES, PASSAGE_EVENTS, STREAM_BOOK_MAX, STREAM_LINKS_MAX, STREAM_RANGE,
    STREAM_REQUEST_MS, STREAM_REQUESTS, STREAM_SUBJECTS,
};

/// What is asked for, as people may read it.
const LAST: &str = "its last messages";
/// The header of an answer's end that says how many messages are behind it.
const PENDING: &str = "Nats-Num-Pending";

/// Reads state from a stream.
#[derive(Debug)]
pub(super) struct Past<'a> {
    connection: &'a Connection,
    pub(super) stream: &'a Stream,
    source: &'a NatsSource,
    /// Subjects at most.
    subjects_max: usize,
    /// Held for writing by who looks for messages that cannot be read: each that it hits costs all
    /// requests their connection.
    search: RwLock<()>,
}

/// Where an answer of direct get ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There are no more messages.
    Whole,
    /// There are more behind it.
    Part,
    /// The next message was not there.
    Missing,
    /// The connection was lost, maybe by the next message: one whose header cannot be read.
    Lost,
}

impl<'a> Past<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        stream: &'a Stream,
        source: &'a NatsSource,
        subjects_max: usize,
    ) -> Self {
        Self { connection, stream, source, subjects_max, search: RwLock::new(()) }
    }

    /// The state as of `seq`, as chunks.
    ///
    /// # Errors
    /// A request that was not answered.
    pub(super) async fn read(&self, seq: u64) -> Result<Vec<Chunk>, NatsError> {
        let subjects = self.subjects().await?;
        let lists: Vec<_> = subjects.chunks(STREAM_SUBJECTS).collect();
        let last: Vec<_> = stream::iter(lists)
            .map(|list| self.last(list, seq))
            .buffer_unordered(STREAM_REQUESTS)
            .try_collect()
            .await?;
        let last: Vec<_> = last.into_iter().flatten().collect();
        let (mut kept, broken) = self.with_books(last, seq).await?;
        self.link(&mut kept, &subjects).await?;
        kept.sort_unstable_by_key(|message| message.seq);
        Ok(chunks(&kept, broken, &self.source.prefix))
    }

    /// All subjects that the stream has messages of.
    pub(super) async fn subjects(&self) -> Result<Vec<String>, NatsError> {
        let failed = |error: InfoError| self.refused("its subjects", error.to_string());
        let mut found = Vec::new();
        let pages = self.stream.info_with_subjects(self.source.subjects()).await;
        let mut pages = pages.map_err(failed)?;
        while let Some((subject, _)) = pages.try_next().await.map_err(failed)? {
            found.push(subject);
            if found.len() > self.subjects_max {
                let (stream, found) = (self.source.stream.clone(), found.len());
                return Err(NatsError::TooManySubjects { stream, found });
            }
        }
        Ok(found)
    }

    /// The last message up to `seq` of each of `subjects`, of those that can be read.
    pub(super) async fn last(&self, subjects: &[String], seq: u64) -> Result<Vec<Kept>, NatsError> {
        let others = self.search.read().await;
        if let Some(found) = self.last_at_once(subjects, seq).await? {
            return Ok(found);
        }
        drop(others);
        let _alone = self.search.write().await;
        let (mut found, mut lists) = (Vec::new(), vec![subjects]);
        while let Some(list) = lists.pop() {
            match (self.last_at_once(list, seq).await?, list) {
                (Some(messages), _) => found.extend(messages),
                (None, [subject]) => found.extend(self.last_readable(subject, seq).await?),
                (None, _) => {
                    let (left, right) = list.split_at(list.len() / 2);
                    lists.extend([left, right]);
                }
            }
        }
        Ok(found)
    }

    /// The last message up to `seq` of each of `subjects`; none if the connection was lost.
    async fn last_at_once(
        &self,
        subjects: &[String],
        seq: u64,
    ) -> Result<Option<Vec<Kept>>, NatsError> {
        let mut found: Vec<Kept> = Vec::new();
        loop {
            let after = found.last().map_or(0, |last| last.seq + 1);
            let list = subjects.iter().map(|subject| json(subject)).collect::<Vec<_>>().join(",");
            let request = format!(
                "{{\"multi_last\":[{list}],\"up_to_seq\":{seq},\"batch\":{STREAM_SUBJECTS}{}}}",
                if after > 0 { format!(",\"seq\":{after}") } else { String::new() }
            );
            let before = found.len();
            match self.ask(request, &mut found).await? {
                End::Whole => return Ok(Some(found)),
                End::Lost if found.len() == before => return Ok(None),
                End::Part if found.len() == before => return Ok(Some(found)),
                End::Part | End::Lost => {}
                // What is the last of its subject now may be before those that came.
                End::Missing => {
                    return Err(self.refused(LAST, "one was removed meanwhile".to_owned()));
                }
            }
            found.sort_unstable_by_key(|message| message.seq);
        }
    }

    /// The last message of a subject up to `seq` that can be read, found by halves.
    async fn last_readable(&self, subject: &str, seq: u64) -> Result<Option<Kept>, NatsError> {
        let mut up_to = seq;
        loop {
            let (mut from, mut to, mut last) = (1, up_to, None);
            while from <= to {
                let middle = from + (to - from) / 2;
                match self.find(subject, middle).await?.filter(|message| message.seq <= to) {
                    Some(message) => {
                        from = message.seq + 1;
                        last = Some(message);
                    }
                    None => to = middle - 1,
                }
            }
            match last {
                Some(message) if !message.is_readable() => up_to = message.seq - 1,
                last => return Ok(last),
            }
        }
    }

    /// The first message of a subject from `seq` on, whatever its header is.
    async fn find(&self, subject: &str, seq: u64) -> Result<Option<Kept>, NatsError> {
        Kept::find(self.connection, &self.source.stream, subject, seq).await
    }

    /// Without updates that a snapshot replaces, and with all updates of each book; and the
    /// subjects of books that have too many.
    async fn with_books(
        &self,
        last: Vec<Kept>,
        seq: u64,
    ) -> Result<(Vec<Kept>, Vec<String>), NatsError> {
        let mut snapshots = HashMap::new();
        for message in &last {
            if let Some(updates) = message.subject.strip_suffix(".@snapshot") {
                snapshots.insert(updates.to_owned(), message.seq);
            }
        }
        let (mut kept, mut broken) = (Vec::new(), Vec::new());
        for message in last {
            match snapshots.get(&message.subject) {
                Some(&snapshot) if message.seq < snapshot => {}
                Some(&snapshot) => {
                    match self.range(&message.subject, snapshot + 1, seq).await? {
                        Some(updates) => kept.extend(updates),
                        // The channel's `prev` goes on from it.
                        None => {
                            broken.push(message.subject.clone());
                            kept.push(message);
                        }
                    }
                }
                None => kept.push(message),
            }
        }
        kept.retain(|message| {
            (message.subject.strip_suffix(".@snapshot"))
                .is_none_or(|updates| !broken.iter().any(|subject| subject == updates))
        });
        Ok((kept, broken))
    }

    /// The messages of a subject from one `seq` to another that can be read; none when they are too
    /// many.
    async fn range(
        &self,
        subject: &str,
        from: u64,
        to: u64,
    ) -> Result<Option<Vec<Kept>>, NatsError> {
        let mut found: Vec<Kept> = Vec::new();
        let mut after = from;
        loop {
            let before = found.len();
            let bounds = format!("\"batch\":{STREAM_RANGE}");
            let is_whole = self.next(subject, after, &bounds, &mut found).await?;
            let is_past = found.last().is_some_and(|last| last.seq >= to);
            found.retain(|message| message.seq <= to);
            if is_whole || is_past || found.len() == before {
                found.retain(Kept::is_readable);
                return Ok(Some(found));
            }
            if found.len() > STREAM_BOOK_MAX {
                return Ok(None);
            }
            after = found.last().map_or(after, |last| last.seq + 1);
        }
    }

    /// Messages from `from` on, all subjects, as many as one answer brings and [`PASSAGE_EVENTS`]
    /// at most; among them those that cannot be read.
    pub(super) async fn passage(&self, from: u64) -> Result<Vec<Kept>, NatsError> {
        let bounds = format!("\"batch\":{PASSAGE_EVENTS},\"max_bytes\":{PASSAGE_BYTES}");
        let mut found = Vec::new();
        self.next(">", from, &bounds, &mut found).await?;
        Ok(found)
    }

    /// Asks for messages of a subject from `seq` on; true when there are no more behind those that
    /// came.
    async fn next(
        &self,
        subject: &str,
        seq: u64,
        bounds: &str,
        found: &mut Vec<Kept>,
    ) -> Result<bool, NatsError> {
        let before = found.len();
        let request = format!("{{\"seq\":{seq},\"next_by_subj\":{},{bounds}}}", json(subject));
        let end = self.ask(request, found).await?;
        if end == End::Lost && found.len() == before {
            found.extend(self.find(subject, seq).await?);
            return Ok(found.len() == before);
        }
        Ok(matches!(end, End::Whole | End::Missing))
    }

    /// Finds out what came before each message on its channel.
    async fn link(&self, kept: &mut [Kept], subjects: &[String]) -> Result<(), NatsError> {
        let prefix = &self.source.prefix;
        let channel = |subject: &str| {
            Address::parse(subject, prefix).ok().map(|address| address.channel.to_owned())
        };
        let of_channel = by_channel(subjects, prefix);
        let wanted = kept.iter().enumerate().filter_map(|(place, message)| {
            let all = of_channel.get(&channel(&message.subject)?)?;
            (all.len() <= STREAM_LINKS_MAX).then_some((place, message.seq, all))
        });
        let wanted: Vec<_> = wanted.collect();
        let found: Vec<_> = stream::iter(wanted)
            .map(async |(place, seq, all)| {
                let before = if seq > 1 { self.last(all, seq - 1).await? } else { Vec::new() };
                let prev = before.iter().map(|message| message.seq).max().unwrap_or_default();
                Ok::<_, NatsError>((place, prev))
            })
            .buffer_unordered(STREAM_REQUESTS)
            .try_collect()
            .await?;
        for (place, prev) in found {
            kept[place].prev = Some(prev);
        }
        Ok(())
    }

    /// Asks for messages.
    async fn ask(&self, request: String, found: &mut Vec<Kept>) -> Result<End, NatsError> {
        let client = &self.connection.client;
        let inbox = client.new_inbox();
        let failed = |error: String| self.refused(LAST, error);
        let mut anew = self.connection.anew.clone();
        anew.mark_unchanged();
        let mut answers =
            client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.source.stream);
        (client.publish_with_reply(subject, inbox, request.into()).await)
            .map_err(|error| failed(error.to_string()))?;
        let patience = Duration::from_millis(STREAM_REQUEST_MS);
        loop {
            let answer = tokio::select! {
                // What came before the connection was lost counts.
                biased;
                answer = timeout(patience, answers.next()) => answer,
                _ = anew.changed() => return Ok(End::Lost),
            };
            let answer = answer.map_err(|_| failed("no answer".into()))?;
            let answer = answer.ok_or_else(|| failed("the connection is closed".into()))?;
            let Some(status) = answer.status else {
                found.push(Kept::direct(answer).ok_or_else(|| failed("not understood".into()))?);
                continue;
            };
            let words = answer.description.as_deref().unwrap_or_default();
            let pending = answer.headers.as_ref().and_then(|headers| headers.get(PENDING));
            return end(status, words, pending.map(HeaderValue::as_str))
                .ok_or_else(|| failed(format!("{status} {words}")));
        }
    }

    fn refused(&self, what: &'static str, reason: String) -> NatsError {
        NatsError::Refused { stream: self.source.stream.clone(), what, reason }
    }
}

/// Subjects by their channels; those that are of none are left out.
pub(super) fn by_channel(subjects: &[String], prefix: &str) -> HashMap<String, Vec<String>> {
    let mut by_channel: HashMap<String, Vec<String>> = HashMap::new();
    for subject in subjects {
        if let Ok(address) = Address::parse(subject, prefix) {
            by_channel.entry(address.channel.to_owned()).or_default().push(subject.clone());
        }
    }
    by_channel
}

/// How an answer ends with this status; none where that says why there is no answer.
fn end(status: StatusCode, words: &str, pending: Option<&str>) -> Option<End> {
    match status.as_u16() {
        204 if pending.is_none_or(|pending| pending == "0") => Some(End::Whole),
        204 => Some(End::Part),
        404 if words == "No Results" => Some(End::Whole),
        404 => Some(End::Missing),
        _ => None,
    }
}

fn json(text: &str) -> String {
    let mut out = Vec::new();
    crate::protocol::json::write_string(&mut out, text);
    String::from_utf8(out).expect("it is made of text")
}

fn chunks(kept: &[Kept], broken: Vec<String>, prefix: &str) -> Vec<Chunk> {
    let books_broken = broken.iter().filter_map(|subject| {
        let address = Address::parse(subject, prefix).ok()?;
        Some((address.channel.into(), address.key.map(|key| Box::from(&*key))))
    });
    let mut all =
        vec![Chunk { is_sparse: true, books_broken: books_broken.collect(), ..Chunk::default() }];
    for message in kept {
        if all.last().is_none_or(Chunk::is_full) {
            all.push(Chunk { is_sparse: true, ..Chunk::default() });
        }
        message.add_to(all.last_mut().expect("one was just pushed"), prefix);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_only_where_the_server_says_so() {
        for (status, words, pending, expected) in [
            (204, "EOB", Some("0"), Some(End::Whole)),
            (204, "EOB", Some("7"), Some(End::Part)),
            (404, "No Results", None, Some(End::Whole)),
            // Also in the middle of an answer, when a message is removed before it was read.
            (404, "Message Not Found", None, Some(End::Missing)),
            (413, "Too Many Results", None, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(end(status, words, pending), expected, "{status} {words}");
        }
    }
}
