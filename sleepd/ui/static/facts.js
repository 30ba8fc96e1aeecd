// The host at a glance.

import { held, whole } from "./table.js";
import { rank, styleOf, wordOf } from "./states.js";
import { make, moment, say, size } from "./words.js";

const list = document.getElementById("facts");
const parts = new Map();

function fact(key, name, value, about = "") {
  let part = parts.get(key);
  if (!part) {
    part = { name: make("dt"), value: make("dd"), about: make("dd", { class: "faint" }) };
    parts.set(key, part);
    list.append(make("div", {}, part.name, part.value, part.about));
  }
  say(part.name, name);
  say(part.value, value);
  say(part.about, about);
}

/** Bytes that sleepers would hold if they were awake, less what they hold. */
function givenBack(models) {
  return models.reduce((sum, model) => {
    const word = wordOf(model);
    const [all, now] = [whole(model), held(model)];
    return (word.startsWith("asleep") || word === "stopped") && all !== null && now !== null ? sum + Math.max(0, all - now) : sum;
  }, 0);
}

/** `timeline`: what sleeping gave back over its span, as far as that was told. */
export function showFacts(status, { saved, span }) {
  const counts = new Map();
  for (const model of status.models) counts.set(wordOf(model), (counts.get(wordOf(model)) ?? 0) + 1);
  const words = [...counts].sort(([one], [two]) => rank(one) - rank(two)).map(([word, many]) => `${many} ${styleOf(word).label}`);
  fact("models", "Models", String(status.models.length), words.join(", "));
  const total = status.gpus.reduce((sum, gpu) => sum + gpu.total_bytes, 0);
  const free = status.gpus.reduce((sum, gpu) => sum + gpu.free_bytes, 0);
  fact("vram", status.gpus.length === 1 ? "GPU memory" : `Memory of ${status.gpus.length} GPUs`, `${size(free)} free`, `of ${size(total)}`);
  const over = saved ? `${saved.gibHours.toFixed(1)} GiB-hours since ${moment(saved.sinceMs, Math.max(span.seconds, 3601))}` : "against all awake";
  fact("back", "Given back by sleeping", `${size(givenBack(status.models))} now`, over);
  const { host } = status;
  const pressure = host.pressure_some_avg10 === null ? "" : `, pressure ${Math.round(100 * host.pressure_some_avg10)}%`;
  fact("host", "Host RAM", host.available_bytes === null ? "cannot be read" : `${size(host.available_bytes)} free`, `of ${size(host.total_bytes)}${pressure}`);
  fact("mode", "Rules", status.mode === "observe" ? "observed only" : "in force", status.notes.join("; "));
}
