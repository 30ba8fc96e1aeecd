// Dark or light: as the system says, or as somebody chose here.

const button = document.getElementById("theme");
const ORDER = ["system", "light", "dark"];
const KEY = "sleepd-theme";

let chosen = ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system";
const listeners = [];

function apply() {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  button.textContent = `Theme: ${chosen}`;
  listeners.forEach((tell) => tell());
}

button.onclick = () => {
  chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
  localStorage.setItem(KEY, chosen);
  apply();
};

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);

/** Call when colours have changed. */
export const onTheme = (tell) => listeners.push(tell);
apply();
