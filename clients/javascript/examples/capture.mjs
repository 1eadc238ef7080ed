// Reads captures of Binance's depth: gzip files of lines `<ns> <raw JSON>`, one instrument a file.
// The other two depth examples use it.

import { createReadStream } from "node:fs";
import { basename, dirname } from "node:path";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";

/** The channel of a file's book: `usdm/btcusdt_20240808.gz` gives `book.usdm-btcusdt`. */
export function channelOf(file) {
  const [symbol] = basename(file).split(/[_.]/);
  return `book.${basename(dirname(file))}-${symbol}`.replace(/[^a-zA-Z0-9._-]/g, "_");
}

/** The REST snapshot (once) and the diffs of a file, in the order in which they were recorded. */
export async function* depthOf(file) {
  const stream = createReadStream(file);
  const input = file.endsWith(".gz") ? stream.pipe(createGunzip()) : stream;
  for await (const line of createInterface({ input, crlfDelay: Infinity })) {
    const raw = line.slice(line.indexOf(" ") + 1);
    if (raw.startsWith('{"lastUpdateId"')) yield { kind: "snapshot", raw, data: JSON.parse(raw) };
    if (!raw.includes('"depthUpdate"')) continue;
    // The envelope is {"stream":"…","data":{…}}.
    const diff = raw.slice(raw.indexOf('"data":') + 7, -1);
    yield { kind: "update", raw: diff, data: JSON.parse(diff) };
  }
}
