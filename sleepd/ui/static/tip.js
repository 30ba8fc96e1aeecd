// What the pointer is over on a timeline.

import { make, moment } from "./words.js";

const tip = document.getElementById("tip");
const EDGE = 12;

/** Tell what `about(canvas, share)` returns of each canvas in `table`: a moment, a title and lines; null for nothing. */
export function follow(table, about) {
  const hide = () => {
    tip.hidden = true;
  };
  table.addEventListener("pointermove", (event) => {
    const canvas = event.target.closest("canvas[role=img]");
    if (!canvas) return hide();
    const box = canvas.getBoundingClientRect();
    const told = about(canvas, (event.clientX - box.left) / box.width);
    if (!told) return hide();
    tip.replaceChildren(make("strong", {}, told.title), make("span", {}, moment(told.ms, 86401)), ...told.lines.map((line) => make("span", {}, line)));
    tip.hidden = false;
    const left = Math.min(event.clientX + EDGE, innerWidth - tip.offsetWidth - EDGE);
    const top = event.clientY + EDGE + tip.offsetHeight > innerHeight ? event.clientY - EDGE - tip.offsetHeight : event.clientY + EDGE;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  });
  table.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, { passive: true, capture: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
