// Drawing on canvases: a model's states, a GPU's bytes, the axis above them.

import { styleOf } from "./states.js";
import { day, minute } from "./words.js";

const SHADES = ["awake", "moving", "asleep1", "asleep2", "stopped", "failed", "unknown", "ink", "faint", "line", "area", "area-edge"];
let shades = {};

/** Read the colours of the page anew. */
export function readShades() {
  const style = getComputedStyle(document.documentElement);
  shades = Object.fromEntries(SHADES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Fit the canvas to its box, in the pixels of the screen, and return its context and size. */
function fit(canvas) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const scale = Math.min(devicePixelRatio || 1, 2);
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const at = canvas.getContext("2d");
  at.setTransform(scale, 0, 0, scale, 0, 0);
  at.clearRect(0, 0, width, height);
  return { at, width, height };
}

/** Draw a model's runs from `from` to `to`. */
export function drawRuns(canvas, runs, from, to) {
  const { at, width, height } = fit(canvas);
  const x = (ms) => ((ms - from) / (to - from)) * width;
  at.fillStyle = shades.line;
  at.fillRect(0, height - 1, width, 1);
  for (let index = 0; index < runs.length; index++) {
    const end = Math.min(runs[index + 1]?.at ?? to, to);
    if (end <= from || runs[index].at >= to) continue;
    const style = styleOf(runs[index].word);
    if (!style.height) continue;
    const left = Math.max(0, x(runs[index].at));
    const wide = Math.max(x(end) - left, 0.7);
    const high = Math.max(2, Math.round(style.height * (height - 2)));
    at.fillStyle = shades[style.shade];
    at.fillRect(left, height - high, wide, high);
    if (style.hatched) hatch(at, left, height - high, wide, high);
  }
}

function hatch(at, left, top, wide, high) {
  at.save();
  at.beginPath();
  at.rect(left, top, wide, high);
  at.clip();
  at.strokeStyle = "rgb(255 255 255 / 0.55)";
  at.lineWidth = 1.5;
  at.beginPath();
  for (let step = left - (left % 6) - high; step < left + wide; step += 6) {
    at.moveTo(step, top + high);
    at.lineTo(step + high, top);
  }
  at.stroke();
  at.restore();
}

/** Draw a GPU's bytes in use against its `total`. */
export function drawBytes(canvas, points, total, from, to) {
  const { at, width, height } = fit(canvas);
  const x = (ms) => ((ms - from) / (to - from)) * width;
  const y = (bytes) => height - 1 - (bytes / total) * (height - 4);
  at.fillStyle = shades.line;
  at.fillRect(0, height - 1, width, 1);
  at.fillRect(0, y(total), width, 1);
  const shown = points.filter((point, index) => (points[index + 1]?.at ?? Infinity) > from && point.at < to);
  if (!shown.length) return;
  at.beginPath();
  at.moveTo(Math.max(0, x(shown[0].at)), y(shown[0].bytes));
  shown.forEach((point, index) => {
    const left = Math.max(0, x(point.at));
    at.lineTo(left, y(point.bytes));
    at.lineTo(x(Math.min(shown[index + 1]?.at ?? to, to)), y(point.bytes));
  });
  at.strokeStyle = shades["area-edge"];
  at.lineWidth = 1.5;
  at.stroke();
  at.lineTo(width, height - 1);
  at.lineTo(Math.max(0, x(shown[0].at)), height - 1);
  at.fillStyle = shades.area;
  at.fill();
}

const TICKS = [[300, minute], [600, minute], [900, minute], [1800, minute], [3600, minute], [10800, minute], [21600, minute], [43200, minute], [86400, day], [172800, day]];

/** Draw moments above the columns. */
export function drawAxis(canvas, from, to) {
  const { at, width, height } = fit(canvas);
  const [stepS, write] = TICKS.find(([seconds]) => ((to - from) / 1000 / seconds) * 64 < width) ?? TICKS.at(-1);
  const step = stepS * 1000;
  const offset = new Date(to).getTimezoneOffset() * 60000;
  at.font = "11px system-ui, sans-serif";
  at.textAlign = "center";
  at.textBaseline = "middle";
  for (let ms = Math.ceil((from - offset) / step) * step + offset; ms <= to; ms += step) {
    const x = ((ms - from) / (to - from)) * width;
    at.fillStyle = shades.line;
    at.fillRect(Math.round(x), height - 5, 1, 5);
    at.fillStyle = shades.faint;
    if (x > 22 && x < width - 22) at.fillText(write(ms), x, height / 2 - 2);
  }
}
