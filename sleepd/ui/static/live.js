// What the daemon says now: events as they come, everything else soon after, and what time it is there.

import { ask, openEvents } from "./api.js";

const POLL_MS = 2000;
const SOON_MS = 120;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const HIDDEN_MS = 30000;

/** The daemon's clock: a demo's runs faster than ours, and nobody's is exactly ours. */
class Clock {
  #ours = performance.now();
  #theirs = Date.now();
  #rate = 1;
  #set = false;

  take(theirs) {
    const ours = performance.now();
    if (this.#set && ours - this.#ours > 500) {
      const rate = (theirs - this.#theirs) / (ours - this.#ours);
      this.#rate = rate > 1.5 && rate < 100 ? rate : 1;
    }
    if (!this.#set || ours - this.#ours > 500) [this.#ours, this.#theirs, this.#set] = [ours, theirs, true];
  }

  now() {
    return this.#theirs + (performance.now() - this.#ours) * this.#rate;
  }
}

export const clock = new Clock();

/**
 * Follows the daemon between `start` and `stop`. Tells `onStatus(status)`, `onEvent(event)`, `onGap()`,
 * `onLink({up, sinceMs, why})` and `onOut(problem)`, when the session is over.
 */
export class Live {
  #source = null;
  #timer = 0;
  #lastId = "";
  #running = false;
  #asking = false;
  #again = false;
  #failures = 0;
  #lostAt = 0;
  #hidden = 0;

  constructor(tell) {
    this.tell = tell;
    document.addEventListener("visibilitychange", () => this.#look());
  }

  start() {
    this.#running = true;
    this.#failures = 0;
    this.#poll();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#close();
  }

  /** Ask for everything soon: something has happened. */
  soon() {
    if (this.#asking) this.#again = true;
    else this.#wait(SOON_MS);
  }

  #look() {
    clearTimeout(this.#hidden);
    if (!this.#running) return;
    if (document.hidden) {
      this.#hidden = setTimeout(() => {
        clearTimeout(this.#timer);
        this.#close();
      }, HIDDEN_MS);
    } else if (!this.#source) this.#wait(0);
  }

  #wait(ms) {
    clearTimeout(this.#timer);
    if (this.#running) this.#timer = setTimeout(() => this.#poll(), ms);
  }

  async #poll() {
    this.#asking = true;
    const began = performance.now();
    try {
      const status = await ask("GET", "/status");
      if (!this.#running) return;
      clock.take(Date.parse(status.now));
      this.#failures = 0;
      this.#lostAt = 0;
      this.tell.onLink({ up: true });
      this.tell.onStatus(status);
      if (!this.#source) this.#open();
      this.#wait(this.#again ? SOON_MS : Math.max(POLL_MS, 5 * (performance.now() - began)));
    } catch (problem) {
      if (this.#running) this.#fail(problem);
    } finally {
      this.#asking = false;
      this.#again = false;
    }
  }

  #fail(problem) {
    this.#close();
    if (problem.status === 401) {
      this.stop();
      this.tell.onOut(problem);
      return;
    }
    const retryMs = RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)];
    this.#lostAt ||= Date.now();
    this.tell.onLink({ up: false, sinceMs: this.#lostAt, why: problem.message });
    this.#wait(retryMs);
  }

  #open() {
    const source = openEvents(this.#lastId);
    this.#source = source;
    source.onmessage = (message) => {
      this.#lastId = message.lastEventId;
      this.tell.onEvent(JSON.parse(message.data));
      this.soon();
    };
    source.addEventListener("gap", () => this.tell.onGap());
    let came = false;
    source.onopen = () => {
      came = true;
    };
    source.onerror = () => {
      if (this.#source !== source) return;
      this.#close();
      if (came) this.soon();  // else it is refused: the next status asks for it again, in its own time
    };
  }

  #close() {
    this.#source?.close();
    this.#source = null;
  }
}
