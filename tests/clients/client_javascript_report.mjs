// What the JavaScript client says, as lines; the page and the program of the tests share it.
//
// `connected EPOCH`, `subscribed SEQ`, each event as it came, `live SEQ`, `gap FROM TO CAUSE`,
// `verified MATCHES CHANNEL`, `closed CODE`.

export async function report({ connect }, { url, channels, verify, terms, ready, ...options }, say) {
  const feed = connect(url, {
    ...options,
    onGap: ({ from, to, cause }) => say(`gap ${from} ${to} ${cause}`),
    onState: ({ state, epoch, seq, how, why }) => {
      if (state === "connected") say(`connected ${epoch}`);
      else if (state === "live") say(`live ${how} ${seq}`);
      else say(why ? `${state} ${why.reason}` : state);
    },
  });
  feed.subscribe(channels, terms).then(
    ([{ seq }]) => say(`subscribed ${seq}`),
    ({ code }) => say(`refused ${code}`),
  );
  await ready;
  try {
    for await (const { text, seq, channel } of feed) {
      say(text);
      if (seq === verify) {
        feed.verify(channel).then(({ matches }) => say(`verified ${matches} ${channel}`));
      }
    }
  } catch ({ closeCode }) {
    say(`closed ${closeCode}`);
  }
}
