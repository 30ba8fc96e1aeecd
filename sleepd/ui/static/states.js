// What a model may be in: how it is named, drawn and ordered. Heights tell states apart where colours do not.

const TABLE = {
  "awake": { label: "awake", shade: "awake", height: 1 },
  "draining": { label: "draining", shade: "moving", height: 0.8 },
  "falling_asleep": { label: "falling asleep", shade: "moving", height: 0.8 },
  "waking": { label: "waking", shade: "moving", height: 0.8 },
  "starting": { label: "starting", shade: "moving", height: 0.8 },
  "stopping": { label: "stopping", shade: "moving", height: 0.8 },
  "asleep 1": { label: "asleep 1", shade: "asleep1", height: 0.5 },
  "asleep 2": { label: "asleep 2", shade: "asleep2", height: 0.3 },
  "stopped": { label: "stopped", shade: "stopped", height: 0.14 },
  "failed": { label: "failed", shade: "failed", height: 1, hatched: true },
  "lost": { label: "lost", shade: "failed", height: 1, hatched: true },
  "unknown": { label: "unknown", shade: "unknown", height: 0.4, hatched: true },
};
export const NOTHING = { label: "not on record", shade: "nothing", height: 0 };
const ORDER = Object.keys(TABLE);

/** The word for a model's state, its level included: "asleep 1". */
export function wordOf(model) {
  const word = model.state === "asleep" ? `asleep ${model.level ?? 1}` : model.state;
  return word in TABLE ? word : "unknown";
}

export function styleOf(word) {
  return word === "" ? NOTHING : TABLE[word] ?? TABLE.unknown;
}

export const rank = (word) => ORDER.indexOf(word);

export const LEGEND = ["awake", "waking", "asleep 1", "asleep 2", "stopped", "failed", "unknown"].map((word) => ({
  ...TABLE[word],
  label: word === "waking" ? "on its way" : TABLE[word].label,
}));
