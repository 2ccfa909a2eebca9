// The log viewer: system, alerts and errors, filtered, and followed as they are written.

import { call, path } from "./api.js";
import { add, fill, h, setText, table, tell } from "./dom.js";
import { moment } from "./format.js";
import { t } from "./i18n.js";
import { autoRefresh } from "./refresh.js";

/** Lines on a page, and lines that are kept when following. */
const PAGE = 100;
const KEPT = 1_000;

/** How often new lines are asked for when following, in milliseconds. */
const FOLLOW = 2_000;

/** Pages that are looked through at once for a rare text. */
const LOOKS = 20;

/** Opens the page. */
export function open(root) {
  const filter = { registro: "sistema", nivel: "", texto: "", desde: "", hasta: "" };
  let cursor = null;
  let position = null;
  let abort = new AbortController();
  const rows = h("tbody", {});
  const more = h("button", { type: "button", hidden: true, onclick: () => tell(older) }, t("older"));
  const told = h("p", { class: "muted", role: "status" });
  const refresher = autoRefresh(load, { always: true });
  const follow = h("input", { type: "checkbox", role: "switch" });
  const tabs = h("div", { class: "segmented", role: "group", "aria-label": t("logs") }, ["sistema", "alertas", "errores"].map((name) =>
    h("button", { type: "button", "aria-pressed": String(name === filter.registro), onclick: (event) => {
      for (const button of tabs.children) button.setAttribute("aria-pressed", String(button === event.target));
      change({ registro: name });
    } }, t(`log_${name}`))));
  const labelled = (text, control) => h("label", {}, text, control);
  let typing = null;
  const tools = h("div", { class: "row tools" }, tabs,
    labelled(t("level"), h("select", { onchange: (e) => change({ nivel: e.target.value }) },
      ["", "error", "warn", "info", "debug", "trace"].map((one) => h("option", { value: one }, one || t("any_level"))))),
    labelled(t("text"), h("input", { type: "search", maxlength: 200, oninput: (e) => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ texto: e.target.value }), 300);
    } })),
    labelled(t("from"), h("input", { type: "datetime-local", onchange: (e) => change({ desde: instant(e.target.value) }) })),
    labelled(t("to"), h("input", { type: "datetime-local", onchange: (e) => change({ hasta: instant(e.target.value) }) })),
    h("label", {}, follow, t("follow")));
  add(root, h("div", { class: "page-head" }, h("h1", {}, t("logs")), h("div", { class: "row end" }, refresher.element)),
    h("section", { class: "card" }, tools, told,
      table(t("logs"), ["log_time", "level", "module", "message"].map((name) => t(name)), rows, "log"), more));
  const timer = setInterval(() => { if (follow.checked && position && !document.hidden) tell(newer); }, FOLLOW);

  const query = (extra) => {
    const { registro, ...rest } = filter;
    return path(["logs", registro], { ...rest, limite: PAGE, ...extra });
  };

  function change(next) {
    Object.assign(filter, next);
    abort.abort();
    abort = new AbortController();
    tell(() => load().catch((problem) => { if (problem.name !== "AbortError") throw problem; }));
  }

  async function load() {
    const page = await call("GET", query({}), { signal: abort.signal });
    fill(rows, page.datos.map(row));
    position = page.posicion;
    settle(page);
    // A rare text may stand far back: a page looks through so much and no more.
    for (let look = 0; look < LOOKS && cursor && !rows.children.length; look++) await older();
  }

  async function older() {
    const page = await call("GET", query({ cursor }), { signal: abort.signal });
    add(rows, page.datos.map(row));
    settle(page);
  }

  async function newer() {
    const page = await call("GET", query({ despues: position }));
    position = page.posicion;
    rows.prepend(...page.datos.map(row).reverse());
    while (rows.children.length > KEPT) rows.lastChild.remove();
    if (page.datos.length) setText(told, "");
  }

  function settle(page) {
    cursor = page.siguiente;
    more.hidden = !cursor;
    setText(told, rows.children.length ? "" : t("no_lines"));
  }

  tell(() => refresher.run());
  return { close: () => { abort.abort(); clearInterval(timer); clearTimeout(typing); refresher.stop(); } };
}

function row(line) {
  return h("tr", { class: `level-${line.nivel ?? ""}` }, h("td", {}, line.timestamp ? moment(line.timestamp) : ""),
    h("td", {}, line.nivel ?? ""), h("td", {}, line.modulo ?? ""), h("td", { class: "message" }, line.mensaje));
}

/** Local time of a field as RFC 3339. */
function instant(text) {
  return text ? new Date(text).toISOString() : "";
}
