// What somebody may have done to a model, by role and by what it is in; and doing it.

import { ask, ofModel } from "./api.js";
import { addProblem } from "./problems.js";
import { wordOf } from "./states.js";
import { make } from "./words.js";

const ROLES = ["viewer", "caller", "operator", "admin"];
const dialog = document.getElementById("confirm");

let role = "viewer";
let changed = () => {};

/** `tell` is called when something was asked for. */
export function allow(asRole, tell) {
  role = asRole;
  changed = tell;
}

const may = (wanted) => ROLES.indexOf(role) >= ROLES.indexOf(wanted);

const WAKE = { verb: "wake", label: "Wake", body: { wait: false } };
const SLEEP = { verb: "sleep", label: "Sleep", body: { level: 1, wait: false } };
const DEEPER = { verb: "sleep", label: "Sleep at level 2", body: { level: 2, wait: false, via_wake: true } };
const START = { verb: "start", label: "Start", body: { wait: false } };
const RESET = { verb: "reset", label: "Reset", body: {}, confirm: (name) => `Take ${name} back and look at it anew?` };
const PIN = { verb: "pin", label: "Pin", body: {} };
const UNPIN = { verb: "unpin", label: "Unpin", body: {} };
const STOP = {
  verb: "stop",
  label: "Stop",
  body: { wait: false },
  role: "admin",
  confirm: (name) => `Stop the unit of ${name}? Only a person starts it again.`,
};

/** The acts that make sense for the model and that the session may ask for; the first is the most likely. */
export function actsOf(model) {
  const word = wordOf(model);
  const found = [];
  if (word === "awake") found.push(SLEEP, DEEPER);
  else if (word.startsWith("asleep")) found.push(WAKE, ...(word === "asleep 1" ? [DEEPER] : []));
  else if (word === "stopped" && model.unit) found.push(START);
  else if (word === "failed" || word === "lost") found.push(RESET);
  found.push(model.pinned ? UNPIN : PIN);
  if (model.unit && word !== "stopped") found.push(STOP);
  return found.filter((act) => may(act.role ?? "operator"));
}

/** The one act that stands in a model's row, or null. */
export function firstActOf(model) {
  const act = actsOf(model)[0];
  return act && act !== PIN && act !== UNPIN && act !== STOP ? act : null;
}

/** Have it done; a refusal is told in the daemon's words. */
export async function perform(act, name) {
  if (act.confirm && !(await sure(act.confirm(name), act.label))) return;
  try {
    await ask("POST", ofModel(name, act.verb), act.body);
  } catch (problem) {
    addProblem(problem, `${act.label} ${name}`);
  }
  changed();
}

function sure(question, label) {
  const yes = make("button", { type: "submit", value: "yes", class: "danger" }, label);
  const no = make("button", { type: "submit", value: "no", autofocus: true }, "Cancel");
  dialog.replaceChildren(make("form", { method: "dialog" },
    make("h2", { id: "confirm-question" }, question), make("p", { class: "choices" }, no, yes)));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "yes");
  });
}
