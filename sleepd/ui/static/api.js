// The daemon's own API, as a session sees it.

const BASE = "/sleepd/v1";

/** A refusal in the daemon's own words (RFC 9457), or that no answer came. `status` 0: none came. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail);
    this.status = status;
    this.title = body.title ?? "";
    this.wanted = body.wanted;
    this.found = body.found;
    this.hint = body.hint;
  }
}

const LIMIT_MS = 15000;

/** Return the body of an answer. Throws Problem. */
export async function ask(method, path, body, signal) {
  const limit = AbortSignal.timeout(LIMIT_MS);
  const options = { method, cache: "no-store", credentials: "same-origin" };
  options.signal = signal ? AbortSignal.any([limit, signal]) : limit;
  if (method !== "GET") {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body ?? {});
  }
  let answer;
  let text;
  try {
    answer = await fetch(BASE + path, options);
    text = await answer.text();
  } catch (error) {
    throw new Problem(0, { title: "no answer", detail: "the daemon cannot be reached", found: String(error.message ?? error) });
  }
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    found = { title: "no answer of the daemon", detail: `something else answered, with status ${answer.status}` };
    throw new Problem(answer.status >= 500 ? 0 : answer.status, found);
  }
  if (!answer.ok) throw new Problem(answer.status, found);
  return found;
}

export const ofModel = (name, verb) => `/models/${encodeURIComponent(name)}/${verb}`;

/** Open the stream of events; `since`: the id of the last one seen, else the newest ones on record come first. */
export function openEvents(since) {
  return new EventSource(`${BASE}/events?${since ? `since=${encodeURIComponent(since)}` : "last=40"}`);
}
