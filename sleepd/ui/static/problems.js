// Refusals, in the words of the API: what was wanted, what was found, what to do.

import { make } from "./words.js";

const list = document.getElementById("problems");
const LIMIT = 5;

/** Return an element that tells a problem. */
export function showProblem(problem, about = "") {
  const facts = [["wanted", problem.wanted], ["found", problem.found], ["do", problem.hint]].filter(([, text]) => text);
  return make("div", { class: "problem" },
    make("strong", {}, about ? `${about}: ${problem.title || problem.message}` : problem.title || problem.message),
    problem.title ? make("p", {}, problem.message) : null,
    facts.length ? make("dl", {}, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])) : null);
}

/** Add it to the list at the edge of the page, until somebody puts it away. */
export function addProblem(problem, about) {
  const shown = showProblem(problem, about);
  const away = make("button", { type: "button", class: "quiet", "aria-label": `Put away: ${about}` }, "×");
  away.onclick = () => shown.remove();
  shown.append(away);
  while (list.childElementCount >= LIMIT) list.firstElementChild.remove();
  list.append(shown);
}
