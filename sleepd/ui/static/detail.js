// One model in full: why it is as it is, what comes next, every rule, what it holds, and what it was in before.

import { actsOf, perform } from "./acts.js";
import { ask, ofModel } from "./api.js";
import { clock } from "./live.js";
import { showProblem } from "./problems.js";
import { styleOf, wordOf } from "./states.js";
import { because, duration, make, moment, size } from "./words.js";

const dialog = document.getElementById("detail");
const RUNS_LIMIT = 100;
const ANEW_MS = 2000;

export class Detail {
  #name = "";
  #model = null;
  #explanation = null;
  #holds = [];
  #problem = null;
  #timer = 0;
  #acts = "";

  constructor(timeline, onClose) {
    this.timeline = timeline;
    dialog.onclose = () => {
      clearTimeout(this.#timer);
      const name = this.#name;
      this.#name = "";
      onClose(name);
    };
    dialog.onclick = (event) => {
      if (event.target === dialog) dialog.close();
    };
  }

  open(model) {
    this.#name = model.name;
    this.#model = model;
    this.#explanation = this.#problem = null;
    this.#holds = [];
    this.#acts = "";
    this.parts = Object.fromEntries(["state", "acts", "why", "rules", "room", "past"].map((part) => [part, make("div", { class: part })]));
    const close = make("button", { type: "button", class: "quiet", "aria-label": "Close" }, "×");
    close.onclick = () => dialog.close();
    dialog.replaceChildren(
      make("header", {}, make("h2", { id: "detail-name" }, model.name), close),
      this.parts.state, this.parts.acts, this.parts.why,
      make("h3", {}, "Rules"), this.parts.rules,
      make("h3", {}, "Memory"), this.parts.room,
      make("h3", {}, `States of the last ${this.timeline.span.label.toLowerCase()}`),
      this.parts.past);
    this.#show();
    dialog.showModal();
    this.#explain();
  }

  /** Show what a new status says, where the model is still there. */
  take(status) {
    if (!this.#name) return;
    const model = status.models.find((each) => each.name === this.#name);
    if (!model) return dialog.close();
    this.#model = model;
    this.#show();
  }

  async #explain() {
    const name = this.#name;
    try {
      const [explanation, { holds }] = await Promise.all([ask("GET", ofModel(name, "explain")), ask("GET", "/holds")]);
      if (name !== this.#name) return;
      this.#explanation = explanation;
      this.#holds = holds.filter((hold) => hold.model === name);
      this.#problem = null;
    } catch (problem) {
      if (name !== this.#name) return;
      this.#problem = problem;
    }
    this.#show();
    this.#timer = setTimeout(() => this.#explain(), ANEW_MS);
  }

  #show() {
    const { state, why, rules, room, past } = this.parts;
    const model = this.#model;
    const style = styleOf(wordOf(model));
    state.replaceChildren(
      make("span", { class: `chip ${style.shade}` }, style.label),
      model.since ? make("span", { class: "faint" }, `for ${duration((clock.now() - Date.parse(model.since)) / 1000)}`) : null ?? "",
      make("p", {}, model.reason),
      model.failure ? make("p", { class: "failure" }, `${model.failure.code}: ${model.failure.detail}`) : "");
    this.#showActs();
    const explained = this.#explanation;
    why.replaceChildren(...this.#next(model), ...(explained ? this.#protections(explained) : []));
    rules.replaceChildren(this.#problem ? showProblem(this.#problem) : explained ? tellRules(explained) : make("p", { class: "faint" }, "asking…"));
    room.replaceChildren(tellRoom(model));
    past.replaceChildren(this.#tellPast());
  }

  /** Buttons are made anew only when there are others, so that the one in focus stays. */
  #showActs() {
    const acts = actsOf(this.#model);
    const key = acts.map((act) => act.label).join();
    if (key === this.#acts) return;
    this.#acts = key;
    this.parts.acts.replaceChildren(...acts.map((act) => {
      const button = make("button", { type: "button", class: act.role === "admin" ? "danger" : null }, act.label);
      button.onclick = () => perform(act, this.#name);
      return button;
    }));
  }

  #next(model) {
    const { next } = model;
    const told = next ? `${next.action} ${next.in_s > 0.5 ? `in ${duration(next.in_s)}` : "now"}, by rule ${next.rule}`
      : model.queued ? "its turn; nobody can say when" : "nothing, unless somebody asks";
    const eta = model.eta_s ? `; a wake would take about ${duration(model.eta_s)}` : "";
    return [make("p", {}, make("strong", {}, "Next: "), told + eta)];
  }

  #protections(explained) {
    const kept = [...explained.protections, ...this.#holds.map((hold) => `hold ${hold.id} of ${hold.who}${hold.reason ? `: ${hold.reason}` : ""}`)];
    return [
      make("p", {}, make("strong", {}, "Verdict: "), explained.verdict),
      kept.length ? make("p", {}, make("strong", {}, "Kept awake by: "), kept.join("; ")) : "",
    ];
  }

  #tellPast() {
    const to = clock.now();
    const from = to - this.timeline.span.seconds * 1000;
    const runs = this.timeline.runsOf(this.#name);
    const rows = [];
    for (let index = runs.length - 1; index >= 0 && rows.length < RUNS_LIMIT; index--) {
      const end = runs[index + 1]?.at ?? to;
      if (end <= from) break;
      if (runs[index].word === "") continue;
      rows.push([moment(Math.max(runs[index].at, from), this.timeline.span.seconds), styleOf(runs[index].word).label, duration((end - Math.max(runs[index].at, from)) / 1000), because(runs[index].cause)]);
    }
    if (this.timeline.problem) return showProblem(this.timeline.problem);
    return rows.length ? tellTable(["From", "State", "For", "Why"], rows) : make("p", { class: "faint" }, "nothing is on record");
  }
}

function tellTable(heads, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));
}

const MARKS = new Map([[true, ["✓", "holds"]], [false, ["✗", "does not hold"]], [null, ["?", "cannot be told"]]]);

function tellRules(explained) {
  if (!explained.rules.length) return make("p", { class: "faint" }, "no rule is about it");
  return make("ul", { class: "tree" }, ...explained.rules.map((rule) => make("li", {},
    make("p", {}, make("strong", {}, rule.rule), ` ${rule.action} · ${rule.holds ? "holds" : "does not hold"}`,
      !rule.holds && rule.due_in_s !== null ? `, due in ${duration(rule.due_in_s)}` : "",
      rule.holds && rule.missing ? ` · ${rule.missing}` : ""),
    make("ul", {}, ...rule.conditions.map((condition) => {
      const [mark, said] = MARKS.get(condition.holds);
      return make("li", {}, make("span", { class: `mark ${condition.holds}`, role: "img", "aria-label": said }, mark),
        ` ${condition.name}: wanted ${condition.wanted}, found ${condition.found}`,
        condition.in_s && !condition.holds ? ` (in ${duration(condition.in_s)})` : "");
    }))) ));
}

function tellRoom(model) {
  const rows = model.gpus.map((gpu) => [gpu.index === null ? gpu.uuid : `GPU ${gpu.index}`, size(gpu.awake_bytes), size(gpu.asleep_bytes), size(gpu.need_bytes)]);
  return make("div", {}, tellTable(["Where", "Awake", "Asleep", "A wake takes"], rows),
    make("p", { class: "faint" }, `Host RAM of a level 1 backup: ${size(model.host_ram_bytes)}`));
}
