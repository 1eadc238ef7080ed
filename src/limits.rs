//! Every bound of the product, in one place, with its unit and its reason.
//!
//! What people see has its bounds in a file beside this one. Not here: settings that an operator
//! changes; those are in [`crate::config`], which takes its defaults and its allowed ranges from
//! here. Invariant: no other file names a bound.

mod compression;
mod forms;
mod operators;
mod pairs;
mod passes;
mod people;
mod streams;

pub use compression::*;
pub use forms::*;
pub use operators::*;
pub use pairs::*;
pub use passes::*;
pub use people::*;
pub use streams::*;

/// Bytes of one producer line, newline included. A 1000 × 1000 level REST book is 64 KiB; 1 MiB
/// leaves room for sixteen times that.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Bytes of text and index that a replay with `sort=true` holds. A day of a busy instrument is
/// 300 MiB; what is larger is better sorted once than at each start.
pub const SORT_BYTES_MAX: usize = 1 << 30;

/// Bytes of a channel name. NATS subjects of exchanges stay below 100; 255 fits a length byte.
pub const CHANNEL_BYTES_MAX: usize = 255;

/// Dot-separated tokens of a channel name or pattern; bounds the work of one match.
pub const CHANNEL_TOKENS_MAX: usize = 16;

/// Bytes of a key. Keys are symbols or price levels.
pub const KEY_BYTES_MAX: usize = 255;

/// Channels that one server knows. All spot and derivative symbols of the largest venue times ten
/// streams stay below it; the tables cost about 100 bytes for each.
pub const CHANNELS_MAX: usize = 65_536;

/// Distinct (channel, key) pairs that one server knows.
pub const KEYS_MAX: usize = 1 << 20;

/// Events in one batch: a flush should begin before the ingest thread has filled a second batch.
pub const BATCH_EVENTS_MAX: usize = 1_024;

/// Bytes of producers' data in one batch, unless a single event is larger.
pub const BATCH_BYTES_MAX: usize = 256 << 10;

/// Batches that wait in one shard's ring (default). With full batches that is 16 MiB of data
/// or 65,536 events, about ten seconds of the busiest recorded feed.
pub const RING_BATCHES: usize = 64;

/// Smallest frame log of a shard, bytes: it must hold some of the largest frames.
pub const LOG_BYTES_MIN: usize = 8 << 20;

/// Frame log of a shard, bytes (default).
pub const LOG_BYTES: usize = 64 << 20;

/// Largest frame log of a shard, bytes.
pub const LOG_BYTES_MAX: usize = 16 << 30;

/// Bytes of log for each index entry: the envelope of the smallest event is about this long, so the
/// byte ring is always the one that runs out first on real feeds.
pub const LOG_BYTES_PER_ENTRY: usize = 128;

/// Bytes of control frames (acknowledgements, pongs, receipts) that a connection may be owed when
/// it asks for more. A client that asks without reading passes it and is closed; the rest of a data
/// frame in flight does not count, because that is the server's own doing.
pub const OWED_BYTES_MAX: usize = 256 << 10;

/// Connections of one shard (default).
pub const CONNECTIONS_MAX: usize = 100_000;

/// Bytes of one message from a client. A subscribe command for 1,000 channels is about 20 KiB.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Patterns in one connection's subscription set.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;

/// Bytes of a text `req_id`. A UUID has 36.
pub const REQ_ID_BYTES_MAX: usize = 64;

/// Bytes of a client's own text (a method, a field's name) that an error message repeats.
pub const ECHO_BYTES_MAX: usize = 64;

/// Combinations of policy, limits and sampling in one connection's set: a lagging connection keeps
/// a place in the log for each.
pub const CLASSES_MAX: usize = 16;

/// Operator's rules for channels; each new channel of a client's set is looked up in them.
pub const RULES_MAX: usize = 64;

/// Milliseconds: smallest and largest `max_age_ms`. Below it, the flush itself would pass the
/// limit.
pub const AGE_LIMIT_MS_MIN: u32 = 10;
/// Milliseconds: see [`AGE_LIMIT_MS_MIN`]. An hour; the log seldom holds more.
pub const AGE_LIMIT_MS_MAX: u32 = 3_600_000;

/// Bytes: smallest `max_lag_bytes`. Below it, one flush of a busy feed would pass the limit.
pub const LAG_BYTES_LIMIT_MIN: u64 = 1_024;

/// Bytes of frames that a shard keeps beside its log (default): the newest of each key, and of each
/// order book the snapshot and the deltas since.
pub const RETAINED_BYTES: usize = 64 << 20;

/// Smallest such store that may be asked for, bytes: room for the newest of some thousand keys.
pub const RETAINED_BYTES_MIN: usize = 1 << 20;

/// Bytes of one order book (snapshot and deltas) that are kept beside the log. Past it, the book is
/// lost to whoever lags that far.
pub const RETAINED_BOOK_BYTES_MAX: usize = 8 << 20;

/// Stages that a connection may wait for: a snapshot or replay for each request of a client that
/// asks for its set in parts while it lags, and the change of the set itself.
pub const RECOVERIES_MAX: usize = 64;

/// Replays among them, each of which keeps the set that it was asked for: a request for each of
/// [`CLASSES_MAX`] terms.
pub const REPLAYS_MAX: usize = 16;

/// Entries of a channel's state that are hashed for the price of one message: about a quarter of a
/// millisecond.
pub const VERIFY_ENTRIES: usize = 512;

/// Bytes of a journal's segments (default): some times the frame log of a shard, so that whatever
/// a log holds is there again after a restart.
pub const JOURNAL_BYTES: usize = 256 << 20;

/// Smallest size of a journal's segments that may be asked for, bytes: four segments of some full
/// batches each.
pub const JOURNAL_BYTES_MIN: usize = 1 << 20;

/// Largest size of a journal's segments that may be asked for, bytes: all of it is read at a start.
pub const JOURNAL_BYTES_MAX: usize = 1 << 40;

/// Bytes of one segment, for which room is reserved at once; a quarter of the journal if that is
/// less. A merge reads one, and a full disk is noticed that much ahead.
pub const JOURNAL_SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes of a record's body: the largest batch with every channel and key new in it. What says to
/// be longer is damaged.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 4 << 20;

/// Numbers in one record of a checkpoint's tables: half a MiB.
pub const JOURNAL_TABLE_ENTRIES: usize = 65_536;

/// Bytes that are read from or written to a checkpoint at once.
pub const JOURNAL_READ_BYTES: usize = 256 << 10;

/// Milliseconds between two times that a journal is made durable (default): what a power loss
/// costs.
pub const JOURNAL_SYNC_MS: u64 = 1_000;

/// Milliseconds between two looks whether segments are to be merged.
pub const JOURNAL_LOOK_MS: u64 = 1_000;

/// Milliseconds before a journal that could not be written is tried again, and complained of.
pub const JOURNAL_RETRY_MS: u64 = 60_000;

/// Milliseconds between two looks whether every shard has taken in what a journal holds, and
/// whether a shard may accept.
pub const RESTORE_LOOK_MS: u64 = 5;

/// Messages from one client in a second (default), once [`COMMAND_BURST`] is used up.
pub const COMMAND_RATE: u32 = 20;

/// Messages from one client at once (default): a start with some subscriptions, and pings.
pub const COMMAND_BURST: u32 = 100;

/// Messages from one client, in a second or at once, that may be asked for: more than one
/// connection can bring, which is no limit at all.
pub const COMMAND_RATE_MAX: u32 = 1_000_000;

/// Smallest burst of messages: a request for [`SUBSCRIPTIONS_MAX`] channels counts as eleven.
pub const COMMAND_BURST_MIN: u32 = 12;

/// Channels of one request that count as one more message.
pub const COMMAND_CHANNELS: usize = 100;

/// Unsent events that are looked for in the log one by one before a place that the log has left
/// behind is taken to have lost some.
pub const LOSSY_EVENTS_MAX: u64 = 1_024;

/// Entries that a sampled class collects before it looks for superseded ones.
pub const SAMPLES_START: usize = 64;

/// Looks of the sweep at a client, about a second each, that find it behind before it is moved to a
/// slower tier.
pub const TIER_LOOKS_BEHIND: i8 = 3;

/// Looks of the sweep at a client that find it caught up before it is moved to a faster tier.
pub const TIER_LOOKS_CAUGHT_UP: i8 = 10;

/// Concrete channel names in a loss receipt; when more lost something the receipt names the
/// subscribed patterns instead.
pub const RECEIPT_CHANNELS_MAX: usize = 128;

/// Bytes of control frames that a connection may be owed when it is told of another value that was
/// lost: there can be as many of them as keys. Below [`OWED_BYTES_MAX`], because they are not the
/// client's doing.
pub const RECEIPTS_BYTES_MAX: usize = 32 << 10;

/// Bytes of an upgrade request's head. Precedents: nginx 8 KiB a header, node.js 16 KiB in all.
pub const UPGRADE_BYTES_MAX: usize = 8 << 10;

/// Header lines of an upgrade request. Browsers behind two proxies send about 30.
pub const UPGRADE_HEADERS_MAX: usize = 64;

/// Seconds that a client refused at capacity is told to wait at least, and at most: time for a
/// rolling restart elsewhere, short enough that a person does not give up. Each is told another
/// time between, so that they do not come back together.
pub const RETRY_AFTER_SECONDS_MIN: u32 = 2;
/// Seconds: see [`RETRY_AFTER_SECONDS_MIN`].
pub const RETRY_AFTER_SECONDS_MAX: u32 = 10;

/// Milliseconds from accept to a complete upgrade request (default).
pub const UPGRADE_MS: u64 = 10_000;

/// Handshakes of one shard that may be under way (default). Each costs a descriptor, and some KiB
/// until it is done or [`UPGRADE_MS`] have passed.
pub const HANDSHAKES_MAX: usize = 4_096;

/// Handshakes of one shard that may be asked for.
pub const HANDSHAKES_SETTING_MAX: usize = 65_536;

/// Milliseconds of connections that a shard may take ahead of its rate: two ticks, because the
/// timers of its executor are no more exact than that.
pub const ACCEPT_AHEAD_MS: u64 = 20;

/// Nanoseconds that steps of handshakes may take between two turns of the fan-out that are due, at
/// least: some requests, or one signature of a certificate.
pub const LANE_NS_MIN: u64 = 100_000;

/// Nanoseconds: see [`LANE_NS_MIN`], at most. A batch waits that long in the worst case.
pub const LANE_NS_MAX: u64 = 1_000_000;

/// The part of a turn's time that handshakes get between it and the next one: a quarter.
pub const LANE_TURN_PARTS: u64 = 4;

/// Steps of handshakes that are woken after a turn; each that ends wakes another one.
pub const LANE_WAKES: usize = 8;

/// Listeners that are looked after with one system call.
pub const DOORMAN_EVENTS: usize = 64;

/// Addresses whose new connections are counted. Each takes about 50 bytes for a minute; limits of
/// single addresses do not stop who has more.
pub const ADDRESSES_MAX: usize = 1 << 20;

/// Milliseconds between two looks for addresses that count no longer.
pub const ADDRESSES_MS: u64 = 10_000;

/// Refused connections of one shard that are waited for at once while half of its descriptors are
/// free, so that they can ask and read the answer; more are cut. Enough for the clients of a
/// restart that has gone wrong.
pub const REFUSALS_MAX: usize = 1_024;

/// The same of all shards together where descriptors are scarce, each of which has one at least;
/// they are among [`DESCRIPTORS_SPARE`].
pub const REFUSALS_SPARE: usize = 64;

/// Answers over TLS in a minute to connections of one address that are over its limits: enough for
/// a person who looks for the reason. Each takes a whole handshake, which the limit is to save.
pub const TLS_REFUSALS_MINUTE: u32 = 10;

/// Milliseconds that a client has to show a credential by command (default).
pub const AUTH_MS: u64 = 5_000;

/// Bytes of plaintext in one TLS record at most (RFC 8446, section 5.1).
pub const TLS_RECORD_BYTES_MAX: usize = 16 << 10;

/// Bytes that a TLS record is longer than its plaintext at most: header, explicit nonce (TLS 1.2),
/// tag and content type come to 29 at most.
pub const TLS_RECORD_OVERHEAD_BYTES: usize = 32;

/// Bytes of plaintext that one send seals for one connection at most: four full records. What is
/// sealed cannot be skipped any more when its client turns out to be slow.
pub const TLS_SEND_BYTES_MAX: usize = 64 << 10;

/// Bytes of records that one core seals between two submissions to the kernel: some full sends,
/// still in the cache when the kernel copies them.
pub const TLS_SCRATCH_BYTES: usize = 256 << 10;

/// Bytes of a record or handshake message that are kept until the rest comes: the largest handshake
/// message that is taken, a chain of client certificates.
pub const TLS_PARTIAL_BYTES_MAX: usize = 64 << 10;

/// Bytes of a token or key. Tokens of large identity providers stay below 4 KiB, and half of an
/// upgrade's head is left for the rest.
pub const CREDENTIAL_BYTES_MAX: usize = 6 << 10;

/// Bytes of the access file and of each file that it names: some ten thousand static keys.
pub const ACCESS_FILE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a static key's id and of a DNS name in the access file (RFC 1035, section 2.3.4).
pub const ACCESS_NAME_BYTES_MAX: usize = 255;

/// Bytes of a token's subject (OpenID Connect Core 1.0, section 2).
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Bytes of a secret that signs tokens, at least (RFC 7518, section 3.2).
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;

/// Bytes of an RSA modulus, at least: 2048 bits (RFC 7518, section 3.3).
pub const RSA_BYTES_MIN: usize = 256;

/// Milliseconds by which the clocks of a token's issuer and of this host may differ (default).
pub const TOKEN_LEEWAY_MS: u64 = 30_000;

/// Milliseconds of such a difference that may be asked for.
pub const TOKEN_LEEWAY_MS_MAX: u64 = 300_000;

/// Milliseconds before a credential ends at which its client is warned: time to fetch a new one.
pub const EXPIRY_WARNING_MS: u64 = 60_000;

/// Milliseconds without a byte from a client after which it is pinged (default). NATs and proxies
/// forget a quiet connection after 30 s at the earliest that is common (60 s for most).
pub const PING_MS: u64 = 20_000;

/// Milliseconds that a client has to answer a ping (default): several round trips of the longest
/// path with lost packets.
pub const PONG_MS: u64 = 10_000;

/// Milliseconds that a connection may be without a subscription (default).
pub const IDLE_MS: u64 = 60_000;

/// Parts in a hundred of the ping interval over which the pings of all clients are spread.
pub const PING_JITTER_PERCENT: u64 = 25;

/// Milliseconds over which the closes of a drain are spread (default).
pub const DRAIN_MS: u64 = 30_000;

/// Milliseconds of the longest drain.
pub const DRAIN_MS_MAX: u64 = 3_600_000;

/// Addresses that a drain may name to go to.
pub const DRAIN_TO_MAX: usize = 16;

/// Milliseconds of quiet after which a client gets a heartbeat (default).
pub const HEARTBEAT_MS: u64 = 5_000;

/// Milliseconds that a close handshake may take before the socket is dropped.
pub const CLOSE_MS: u64 = 2_000;

/// Milliseconds that an orderly stop may take (default).
pub const STOP_MS: u64 = 5_000;

/// Bytes that a reader takes from a socket at once, into one buffer per core.
pub const READ_BYTES: usize = 64 << 10;

/// The same from a client that lags: a change of its subscriptions counts the log from its cursor
/// to the head, some milliseconds with the default log, and this many bytes hold about 30.
pub const READ_BYTES_LAGGING: usize = 2 << 10;

/// Changes of clients' sockets that are looked up with one system call, and clients that are served
/// between two looks: few enough that one that has just become ready does not wait for long.
pub const POLL_EVENTS: usize = 64;

/// Producers connected at once; each has a read buffer of [`READ_BYTES`].
pub const PRODUCERS_MAX: u64 = 1_024;

/// Connections to one source that hold their TLS handshake or have a credential still to show. Each
/// has a read buffer and may want a signature, on the thread that the feed comes through; more than
/// the producers of most servers, should all of these come back at once.
pub const STRANGERS_MAX: usize = 64;

/// Milliseconds between two looks whether a producer that sends nothing may still be here.
pub const PRODUCER_LOOK_MS: u64 = 1_000;

/// Seconds of silence after which a peer that only sends is asked whether it is still there, those
/// between two questions, and how many go unanswered before its connection is over: half a minute
/// in all, so that a producer that comes back finds its place free.
pub const KEEPALIVE_S: (u64, u64, u32) = (15, 5, 3);

/// Bytes of error replies that are collected before they are written to a producer.
pub const REPLY_BYTES: usize = 16 << 10;

/// Milliseconds that a producer has to read its error replies before it is taken for deaf.
pub const REPLY_MS: u64 = 1_000;

/// Milliseconds before accepting is tried again after the kernel refused.
pub const RETRY_MS: u64 = 50;

/// Bytes of a line on the control socket: the names of all listeners of a hundred cores fit.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Descriptors in one message on the control socket; the kernel takes 253 (`SCM_MAX_FD`).
pub const CONTROL_DESCRIPTORS_MAX: usize = 128;

/// Milliseconds that a peer at the control socket may take to read or write a line.
pub const CONTROL_MS: u64 = 2_000;

/// Milliseconds between two looks at what else the thread of the control socket has to do.
pub const CONTROL_PERIOD_MS: u64 = 50;

/// Milliseconds that a server may take to answer at its control socket: a reload reads files, and
/// others may have asked before.
pub const CONTROL_ANSWER_MS: u64 = 60_000;

/// Milliseconds between two looks whether certificates or access rules have changed.
pub const FILES_MS: u64 = 2_000;

/// Milliseconds between two additions of a shard's latencies to the shared histogram at least: a
/// live view that looks twice a second finds some at each look.
pub const LAG_MERGE_MS: u64 = 200;

/// Pending connections that the kernel keeps for one listener; it caps the value at
/// `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4_096;

/// File descriptors that the process needs beside its connections: 128 for files, rings, listeners,
/// the control socket and admin requests, and [`REFUSALS_SPARE`].
pub const DESCRIPTORS_SPARE: u64 = 192;

/// Bytes of locked memory that one glommio executor asks for.
pub const LOCKED_BYTES_PER_EXECUTOR: u64 = 512 << 10;

/// Smallest ring of a shard, batches: one being written while one is read.
pub const RING_BATCHES_MIN: usize = 2;

/// Largest ring of a shard, batches. Full batches of that many are 16 GiB, the largest log.
pub const RING_BATCHES_MAX: usize = 65_536;

/// Connections of one shard that may be asked for: the kernel's default `fs.nr_open`.
pub const CONNECTIONS_SETTING_MAX: usize = 1 << 20;

/// Open connections of each shard of the demo: within the descriptors that most hosts allow.
pub const DEMO_CONNECTIONS_MAX: usize = 1_000;

/// Channels that may be asked for; the tables of that many are about 2 GiB on each core.
pub const CHANNELS_SETTING_MAX: usize = 1 << 24;

/// (channel, key) pairs that may be asked for, for the same reason.
pub const KEYS_SETTING_MAX: usize = 1 << 24;

/// Smallest bound of a producer line, bytes: the smallest event is about 30.
pub const LINE_BYTES_MIN: usize = 64;

/// Smallest bound of a client's message, bytes: one subscribe command fits.
pub const MESSAGE_BYTES_MIN: usize = 512;

/// Largest bound of a client's message, bytes: what one connection may make a core buffer.
pub const MESSAGE_BYTES_SETTING_MAX: usize = 1 << 20;

/// Patterns in one connection's set that may be asked for.
pub const SUBSCRIPTIONS_SETTING_MAX: usize = 65_536;

/// Kernel send buffer of each connection, bytes (default; Linux doubles it for its own
/// bookkeeping): what one send gathers fits, and a connection that stopped reading costs no more.
pub const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Smallest kernel send buffer, bytes: `SOCK_MIN_SNDBUF` of Linux.
pub const SEND_BUFFER_BYTES_MIN: usize = 4_608;

/// Largest kernel send buffer, bytes; the kernel caps it at `net.core.wmem_max` as well.
pub const SEND_BUFFER_BYTES_MAX: usize = 64 << 20;

/// Bytes in a connection's send buffer that were not put on the wire yet, above which it takes no
/// more (default, `TCP_NOTSENT_LOWAT`). What a client is to skip must not be in the kernel already;
/// some milliseconds of a fast link keep it busy until the next send.
pub const UNSENT_BYTES: usize = 64 << 10;

/// Smallest such bound that may be asked for, bytes: a page, about three segments.
pub const UNSENT_BYTES_MIN: usize = 4 << 10;

/// Milliseconds that a peer may leave what was sent to it unacknowledged, or take nothing at all,
/// before the kernel ends its connection (default, `TCP_USER_TIMEOUT`). A client that reads slowly
/// acknowledges; one that is silent for a minute is gone or stopped.
pub const PEER_TIMEOUT_MS: u64 = 60_000;

/// Milliseconds: smallest such time that may be asked for. Below it, two lost packets end a
/// connection.
pub const PEER_TIMEOUT_MS_MIN: u64 = 1_000;

/// Milliseconds: a timeout or heartbeat that may be asked for. Below a tenth of a second, clients
/// across an ocean fail; above five minutes, middleboxes have forgotten the connection.
pub const TIMEOUT_MS_MIN: u64 = 100;
/// Milliseconds: see [`TIMEOUT_MS_MIN`].
pub const TIMEOUT_MS_MAX: u64 = 300_000;

/// Sources of one server; each network source has a listener and a task on the ingest thread.
pub const SOURCES_MAX: usize = 64;

/// Bytes of a node's name: a host name's label (RFC 1035) fits.
pub const NODE_BYTES_MAX: usize = 64;

/// Bytes of one message that our own client takes: the largest event with its envelope, with room
/// for servers of larger bounds.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Milliseconds that our own client waits for a connection and for the answer to its upgrade.
pub const CLIENT_CONNECT_MS: u64 = 5_000;

/// Milliseconds: the bound of our own client's first wait before it connects again. It doubles with
/// each attempt; the wait is any time below it, so that many clients do not come back together.
pub const RECONNECT_MS: u64 = 250;

/// Milliseconds: what that bound doubles up to. A server that comes back is found within half a
/// minute.
pub const RECONNECT_MS_MAX: u64 = 30_000;

/// Milliseconds that a connection must have lasted for the waits to begin anew: longer than a
/// server that fails as soon as it is used.
pub const RECONNECT_GOOD_MS: u64 = 10_000;

/// Milliseconds that our own client waits at most because an HTTP answer asks for it.
pub const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// Milliseconds without a byte after which our own client takes the server for gone, before the
/// welcome has said how often heartbeats come.
pub const SILENCE_MS: u64 = 15_000;

/// Heartbeats that may be missing before our own client takes the server for gone; one can be lost
/// with a route, two seldom are.
pub const SILENCE_HEARTBEATS: u64 = 3;

/// Milliseconds between two looks for a new token in its file, once the one shown is to expire.
pub const TOKEN_LOOK_MS: u64 = 1_000;

/// Milliseconds before `verify` asks again for a channel that has moved on meanwhile.
pub const VERIFY_MS: u64 = 1_000;

/// Bytes of lines in one gzip member of a recording at most: a member is complete by itself, and
/// smaller ones pack worse.
pub const RECORD_MEMBER_BYTES: usize = 1 << 20;

/// Milliseconds that a line waits for its member to be written at most: what a recording lacks that
/// was cut off.
pub const RECORD_MEMBER_MS: u64 = 1_000;

/// Milliseconds that `publish` waits at the end for replies to its last lines.
pub const REPLIES_MS: u64 = 10_000;

/// Bytes of frames that a shard appends to its log at one go, and bytes of the log from the oldest
/// frame on that somebody in sync was not sent, give or take one batch: more is not appended before
/// that is sent. Bounds how long the next clients of a pass wait for what is taken in before them.
pub const TURN_BYTES_MAX: usize = 1 << 20;

/// Milliseconds in which the sweep looks at every connection once (heartbeats, deadlines); what it
/// finds is late by that much at most.
pub const SWEEP_MS: u64 = 1_000;

/// Milliseconds between two ticks, each of which is a step of the sweep, so that what it sends is
/// spread over its round; also the longest that an executor sleeps.
pub const SWEEP_STEP_MS: u64 = 10;

/// Milliseconds that tasks of one core run before the executor looks at its events again: the delay
/// of readers and accepts beside a long flush. Shorter slices are lost whole when the thread loses
/// its core (`docs/adr/0006-a-tick-from-outside-the-executors.md`).
pub const PREEMPT_MS: u64 = 10;

/// The same before the first task has run, milliseconds: a thread that is not scheduled for a slice
/// at its start would park with its first task ready.
pub const PREEMPT_START_MS: u64 = 60_000;

/// Bytes of a frame beside its event's data: the channel, the key with every byte escaped, and the
/// fixed names and numbers, which are below 256.
const ENVELOPE_BYTES_MAX: usize = CHANNEL_BYTES_MAX + 6 * KEY_BYTES_MAX + 256;

const _: () = assert!(
    // The last batch may begin one byte below the bound, end with the longest line, and leave as
    // much unused at the end of the ring.
    TURN_BYTES_MAX
        + BATCH_EVENTS_MAX * ENVELOPE_BYTES_MAX
        + BATCH_BYTES_MAX
        + 2 * (LINE_BYTES_MAX + ENVELOPE_BYTES_MAX)
        <= LOG_BYTES_MIN,
    "what somebody in sync was not sent is still in the log"
);
const _: () = assert!(LOG_BYTES_MIN >= 2 * (LINE_BYTES_MAX + 1_024), "a log holds two frames");
const _: () = assert!(
    COMMAND_BURST_MIN as usize > 1 + SUBSCRIPTIONS_MAX / COMMAND_CHANNELS,
    "the largest request is allowed at once"
);
const _: () = assert!(GATHER_SLICES_MAX <= 1_024, "UIO_MAXIOV");
const _: () = assert!(RING_BATCHES.is_power_of_two());
const _: () = assert!(
    TLS_SCRATCH_BYTES >= 2 * TLS_SEND_BYTES_MAX + TLS_PARTIAL_BYTES_MAX,
    "one send fits, behind what an earlier one left"
);
const _: () = assert!(
    // An event has 45 bytes beside its data, a new channel or key 6 and its name.
    BATCH_EVENTS_MAX * (45 + 6 + CHANNEL_BYTES_MAX + 6 + KEY_BYTES_MAX)
        + BATCH_BYTES_MAX
        + LINE_BYTES_MAX
        + 16
        <= JOURNAL_RECORD_BYTES_MAX,
    "every batch is a record"
);
const _: () = assert!(8 * JOURNAL_TABLE_ENTRIES + 16 <= JOURNAL_RECORD_BYTES_MAX);
const _: () = assert!(CHANNEL_BYTES_MAX <= 255 && KEY_BYTES_MAX <= 255, "lengths of one byte");
const _: () = assert!(DESCRIPTORS_SPARE == 128 + REFUSALS_SPARE as u64, "each has its part");
