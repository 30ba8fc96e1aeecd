// Puts the page together: who is logged in, what the daemon says, where it is shown.

import { allow } from "./acts.js";
import { ask } from "./api.js";
import { Detail } from "./detail.js";
import { readShades } from "./draw.js";
import { addEvent, addGap } from "./events.js";
import { showFacts } from "./facts.js";
import { clock, Live } from "./live.js";
import { findSession } from "./login.js";
import { addProblem } from "./problems.js";
import { LEGEND } from "./states.js";
import { Table } from "./table.js";
import { onTheme } from "./theme.js";
import { SPANS, Timeline } from "./timeline.js";
import { make, say, time } from "./words.js";

const app = document.getElementById("app");
const link = document.getElementById("link");
const lost = document.getElementById("lost");
const who = document.getElementById("who");
const out = document.getElementById("log-out");

const timeline = new Timeline();
let status = null;
let takenAt = 0;
let began = Infinity;

const detail = new Detail(timeline, (name) => table.focus(name));
const table = new Table(timeline, (name) => detail.open(status.models.find((model) => model.name === name)));

const live = new Live({
  onStatus(found) {
    if (status && status.version !== found.version) return location.reload();  // this page is of the daemon before
    status = found;
    takenAt = clock.now();
    say(document.getElementById("version"), found.version);
    if (began === Infinity) began = takenAt;
    timeline.follow(found);
    showFacts(found, timeline);
    table.take(found);
    detail.take(found);
    refresh();
  },
  onEvent(event) {
    timeline.hear(event);
    addEvent(event, Date.parse(event.time) > began);
  },
  onGap() {
    addGap();
    refresh(true);
  },
  onLink({ up, sinceMs, why }) {
    link.className = `link ${up ? "up" : "down"}`;
    app.classList.toggle("stale", !up);
    say(link, up ? "live" : "connection lost");
    lost.hidden = up;
    if (!up) say(lost, `No word from the daemon since ${time(sinceMs)}: ${why}. What is shown is of then; trying again.`);
  },
  onOut: (problem) => enter(problem),
});

async function refresh(force) {
  if (await timeline.refresh(force)) {
    if (status) {
      timeline.follow(status);
      showFacts(status, timeline);
    }
    table.draw();
    document.getElementById("app").classList.toggle("no-history", Boolean(timeline.problem));
    if (timeline.problem && timeline.problem.status !== 0) addProblem(timeline.problem, "Timeline");
  }
}

async function enter(why) {
  app.hidden = who.hidden = out.hidden = true;
  const session = await findSession(why);
  say(who, `${session.who} · ${session.role}`);
  app.hidden = who.hidden = out.hidden = false;
  allow(session.role, () => live.soon());
  live.start();
}

function makeSpans() {
  const box = document.getElementById("spans");
  for (const [key, span] of Object.entries(SPANS)) {
    const input = make("input", { type: "radio", name: "span", value: key, checked: span === timeline.span });
    input.onchange = () => {
      timeline.span = span;
      table.draw();
      refresh(true);
    };
    box.append(make("label", {}, input, make("span", {}, span.label)));
  }
}

function makeLegend() {
  const rows = LEGEND.map(({ label, shade, height }) => {
    const sample = make("span", { class: `sample ${shade}`, "aria-hidden": "true" });
    sample.style.height = `${Math.max(2, Math.round(14 * height))}px`;
    return make("li", {}, make("span", { class: "box" }, sample), label);
  });
  document.getElementById("legend").replaceChildren(...rows);
}

out.onclick = async () => {
  live.stop();
  try {
    await ask("DELETE", "/session");
  } catch (problem) {
    addProblem(problem, "Log out");
  }
  location.reload();
};

makeSpans();
makeLegend();
readShades();
onTheme(() => {
  readShades();
  table.draw();
});
addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());
setInterval(() => {
  if (status && !document.hidden && !app.classList.contains("stale")) table.tick((clock.now() - takenAt) / 1000);
}, 1000);
enter();
