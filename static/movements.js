// One account: its balance and its movements, live.

import { call, path } from "./api.js";
import { add, fill, h, setText, table, tell } from "./dom.js";
import { moment, money } from "./format.js";
import { t } from "./i18n.js";
import { subscribe } from "./live.js";

/** Movements on a page. */
const PAGE = 25;

/** A view of the account called `id`; `changed(account)` is told of each newer balance. */
export function accountView(id, { changed } = {}) {
  const balance = h("p", { class: "balance", "data-balance": "", role: "status" });
  const holder = h("h2", {});
  const rows = h("tbody", {});
  const more = h("button", { type: "button", hidden: true, onclick: () => tell(next) }, t("more"));
  const empty = h("p", { class: "muted", hidden: true }, t("no_movements"));
  let account = null;
  let cursor = null;
  let timer = null;

  const element = h("section", { class: "card account" }, holder, balance,
    h("h3", {}, t("movements")),
    table(t("movements"), ["date", "kind", "detail", "amount", "balance"].map((name) =>
      h("th", { scope: "col", class: name }, t(`mov_${name}`))), rows),
    empty, more);

  function show(next) {
    // An older balance never replaces a newer one, whichever way it comes.
    if (account && next.version < account.version) return;
    account = { ...account, ...next };
    setText(holder, `${account.nombres ?? ""} ${account.apellidos ?? ""}`.trim());
    add(holder, h("small", {}, ` ${id}`));
    setText(balance, money(account.saldo));
    changed?.(account);
  }

  async function load() {
    show(await call("GET", path(["cuentas", id])));
    await list();
  }

  async function list() {
    const page = await call("GET", path(["cuentas", id, "movimientos"], { limite: PAGE }));
    fill(rows, page.datos.map(row));
    cursor = page.siguiente;
    more.hidden = !cursor;
    empty.hidden = page.datos.length > 0;
  }

  async function next() {
    const page = await call("GET", path(["cuentas", id, "movimientos"], { limite: PAGE, cursor }));
    add(rows, page.datos.map(row));
    cursor = page.siguiente;
    more.hidden = !cursor;
  }

  const off = subscribe([`banco/saldo/${id}`], ({ datos }) => {
    if (account && datos.version <= account.version) return;
    show({ saldo: datos.saldo_nuevo, version: datos.version });
    clearTimeout(timer);
    timer = setTimeout(() => tell(list), 150);
  });
  return { element, load, id, account: () => account, close: () => { off(); clearTimeout(timer); } };
}

function row(movement) {
  const { tipo, saldo_anterior: before, saldo_nuevo: after } = movement;
  // An adjustment goes either way: the balances tell which.
  const out = tipo === "AJUSTE" ? Number(after) < Number(before) : ["RETIRO", "TRANSFERENCIA_ENVIADA"].includes(tipo);
  const detail = [movement.contraparte, movement.sede, movement.fecha_valor].filter(Boolean).join(" · ");
  return h("tr", {}, h("td", { class: "date" }, moment(movement.timestamp)), h("td", { class: "kind" }, t(`kind_${movement.tipo}`)),
    h("td", { class: "detail" }, detail),
    h("td", { class: `amount ${out ? "out" : "in"}` }, `${out ? "−" : "+"}${money(movement.monto)}`),
    h("td", { class: "balance" }, money(movement.saldo_nuevo)));
}
