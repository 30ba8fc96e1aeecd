// What happened: the last events as a list, and the weighty ones said aloud.

import { make, say, time } from "./words.js";

const list = document.getElementById("events");
const said = document.getElementById("said");
const LIMIT = 60;
const SAID_EVERY_MS = 1500;
const WEIGHTY = new Set(["task_ended", "failure", "alarm", "wake_refused", "restart_left", "answer_wrong", "foreign", "reload_failed"]);
const QUIET = new Set(["state", "rule"]);
const BAD = new Set(["failure", "alarm", "wake_refused", "restart_left", "answer_wrong", "foreign", "reload_failed", "not_recordable"]);

let waiting = [];
let timer = 0;

/** Put the event on top. Those of before the page came are shown, not said. */
export function addEvent(event, isNew) {
  if (QUIET.has(event.kind)) return;
  const ms = Date.parse(event.time);
  const named = !event.model || event.text.split(/[\s:,]+/).includes(event.model);
  const text = named ? event.text : `${event.model}: ${event.text}`;
  list.prepend(make("li", { class: BAD.has(event.kind) ? "bad" : null }, make("time", { datetime: event.time }, time(ms)), make("span", {}, text)));
  while (list.childElementCount > LIMIT) list.lastElementChild.remove();
  if (isNew && WEIGHTY.has(event.kind)) speak(text);
}

/** A screen reader hears a few at a time, and how many more there were. */
function speak(text) {
  waiting.push(text);
  timer ||= setTimeout(() => {
    const [first, second, ...more] = waiting;
    say(said, [first, second, more.length ? `and ${more.length} more` : ""].filter(Boolean).join(". "));
    waiting = [];
    timer = 0;
  }, SAID_EVERY_MS);
}

export function addGap() {
  list.prepend(make("li", { class: "faint" }, "events were lost, or the daemon began anew"));
}
