// Small line charts in SVG: losses of a training, coverage by step. They are redrawn when their width changes.

import { el } from "./dom.js";

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [200, 52, 64, 12, 30];
const specs = new WeakMap();
const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => draw(target)));

/** A figure with `lines` {name, values, dashed} over 1, 2, 3 …; `format` formats numbers, `text` is the description. */
export function plot(spec) {
  const node = el("div", { class: "plot" });
  specs.set(node, spec);
  watcher.observe(node);
  return node;
}

function draw(node) {
  const { lines, format, text, xLabel } = specs.get(node);
  const width = node.clientWidth;
  if (width === 0) return;
  const values = lines.flatMap((line) => line.values);
  const n = Math.max(...lines.map((line) => line.values.length));
  const [low, high, ticks] = scale(Math.min(...values), Math.max(...values));
  const x = (index) => LEFT + ((width - LEFT - RIGHT) * index) / Math.max(1, n - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  const grid = ticks.map((tick) => el("g", {},
    el("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
    el("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, format(tick))));
  const drawn = lines.map(({ name, values: heights, dashed }) => el("g", { class: dashed ? "nominal" : "empirical" },
    el("polyline", { points: heights.map((value, index) => `${x(index)},${y(value)}`).join(" ") }),
    !dashed && heights.length < 40 && heights.map((value, index) => el("circle", { cx: x(index), cy: y(value), r: 2.5 })),
    name && el("text", { x: x(heights.length - 1) + 8, y: y(heights.at(-1)) + 4 }, name)));
  const marks = [...new Set([1, Math.ceil(n / 2), n])].map((step) =>
    el("text", { x: x(step - 1), y: HEIGHT - 8, "text-anchor": "middle" }, step === n && xLabel ? `${xLabel} ${n}` : step));
  node.replaceChildren(el("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": text }, grid, drawn, marks));
}

/** Bounds and round ticks around values. */
function scale(min, max) {
  const spread = max - min || Math.abs(max) || 1;
  const rough = spread / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.floor(min / step);
  const last = Math.max(Math.ceil(max / step), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return [ticks[0], ticks.at(-1), ticks];
}
