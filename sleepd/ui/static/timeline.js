// What models were in and what GPUs held, over the last hour, day or week; and what has changed since it was asked for.

import { ask } from "./api.js";
import { clock } from "./live.js";
import { wordOf } from "./states.js";

export const SPANS = {
  hour: { label: "Hour", seconds: 3600, stepS: 5, everyMs: 30000 },
  day: { label: "Day", seconds: 86400, stepS: 180, everyMs: 180000 },
  week: { label: "Week", seconds: 604800, stepS: 1800, everyMs: 300000 },
};

/** Runs by model and points by GPU; each holds until the next one begins. */
export class Timeline {
  span = SPANS.hour;
  problem = null;
  /** What sleeping gave back: GiB times hours, and since when; null before that was told. */
  saved = null;
  #runs = new Map();
  #points = new Map();
  #causes = new Map();
  #asked = null;
  #askedAt = -Infinity;

  /** Ask for the span, where what is here is another one or too old. Returns whether something came. */
  async refresh(force = false) {
    const now = performance.now();
    if (!force && now - this.#askedAt < this.span.everyMs) return false;
    this.#askedAt = now;
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    const { seconds, stepS } = this.span;
    const until = clock.now();
    const from = new URLSearchParams({ from: new Date(until - seconds * 1000).toISOString() });
    try {
      const [found, report] = await Promise.all([
        ask("GET", `/history/timeline?${from}&step_s=${stepS}`, undefined, asked.signal),
        ask("GET", `/history/report?${from}`, undefined, asked.signal),
      ]);
      if (this.#asked !== asked) return false;
      this.#take(found);
      this.saved = { gibHours: report.total.given_back_gib_h, sinceMs: Date.parse(report.since) };
      this.problem = null;
    } catch (problem) {
      if (this.#asked !== asked) return false;
      this.problem = problem;
    }
    return true;
  }

  #take(found) {
    const since = Date.parse(found.since);
    this.#runs = new Map(found.models.map(({ model, runs }) => [
      model,
      runs.map(([second, state, cause]) => ({ at: since + second * 1000, word: found.states[state], cause: found.causes[cause] })),
    ]));
    this.#points = new Map(found.gpus.map(({ gpu, points }) => [gpu, points.map(([second, bytes]) => ({ at: since + second * 1000, bytes }))]));
  }

  /** An event says why the next change of its model comes. */
  hear(event) {
    if (event.model && event.cause) this.#causes.set(event.model, `${event.cause.kind} ${event.cause.who}`.trim());
  }

  /** What has changed since the span was asked for is drawn as it is seen. */
  follow(status) {
    const now = clock.now();
    for (const model of status.models) {
      const runs = this.#runs.get(model.name) ?? [];
      if (!runs.length) this.#runs.set(model.name, runs);
      const word = wordOf(model);
      const last = runs.at(-1);
      if (!last || last.word !== word) {
        const since = model.since ? Date.parse(model.since) : now;
        runs.push({ at: last ? Math.max(last.at, since) : since, word, cause: this.#causes.get(model.name) ?? "" });
      }
    }
    for (const gpu of status.gpus) {
      const points = this.#points.get(gpu.uuid) ?? [];
      if (!points.length) this.#points.set(gpu.uuid, points);
      const bytes = gpu.total_bytes - gpu.free_bytes;
      if (points.at(-1)?.bytes !== bytes) points.push({ at: now, bytes });
    }
  }

  runsOf(model) {
    return this.#runs.get(model) ?? [];
  }

  pointsOf(gpu) {
    return this.#points.get(gpu) ?? [];
  }

  /** The run that holds at a moment, with its end; null before the first. */
  runAt(model, ms) {
    const runs = this.runsOf(model);
    const index = lastBefore(runs, ms);
    if (index < 0) return null;
    return { ...runs[index], until: runs[index + 1]?.at ?? null };
  }

  bytesAt(gpu, ms) {
    const points = this.pointsOf(gpu);
    return points[lastBefore(points, ms)]?.bytes ?? null;
  }
}

/** The index of the last entry that begins at `ms` or before; -1 where none does. */
function lastBefore(entries, ms) {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle].at <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
