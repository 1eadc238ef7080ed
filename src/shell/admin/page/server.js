// Asks the server that this page came from, with the admin token if one is needed.
//
// Not here: what is shown. The token is kept in sessionStorage: it goes with the tab.

const KEPT = "fanfare-admin-token";
const PATIENCE_MS = 5_000;
const DELAY_MS = 500;
const DELAY_MS_MAX = 15_000;

/** The server did not like the request. */
export class Refused extends Error {
  constructor(status, text) {
    super(text.trim() || `the server answered ${status}`);
    this.status = status;
  }
}

/** Whether a token is kept. */
export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

export const keepToken = (token) => sessionStorage.setItem(KEPT, token);

export const forgetToken = () => sessionStorage.removeItem(KEPT);

/** The answer to a request as JSON. */
export async function ask(path, { method = "GET", patienceMs = PATIENCE_MS } = {}) {
  const token = sessionStorage.getItem(KEPT);
  const answer = await fetch(path, {
    method,
    headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(patienceMs),
  });
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
  return answer.json();
}

/** How long to wait before the next try, after so many that failed: longer each time, and not all
    pages of a restarted server at once. */
export function delay(failures, random = Math.random) {
  const longest = Math.min(DELAY_MS_MAX, DELAY_MS * 2 ** failures);
  return longest / 2 + (random() * longest) / 2;
}
