// The table: a row for each GPU and each model, touched only where something has changed, drawn only where it is seen.

import { firstActOf, perform } from "./acts.js";
import { drawAxis, drawBytes, drawRuns } from "./draw.js";
import { clock } from "./live.js";
import { rank, styleOf, wordOf } from "./states.js";
import { follow } from "./tip.js";
import { because, duration, make, say, size, sizeOf } from "./words.js";

const models = document.getElementById("models");
const gpus = document.getElementById("gpus");
const axis = document.getElementById("axis");
const none = document.getElementById("none");
const filter = document.getElementById("filter");

const SORTS = {
  name: (model) => model.name,
  state: (model) => rank(wordOf(model)),
  vram: (model) => -(held(model) ?? -1),
  idle: (model) => -(model.idle_s ?? -1),
  next: (model) => model.next?.in_s ?? Infinity,
};

/** Bytes that a model holds now over all its GPUs; null where nobody knows. */
export function held(model) {
  const word = wordOf(model);
  const key = word.startsWith("asleep") ? "asleep_bytes" : "awake_bytes";
  if (word === "stopped") return 0;
  if (word !== "awake" && word !== "draining" && key === "awake_bytes") return null;
  const known = model.gpus.map((gpu) => gpu[key]).filter((bytes) => bytes !== null);
  return known.length ? known.reduce((sum, bytes) => sum + bytes, 0) : null;
}

/** Bytes that it would hold awake. */
export function whole(model) {
  const known = model.gpus.map((gpu) => gpu.awake_bytes ?? gpu.need_bytes).filter((bytes) => bytes !== null);
  return known.length ? known.reduce((sum, bytes) => sum + bytes, 0) : null;
}

export class Table {
  #rows = new Map();
  #gpuRows = new Map();
  #seen = new Set();
  #order = "name";
  #turned = false;
  #shown = "";
  #status = null;
  #observer = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: "200px" });

  constructor(timeline, open) {
    this.timeline = timeline;
    this.open = open;
    filter.oninput = () => this.#arrange();
    for (const head of document.querySelectorAll("th[data-sort]")) head.querySelector("button").onclick = () => this.#sort(head);
    models.onclick = (event) => this.#click(event);
    models.onkeydown = (event) => this.#move(event);
    new ResizeObserver(() => this.draw()).observe(axis);
    follow(document.getElementById("table"), (canvas, share) => this.#tell(canvas, share));
  }

  take(status) {
    this.#status = status;
    for (const gpu of status.gpus) this.#takeGpu(gpu);
    for (const [uuid, row] of this.#gpuRows) if (!status.gpus.some((gpu) => gpu.uuid === uuid)) this.#drop(this.#gpuRows, uuid, row);
    const names = new Set(status.models.map((model) => model.name));
    for (const [name, row] of this.#rows) if (!names.has(name)) this.#drop(this.#rows, name, row);
    for (const model of status.models) this.#takeModel(model);
    this.#arrange();
    this.draw();
  }

  /** Draw what is seen anew. */
  draw() {
    const to = clock.now();
    const from = to - this.timeline.span.seconds * 1000;
    this.window = { from, to };
    drawAxis(axis, from, to);
    for (const row of this.#seen) this.#drawRow(row);
  }

  /** Count down what comes next, between two answers of the daemon. */
  tick(passedS) {
    for (const row of this.#seen) if (row.model) this.#sayTimes(row, passedS);
  }

  focus(name) {
    this.#rows.get(name)?.name.focus();
  }

  #drop(rows, key, row) {
    this.#observer.unobserve(row.line);
    this.#seen.delete(row);
    row.line.remove();
    rows.delete(key);
  }

  #look(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = target.row;
      if (isIntersecting && !this.#seen.has(row)) {
        this.#seen.add(row);
        this.#drawRow(row);
      } else if (!isIntersecting && this.#seen.delete(row)) row.canvas.width = row.canvas.height = 0;
    }
  }

  #drawRow(row) {
    if (!this.window) return;
    const { from, to } = this.window;
    if (row.gpu) drawBytes(row.canvas, this.timeline.pointsOf(row.gpu.uuid), row.gpu.total_bytes, from, to);
    else drawRuns(row.canvas, this.timeline.runsOf(row.model.name), from, to);
  }

  #takeGpu(gpu) {
    let row = this.#gpuRows.get(gpu.uuid);
    if (!row) {
      row = makeGpuRow(gpu);
      this.#gpuRows.set(gpu.uuid, row);
      gpus.append(row.line);
      this.#observer.observe(row.line);
    }
    row.gpu = gpu;
    const used = gpu.total_bytes - gpu.free_bytes;
    say(row.free, `${size(gpu.free_bytes)} free`);
    say(row.reserved, gpu.reserved_bytes ? `${size(gpu.reserved_bytes)} reserved` : "");
    say(row.vram.text, sizeOf(used, gpu.total_bytes));
    fill(row.vram, used / gpu.total_bytes);
    label(row.canvas, `Memory in use on GPU ${gpu.index} over time; now ${sizeOf(used, gpu.total_bytes)}`);
  }

  #takeModel(model) {
    let row = this.#rows.get(model.name);
    if (!row) {
      row = makeModelRow(model);
      this.#rows.set(model.name, row);
      this.#observer.observe(row.line);
    }
    row.model = model;
    const word = wordOf(model);
    const style = styleOf(word);
    if (row.word !== word) {
      row.word = word;
      row.chip.className = `chip ${style.shade}`;
      say(row.chip, style.label);
    }
    say(row.pin, model.pinned ? "pinned" : model.holds.length ? `${model.holds.length} hold${model.holds.length > 1 ? "s" : ""}` : "");
    const reason = model.failure ? `${model.reason} (${model.failure.detail})` : reasonOf(model);
    say(row.reason, reason);
    if (row.reason.title !== reason) row.reason.title = reason;
    const [holds, all] = [held(model), whole(model)];
    say(row.vram.text, holds === null && all === null ? "–" : holds === null ? `… of ${size(all)}` : sizeOf(holds, all));
    fill(row.vram, holds !== null && all ? holds / all : 0, style.shade);
    this.#sayTimes(row, 0);
    this.#offer(row, firstActOf(model));
    if (row.drawnLabel !== `${word}${this.timeline.span.label}`) {
      row.drawnLabel = `${word}${this.timeline.span.label}`;
      label(row.canvas, `States of ${model.name} over the last ${this.timeline.span.label.toLowerCase()}; now ${style.label}. Its details list them.`);
    }
  }

  #sayTimes(row, passedS) {
    const { model } = row;
    say(row.since, model.since ? `for ${duration((clock.now() - Date.parse(model.since)) / 1000)}` : "");
    const busy = (model.running ?? 0) + (model.waiting ?? 0) || model.in_flight;
    const told = busy ? `${busy} running` : model.idle_s === null ? "–" : duration(model.idle_s + (model.idle_s ? passedS : 0));
    say(row.idle, model.queued ? `${told}, ${model.queued} waiting` : told);
    const next = model.next;
    const left = next ? next.in_s - passedS : 0;
    const wakes = !next && !model.queued && model.state === "asleep" && model.eta_s !== null;
    say(row.next.what, next ? next.action : wakes ? "when asked" : model.queued ? "its turn" : "–");
    say(row.next.when, next ? `${left < 0.5 ? "now" : `in ${duration(left)}`} · ${next.rule}` : wakes ? `awake after ${duration(model.eta_s)}` : "");
  }

  #offer(row, act) {
    if (row.act === act) return;
    row.act = act;
    row.button.hidden = !act;
    if (act) {
      say(row.button, act.label);
      row.button.setAttribute("aria-label", `${act.label} ${row.model.name}`);
    }
  }

  #sort(head) {
    const order = head.dataset.sort;
    this.#turned = this.#order === order && !this.#turned;
    this.#order = order;
    for (const each of document.querySelectorAll("th[data-sort]")) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", this.#turned ? "descending" : "ascending");
    this.#arrange();
  }

  /** Rows in their order, those that fit the filter; nothing is moved where nothing has changed. */
  #arrange() {
    if (!this.#status) return;
    const words = filter.value.trim().toLowerCase();
    const key = SORTS[this.#order];
    const fits = ({ model, word }) => !words || model.name.includes(words) || styleOf(word).label.includes(words);
    const rows = [...this.#rows.values()].filter(fits).map((row) => ({ row, key: key(row.model) }));
    rows.sort((one, two) => (one.key < two.key ? -1 : one.key > two.key ? 1 : one.row.model.name < two.row.model.name ? -1 : 1));
    if (this.#turned) rows.reverse();
    const shown = rows.map(({ row }) => row.model.name).join(" ");
    if (shown !== this.#shown) {
      this.#shown = shown;
      const focused = document.activeElement;
      models.replaceChildren(...rows.map(({ row }) => row.line));
      if (focused !== document.activeElement && models.contains(focused)) focused.focus();
    }
    none.hidden = rows.length > 0;
    say(none, words ? `No model's name or state has “${filter.value.trim()}”.` : "No models are configured.");
  }

  #click(event) {
    const row = event.target.closest("tr")?.row;
    if (!row) return;
    if (event.target === row.button) perform(row.act, row.model.name);
    else if (event.target === row.name) this.open(row.model.name);
  }

  /** Arrow keys go from name to name, as in a list. */
  #move(event) {
    const row = event.target.closest("tr")?.row;
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!row || !way) return;
    const other = row.line[way]?.row;
    if (!other) return;
    event.preventDefault();
    (event.target === row.button && !other.button.hidden ? other.button : other.name).focus();
  }

  #tell(canvas, share) {
    const row = canvas.closest("tr")?.row;
    if (!row || !this.window) return null;
    const { from, to } = this.window;
    const ms = from + share * (to - from);
    if (row.gpu) {
      const bytes = this.timeline.bytesAt(row.gpu.uuid, ms);
      return { ms, title: `GPU ${row.gpu.index}`, lines: [bytes === null ? "not on record" : `${sizeOf(bytes, row.gpu.total_bytes)} in use`] };
    }
    const run = this.timeline.runAt(row.model.name, ms);
    const name = row.model.name;
    if (!run || run.word === "") return { ms, title: name, lines: ["not on record"] };
    const lasted = ((run.until ?? to) - run.at) / 1000;
    return {
      ms,
      title: `${name}: ${styleOf(run.word).label}`,
      lines: [`${run.until ? "for" : "so far"} ${duration(lasted)}${run.at <= from ? " or longer" : ""}`, because(run.cause)],
    };
  }
}

/** Why, without the state that stands beside it. */
function reasonOf(model) {
  const state = `${model.state.replaceAll("_", " ")}: `;
  return model.reason.startsWith(state) ? model.reason.slice(state.length) : model.reason;
}

function makeBar() {
  const text = make("span");
  const inner = make("span", { class: "inner" });
  return { text, inner, box: make("span", { class: "room" }, text, make("span", { class: "outer", "aria-hidden": "true" }, inner)) };
}

function fill(bar, share, shade = "area-edge") {
  const width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  if (bar.inner.style.width !== width) bar.inner.style.width = width;
  const wanted = `inner ${shade}`;
  if (bar.inner.className !== wanted) bar.inner.className = wanted;
}

function label(canvas, text) {
  if (canvas.getAttribute("aria-label") !== text) canvas.setAttribute("aria-label", text);
}

function makeCanvas() {
  return make("canvas", { role: "img", "aria-label": "" });
}

function makeGpuRow(gpu) {
  const row = { free: make("span"), reserved: make("span", { class: "faint" }), vram: makeBar(), canvas: makeCanvas() };
  row.line = make("tr", { class: "gpu" },
    make("th", { scope: "row", class: "c-name" }, `GPU ${gpu.index}`),
    make("td", { class: "c-state" }, row.free, row.reserved),
    make("td", { class: "c-time" }, row.canvas),
    make("td", { class: "c-vram" }, row.vram.box),
    make("td", { colspan: 3 }));
  row.line.row = row;
  return row;
}

function makeModelRow(model) {
  const row = {
    name: make("button", { type: "button", class: "name", "aria-haspopup": "dialog" }, model.name),
    pin: make("span", { class: "mark" }),
    reason: make("span", { class: "reason" }),
    chip: make("span", { class: "chip" }),
    since: make("span", { class: "faint" }),
    canvas: makeCanvas(),
    vram: makeBar(),
    idle: make("td", { class: "c-idle" }),
    next: { what: make("span"), when: make("span", { class: "faint" }) },
    button: make("button", { type: "button", hidden: true }),
    act: null,
    word: null,
  };
  row.line = make("tr", {},
    make("th", { scope: "row", class: "c-name" }, make("span", { class: "title" }, row.name, row.pin), row.reason),
    make("td", { class: "c-state" }, row.chip, row.since),
    make("td", { class: "c-time" }, row.canvas),
    make("td", { class: "c-vram" }, row.vram.box),
    row.idle,
    make("td", { class: "c-next" }, row.next.what, row.next.when),
    make("td", { class: "c-act" }, row.button));
  row.line.row = row;
  return row;
}
