// Charts over time, drawn by uPlot where the build has fetched it.

import { add, h, setText } from "./dom.js";
import { number } from "./format.js";
import { locale, t } from "./i18n.js";

let library = null;

/** uPlot, or `null` where this build has none. */
export function charts() {
  library ??= new Promise((resolve) => {
    document.head.append(h("link", { rel: "stylesheet", href: "/app/uplot.css" }));
    document.head.append(h("script", {
      src: "/app/uplot.js", onload: () => resolve(window.uPlot ?? null), onerror: () => resolve(null),
    }));
  });
  return library;
}

/** Colours that differ in lightness too, so that they are told apart without hue. */
const STROKES = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];

/** A titled chart of `lines` [{ name, values }]; `unit` stands with the newest figure. */
export class Chart {
  constructor(title, unit = "") {
    this.unit = unit;
    this.figure = h("b", { class: "figure" });
    this.canvas = h("div", { class: "chart", role: "img", "aria-label": title });
    this.legend = h("ul", { class: "legend" });
    this.title = title;
    this.element = h("section", { class: "card chart-card", "data-chart": title },
      h("h2", {}, title, " ", this.figure), this.canvas, this.legend);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
    this.redraw = () => { this.destroy(); if (this.last) this.draw(...this.last); };
    window.addEventListener("atalaya:theme", this.redraw);
    this.media = matchMedia("(prefers-color-scheme: dark)");
    this.media.addEventListener("change", this.redraw);
  }

  close() {
    window.removeEventListener("atalaya:theme", this.redraw);
    this.media.removeEventListener("change", this.redraw);
    this.observer.disconnect();
    this.destroy();
  }

  destroy() {
    this.plot?.destroy();
    this.plot = null;
  }

  resize() {
    if (this.plot) this.plot.setSize(this.size());
  }

  size() {
    return { width: Math.max(120, this.canvas.clientWidth), height: 150 };
  }

  draw(uPlot, times, lines) {
    this.last = [uPlot, times, lines];
    const newest = lines.map(({ values }) => values.findLast((value) => value !== null));
    const only = lines.length === 1;
    setText(this.figure, only ? `${number(newest[0])} ${this.unit}`.trim() : "");
    this.canvas.setAttribute("aria-label", `${this.title}: ${lines.map(({ name }, i) => `${only ? "" : name} ${number(newest[i])} ${this.unit}`).join(", ")}`);
    this.legend.replaceChildren();
    if (!only) {
      lines.forEach(({ name }, index) => add(this.legend, h("li", {}, h("span", { class: `swatch s${(index % STROKES.length) + 1}`, "aria-hidden": "true" }), `${name} ${number(newest[index])}`)));
    }
    if (!uPlot) {
      setText(this.canvas, t("charts_need_node"));
      return;
    }
    const data = [times, ...lines.map(({ values }) => values)];
    const shape = lines.map(({ name }) => name).join("\n");
    if (this.plot && this.shape === shape) {
      this.plot.setData(data);
      return;
    }
    this.destroy();
    this.shape = shape;
    this.plot = new uPlot(this.options(lines), data, this.canvas);
  }

  options(lines) {
    const colour = (name) => {
      // A canvas knows no variables and no light-dark(): the browser works them out for an element.
      this.canvas.style.color = `var(${name})`;
      return getComputedStyle(this.canvas).color;
    };
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const short = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", hour12: false });
    const long = new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short" });
    const label = (seconds, step) => (step >= 43_200 ? long : short).format(new Date(seconds * 1000));
    return {
      ...this.size(), legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high > 0 ? high : 1) * 1.1] } },
      axes: [
        { ...axis, space: 70, values: (_, splits, __, ___, step) => splits.map((at) => label(at, step)) },
        { ...axis, size: 48, values: (_, splits) => splits.map((value) => number(value, 2)) },
      ],
      series: [{}, ...lines.map(({ name }, index) => ({
        label: name, stroke: colour(STROKES[index % STROKES.length]), width: 2, points: { show: false }, spanGaps: false,
      }))],
    };
  }
}
