"""What can be checked of a page by a machine for people who do not see it, or not well (WCAG 2.2, level AA)."""

import json
from typing import Any

from tests.browser.webdriver import Browser

NAMED = {
    "button",
    "checkbox",
    "combobox",
    "dialog",
    "heading",
    "image",
    "link",
    "radio",
    "region",
    "searchbox",
    "textbox",
}
"""Roles that say nothing without a name (4.1.2, 1.1.1)."""

CONTRAST = r"""
const text = [];
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
};
const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const paper = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const found = rgba(getComputedStyle(at).backgroundColor);
    if (found[3] > 0.99) return found;
  }
  return [255, 255, 255, 1];
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !node.checkVisibility({visibilityProperty: true})) continue;
  if (node.closest('.unseen, .skip, script, noscript')) continue;
  const style = getComputedStyle(node);
  const [one, two] = [light(rgba(style.color)), light(paper(node))].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const ratio = (one + 0.05) / (two + 0.05);
  const shown = walk.currentNode.data.trim().slice(0, 40);
  if (ratio < (large ? 3 : 4.5)) text.push(`${ratio.toFixed(2)} "${shown}" .${node.className}`);
}
return [...new Set(text)];
"""

SHAPE = r"""
const wrong = [];
const seen = (node) => node.checkVisibility({visibilityProperty: true});
if (!document.documentElement.lang) wrong.push('the page has no language');
if (!document.title) wrong.push('the page has no title');
if ([...document.querySelectorAll('main')].filter(seen).length !== 1) wrong.push('there is not one main part');
let level = 0;
for (const head of [...document.querySelectorAll('h1,h2,h3,h4')].filter(seen)) {
  const found = Number(head.tagName[1]);
  if (found > level + 1) wrong.push(`a heading of level ${found} follows one of ${level}: ${head.textContent}`);
  level = found;
}
const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
for (const id of new Set(ids))
  if (ids.filter((other) => other === id).length > 1) wrong.push(`two elements have the id ${id}`);
for (const node of [...document.querySelectorAll('[aria-labelledby]')].filter(seen))
  for (const id of node.getAttribute('aria-labelledby').split(/\s+/))
    if (!document.getElementById(id)) wrong.push(`nothing has the id ${id}`);
for (const table of [...document.querySelectorAll('table')].filter(seen))
  for (const head of table.querySelectorAll('th'))
    if (!head.scope) wrong.push(`a head without scope: ${head.textContent}`);
for (const node of [...document.querySelectorAll('button,a[href],input,select')].filter(seen)) {
  const box = node.getBoundingClientRect();
  const alone = !node.matches('.skip') && getComputedStyle(node).position !== 'absolute';
  const size = `${box.width.toFixed(0)}x${box.height.toFixed(0)}`;
  if (alone && (box.width < 24 || box.height < 24)) wrong.push(`too small to hit: ${node.textContent} ${size}`);
  if (node.tabIndex > 0) wrong.push(`an order of its own: ${node.textContent}`);
}
return wrong;
"""


def what_is_wrong(browser: Browser) -> list[str]:
    """Return every finding on what the page shows now."""
    browser.chrome("Accessibility.enable")
    nodes: list[dict[str, Any]] = browser.chrome("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        f"a {role} without a name: {json.dumps(node.get('description', {}))}"
        for node in nodes
        if not node.get("ignored")
        and (role := node.get("role", {}).get("value")) in NAMED
        and not node.get("name", {}).get("value", "").strip()
    ]
    return [*nameless, *browser.run(SHAPE), *(f"contrast {found}" for found in browser.run(CONTRAST))]
