// Getting in: a token from the address or typed becomes a session.

import { ask, Problem } from "./api.js";
import { showProblem } from "./problems.js";

const view = document.getElementById("login");
const form = document.getElementById("login-form");
const field = document.getElementById("token");
const told = document.getElementById("login-problem");

/** The token behind # of the address; it is taken out of the address, so that nobody finds it there later. */
function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) history.replaceState(null, "", location.pathname);
  return found;
}

/** Return the session: the one there is, else one that somebody logs in for. `why` is told above the form. */
export async function findSession(why) {
  const token = takeToken();
  if (token) {
    try {
      return await ask("POST", "/session", { token });
    } catch (problem) {
      why = problem;
    }
  }
  for (;;) {
    try {
      return await ask("GET", "/session");
    } catch (problem) {
      if (problem.status === 401) return logIn(why);
      if (problem.status !== 0) throw problem;
      document.getElementById("link").textContent = "the daemon cannot be reached; trying again";
      await new Promise((go) => setTimeout(go, 2000));
    }
  }
}

function logIn(why) {
  view.hidden = false;
  told.replaceChildren();
  if (why instanceof Problem) told.append(showProblem(why));
  document.getElementById("link").textContent = "";
  field.focus();
  return new Promise((done) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      told.replaceChildren();
      try {
        const session = await ask("POST", "/session", { token: field.value.trim() });
        field.value = "";
        view.hidden = true;
        form.onsubmit = null;
        done(session);
      } catch (problem) {
        told.append(showProblem(problem));
        field.select();
      }
    };
  });
}
