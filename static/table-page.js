// A page that lists what there is, a page at a time, with what one may do to each.

import { call, path } from "./api.js";
import { add, fill, h, table, tell } from "./dom.js";
import { t } from "./i18n.js";
import { autoRefresh } from "./refresh.js";

/**
 * Puts a table into `root`. `spec`: title, parts (of the path), query(), columns [[name, row => text
 * or element]…], actions(row) [[text, do]…], tools [elements], empty, limit.
 */
export class TablePage {
  constructor(root, spec) {
    this.spec = spec;
    this.rows = h("tbody", {});
    this.more = h("button", { type: "button", hidden: true, onclick: () => tell(() => this.next()) }, t("more"));
    this.empty = h("p", { class: "empty", hidden: true }, spec.empty ?? t("nothing_here"));
    this.refresher = autoRefresh(() => this.load(), { always: true });
    const heads = spec.columns.map(([name]) => name);
    if (spec.actions) heads.push(t("actions"));
    const level = spec.level ?? "h1";
    this.element = h("div", {},
      h("div", { class: "page-head" }, h(level, {}, spec.title), h("div", { class: "row" }, spec.tools), h("div", { class: "row end" }, this.refresher.element)),
      h("section", { class: "card" }, table(spec.title, heads, this.rows), this.empty, this.more));
    add(root, this.element);
    tell(() => this.refresher.run());
  }

  close() {
    this.refresher.stop();
  }

  /** Reads anew; as many as are shown, so that nothing jumps. */
  async load() {
    const limit = this.spec.limit ?? 50;
    const wanted = Math.max(limit, this.rows.children.length);
    const found = [];
    let cursor = null;
    do {
      const page = await this.page(cursor);
      found.push(...page.datos);
      cursor = page.siguiente;
    } while (cursor && found.length < wanted);
    this.cursor = cursor;
    fill(this.rows, found.map((row) => this.row(row)));
    this.settle();
  }

  async next() {
    const page = await this.page(this.cursor);
    this.cursor = page.siguiente;
    add(this.rows, page.datos.map((row) => this.row(row)));
    this.settle();
  }

  page(cursor) {
    const query = { limite: this.spec.limit ?? 50, ...this.spec.query?.(), cursor };
    return call("GET", path(this.spec.parts, query));
  }

  settle() {
    this.more.hidden = !this.cursor;
    this.empty.hidden = this.rows.children.length > 0;
  }

  row(row) {
    const cells = this.spec.columns.map(([, show], index) =>
      (index === 0 ? h("th", { scope: "row" }, show(row)) : h("td", {}, show(row))));
    const actions = this.spec.actions?.(row).filter(Boolean).map(([text, act]) =>
      h("button", { type: "button", "aria-label": `${text}: ${this.spec.columns[0][1](row)}`,
        onclick: () => tell(async () => { if (await act(row) !== undefined) await this.load(); }) }, text));
    return h("tr", {}, cells, actions && h("td", {}, h("div", { class: "row" }, actions)));
  }
}

/** A button that adds something and then reads the table anew. */
export function adder(text, act, page) {
  return h("button", { type: "button", class: "primary", onclick: () => tell(async () => {
    if (await act() !== undefined) await page().load();
  }) }, text);
}

/** Yes or no, as a mark and a word. */
export const yes = (value) => (value ? `✓ ${t("yes")}` : `– ${t("no")}`);
