// How times, sizes and words are written.

const GIB = 2 ** 30;

/** "49.5 GiB"; "–" for what nobody knows. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const gib = bytes / GIB;
  if (gib >= 1024) return `${(gib / 1024).toFixed(1)} TiB`;
  if (gib >= 0.95 || bytes === 0) return `${gib >= 100 || Number.isInteger(gib) ? Math.round(gib) : gib.toFixed(1)} GiB`;
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** "1.5 of 49.5 GiB". */
export function sizeOf(part, whole) {
  const [one, all] = [size(part), size(whole)];
  const unit = all.slice(all.indexOf(" "));
  return `${one.endsWith(unit) ? one.slice(0, -unit.length) : one} of ${all}`;
}

/** "3d 4h", "2h 5m", "4m 10s", "12s": two units at most; "–" for what nobody knows. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, long] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const many = Math.floor(left / long);
    if (many || (unit === "s" && !parts.length)) parts.push(`${many}${unit}`);
    else if (parts.length) break;
    left -= many * long;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const DAYTIME = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", hour12: false });

export const time = (ms) => TIME.format(ms);
export const minute = (ms) => MINUTE.format(ms);
export const day = (ms) => DAY.format(ms);

/** The moment, as exactly as a span of this length needs it. */
export function moment(ms, spanS) {
  return spanS > 86400 ? DAYTIME.format(ms) : spanS > 3600 ? MINUTE.format(ms) : TIME.format(ms);
}

const CAUSES = { victim: (who) => `makes room for ${who}`, request: (who) => `a request (${who})`, operator: (who) => `asked for by ${who}` };

/** Why a model is in a state, as the rest of the page words it; `cause` as the history has it: "rule nap", "victim chat". */
export function because(cause) {
  const [kind] = cause.split(" ", 1);
  const who = cause.slice(kind.length + 1);
  return who && Object.hasOwn(CAUSES, kind) ? CAUSES[kind](who) : cause || "found so";
}

/** Several children, of one element. Strings become text, never markup. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Let a node say this; untouched where it does already, so that nothing is laid out for nothing. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
