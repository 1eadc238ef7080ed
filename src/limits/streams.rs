//! Bounds of what is read from and written to NATS.
//!
//! As for all of [`super`].

/// NATS servers that one URL names; each of them tells the names of the others.
pub const STREAM_SERVERS_MAX: usize = 16;

/// Messages that a start reads whole at most, so that a slip of the finger is noticed.
pub const STREAM_WINDOW_MAX: u64 = 100_000_000;

/// Time that a start waits for a NATS server, milliseconds: a cluster that starts at the same time
/// elects its leaders within it.
pub const STREAM_START_MS: u64 = 10_000;

/// Between two attempts meanwhile, milliseconds.
pub const STREAM_START_PAUSE_MS: u64 = 250;

/// Time that a NATS server has to answer one request, milliseconds.
pub const STREAM_REQUEST_MS: u64 = 5_000;

/// Time that a stream has to acknowledge an event before it is sent again, milliseconds: a new
/// leader is found in about that, and does not know of what the former one was sent.
pub const STREAM_ACK_MS: u64 = 2_000;

/// Longest pull of a consumer, milliseconds. Half of it is the heartbeat, and after two without one
/// the consumer is made again: so long a dead server stays unnoticed.
pub const STREAM_PULL_MS: u64 = 2_000;

/// Between two looks at a stream's state, milliseconds; operators see it lag by this.
pub const STREAM_LOOK_MS: u64 = 2_000;

/// Looks in a row that must find less in a stream than was read from it before it counts: a leader
/// that was just elected is still taking in what it has.
pub const STREAM_LOOKS_SHORT: u32 = 3;

/// Looks of a start in a row between which nothing has come, before it asks whether anything still
/// will: mostly it waits for a consumer or a leader.
pub const STREAM_LOOKS_SILENT: u32 = 2;

/// Pause before something that a NATS server refused is tried again, milliseconds.
pub const STREAM_RETRY_MS: u64 = 200;

/// Chunks of messages between the NATS thread and the ingest thread.
pub const STREAM_CHUNKS: usize = 8;

/// Subjects of one request for last messages; the server's own bound on its answers is 1,024.
pub const STREAM_SUBJECTS: usize = 256;

/// Messages that one request for a range brings.
pub const STREAM_RANGE: usize = 512;

/// Requests of a start that are under way at a time.
pub const STREAM_REQUESTS: usize = 32;

/// Subjects of a channel up to which a start asks for the `prev` of its old values.
pub const STREAM_LINKS_MAX: usize = 16;

/// Updates of one book that a start reads back to the book's last snapshot; a book of more begins
/// with its next snapshot.
pub const STREAM_BOOK_MAX: usize = 65_536;

/// Events that wait for their turn to be published, or for their acknowledgement; then whoever
/// offers more waits.
pub const STREAM_PENDING_MAX: usize = 4_096;

/// Parcels of events between the threads that offer them and the NATS thread.
pub const STREAM_PARCELS: usize = 8;

/// Bytes that headers and subject of a message may take of what a server allows for all of it.
pub const STREAM_HEAD_BYTES: usize = 2_048;

/// Time within which a stream takes a message again that it has, milliseconds: longer than a NATS
/// cluster needs to find a new leader.
pub const STREAM_DUPLICATES_MS: u64 = 120_000;

/// Time that a server that stops waits for what is still to be published, milliseconds.
pub const STREAM_END_MS: u64 = 10_000;

/// Bytes of all entries of a bucket: as many as an access file may have.
pub const BUCKET_BYTES_MAX: usize = 16 << 20;

/// Messages of one passage that is read back: one answer of the stream, which the live feed waits
/// for a millisecond at most. Passages end at multiples of it, so that clients with near places
/// share them.
pub const PASSAGE_EVENTS: u64 = 512;

/// Bytes of messages of one passage, unless a single one is larger.
pub const PASSAGE_BYTES: usize = 1 << 20;

/// Passages that a shard waits for at a time; the stream is read for one of them at a time.
pub const PASSAGES_ASKED: usize = 16;

/// Passages that the thread that reads them keeps for other shards, which ask a moment later.
pub const PASSAGES_KEPT: usize = 16;

/// Places at which passages were read on from, each with the last `seq` of every channel in them:
/// so many groups of clients are read for without looking up what came before.
pub const PASSAGE_CHAINS: usize = 4;

/// Time after the last question for a passage at which all of that is let go of, milliseconds.
pub const PASSAGES_IDLE_MS: u64 = 10_000;

/// Passages that a shard holds as frames: each is that of one group of clients.
pub const SHELVES: usize = 64;

/// Bytes of them in all forms, unless a single one is larger.
pub const SHELVES_BYTES: usize = 32 << 20;

/// Clients of a shard that are sent what is read back. With each at a place of its own, a round of
/// passages still ends before they take the server for dead.
pub const READERS_MAX: usize = 1_024;

/// Between two pings of a NATS server, milliseconds; after three without an answer another server
/// is tried.
pub const STREAM_PING_MS: u64 = 2_000;
