// The counter: find an account, pay in, pay out, transfer, with confirmation and receipt.

import { call, newKey, path } from "./api.js";
import { add, dialog, facts, field, fill, h, setText, tell, toast, valuesOf } from "./dom.js";
import { feed } from "./feed.js";
import { amount, moment, money } from "./format.js";
import { t } from "./i18n.js";
import { accountView } from "./movements.js";
import { autoRefresh } from "./refresh.js";
import { has } from "./session.js";
import { choice, choose } from "./settings.js";

/** How often it is asked whether a site is frozen, in milliseconds. */
const FREEZE_CHECK = 5_000;

/** Opens the page; whoever may not move money only reads. */
export function open(root, [id]) {
  return new Counter(root, id);
}

class Counter {
  constructor(root, id) {
    this.teller = has("cajero");
    this.desks = [];
    this.desk = null;
    this.banner = h("div", { class: "frozen", role: "alert", hidden: true });
    this.place = h("div", {});
    this.results = h("ul", { class: "results", "aria-label": t("results") });
    this.feed = feed();
    this.refresher = autoRefresh(() => this.refresh());
    this.site = h("select", { onchange: () => this.choose(this.site.value) });
    this.siteLabel = h("label", { hidden: true }, t("site"), this.site);
    const search = h("form", { class: "row search", role: "search", onsubmit: (event) => this.find(event) },
      field({ name: "texto", label: t("find_account"), required: true,
        attributes: { type: "search", autocomplete: "off", maxlength: 60 } }),
      h("button", { class: "primary" }, t("find")),
      this.teller && h("button", { type: "button", onclick: () => this.openAccount() }, t("open_account")));
    add(root, h("div", { class: "page-head" }, h("h1", {}, t(this.teller ? "counter" : "accounts")), this.siteLabel,
      h("div", { class: "row end" }, this.refresher.element)), this.banner,
    h("div", { class: "counter" }, h("div", {}, h("section", { class: "card" }, search, this.results), this.place),
      h("section", { class: "card" }, h("h2", {}, t("live_feed")), this.feed.element)));
    search.querySelector("input").focus();
    if (this.teller) {
      this.watchFreeze = setInterval(() => { if (!document.hidden) this.loadDesks().catch(() => {}); }, FREEZE_CHECK);
    }
    tell(() => this.refresher.run());
    if (id) tell(() => this.show(id));
  }

  close() {
    clearInterval(this.watchFreeze);
    this.refresher.stop();
    this.feed.close();
    this.view?.close();
  }

  async refresh() {
    await Promise.all([this.view?.load(), this.teller && this.loadDesks()]);
  }

  /** Where this teller works, and whether withdrawals are frozen there. */
  async loadDesks() {
    this.desks = (await call("GET", "/cajas")).datos;
    const names = this.desks.map((desk) => `${desk.empresa}/${desk.sede}`);
    const kept = choice("desk", "");
    if (!this.desk || !names.includes(this.desk)) this.desk = names.includes(kept) ? kept : names[0];
    if (this.site.options.length !== names.length) {
      fill(this.site, this.desks.map((desk) => h("option", { value: `${desk.empresa}/${desk.sede}` }, desk.nombre)));
    }
    this.siteLabel.hidden = names.length < 2;
    this.site.value = this.desk ?? "";
    this.drawFreeze();
  }

  choose(name) {
    this.desk = name;
    choose("desk", name);
    this.drawFreeze();
  }

  here() {
    return this.desks.find((desk) => `${desk.empresa}/${desk.sede}` === this.desk);
  }

  drawFreeze() {
    const here = this.here();
    const frozen = Boolean(here?.retiros_congelados);
    if (frozen) setText(this.banner, t("frozen_text", here.nombre));
    this.banner.hidden = !frozen;
  }

  async find(event) {
    event.preventDefault();
    const { texto } = valuesOf(event.target);
    fill(this.results);
    await tell(async () => {
      if (/^\d{1,20}$/.test(texto)) {
        const found = await call("GET", path(["cuentas", texto])).catch((problem) => {
          if (problem.status !== 404) throw problem;
          return null;
        });
        if (found) return this.show(found.cedula);
      }
      const { datos } = await call("GET", path(["cuentas"], { buscar: texto, limite: 20 }));
      if (datos.length === 1) return this.show(datos[0].cedula);
      fill(this.results, datos.map((account) => h("li", {}, h("button", { type: "button", class: "quiet", onclick: () => tell(() => this.show(account.cedula)) },
        `${account.cedula} · ${account.nombres} ${account.apellidos}`))), !datos.length && h("li", { class: "muted" }, t("nobody_found")));
      return undefined;
    });
  }

  async show(id) {
    this.view?.close();
    const view = accountView(id);
    this.view = view;
    const act = (kind) => h("button", { type: "button", class: "primary", "data-act": kind, onclick: () => this.move(kind, view) }, t(kind));
    fill(this.place, view.element);
    if (this.teller) view.element.querySelector(".balance").after(h("div", { class: "row" }, ["deposit", "withdraw", "transfer"].map(act)));
    try {
      await view.load();
    } catch (problem) {
      fill(this.place);
      throw problem;
    }
    fill(this.results);
    const base = this.teller ? "caja" : "consulta";
    history.replaceState(null, "", `#/${base}/${id}`);
  }

  openAccount() {
    return dialog({
      title: t("open_account"), confirm: t("open_account"),
      fields: [
        { name: "cedula", label: t("cedula"), required: true, pattern: "[0-9]{1,20}", attributes: { inputmode: "numeric" } },
        { name: "nombres", label: t("given_names"), required: true, attributes: { maxlength: 100 } },
        { name: "apellidos", label: t("surnames"), required: true, attributes: { maxlength: 100 } },
      ],
      submit: async (body) => {
        const made = await call("POST", "/cuentas", { body, key: this.keyFor("open", body) });
        toast(t("account_opened", made.cedula));
        tell(() => this.show(made.cedula));
      },
    });
  }

  /**
   * The same key for the same order until it has an answer: to press again after a broken
   * connection repeats nothing.
   */
  keyFor(kind, body) {
    const print = JSON.stringify([kind, body]);
    if (this.pending?.print !== print) this.pending = { print, key: newKey() };
    return this.pending.key;
  }

  async move(kind, view) {
    const order = await dialog({
      title: t(kind), confirm: t("go_on"),
      body: h("p", {}, h("b", {}, holderOf(view)), h("br", {}), t("balance_is", money(view.account().saldo))),
      fields: [
        kind === "transfer" && { name: "destino", label: t("to_account"), required: true, pattern: "[0-9]{1,20}", attributes: { inputmode: "numeric" } },
        { name: "monto", label: t("mov_amount"), required: true, attributes: { inputmode: "decimal", autocomplete: "off", maxlength: 20 } },
      ].filter(Boolean),
      submit: async (values) => {
        const monto = amount(values.monto);
        if (!monto) throw new Error(t("amount_wrong"));
        const to = values.destino && await call("GET", path(["cuentas", values.destino]));
        return { monto, to };
      },
    });
    if (!order) return;
    await this.confirm(kind, view, order);
  }

  async confirm(kind, view, { monto, to }) {
    const { pathname, body } = requestOf(kind, view.id, monto, to, this.here()?.sede);
    const rows = [
      [t("account"), `${holderOf(view)} (${view.id})`],
      to && [t("to_account"), `${to.nombres} ${to.apellidos} (${to.cedula})`],
      [t("mov_amount"), money(monto)],
      this.here() && [t("site"), this.here().nombre],
    ].filter(Boolean);
    const receipt = await dialog({
      title: t("confirm_it", t(kind)), confirm: `${t(kind)} ${money(monto)}`,
      body: facts(rows),
      submit: async () => {
        try {
          return await call("POST", pathname, { body, key: this.keyFor(kind, body) });
        } catch (problem) {
          // Decided, and not in our favour: the next try is another order.
          if (problem.status >= 400 && problem.status < 500) this.pending = null;
          if (problem.codigo === "saldo_insuficiente" && problem.saldo) {
            throw new Error(`${problem.message} ${t("balance_is", money(problem.saldo))}`);
          }
          throw problem;
        }
      },
    });
    if (!receipt) return;
    this.pending = null;
    await this.receipt(kind, view, receipt, rows);
  }

  receipt(kind, view, receipt, rows) {
    const balance = receipt.saldo_nuevo ?? receipt.saldo_origen;
    const all = [...rows, [t("mov_balance"), money(balance)], [t("mov_date"), moment(receipt.timestamp)], [t("number"), receipt.tx_id]];
    return dialog({
      title: t("receipt", t(kind)),
      body: h("div", { class: "receipt", "data-receipt": receipt.tx_id }, facts(all),
        h("button", { type: "button", onclick: () => print() }, t("print"))),
    });
  }
}

function holderOf(view) {
  const account = view.account();
  return `${account.nombres} ${account.apellidos}`;
}

function requestOf(kind, id, monto, to, sede) {
  const at = sede ? { sede } : {};
  if (kind === "transfer") {
    return { pathname: "/transferencias", body: { cedula_origen: id, cedula_destino: to.cedula, monto, ...at } };
  }
  const verb = kind === "deposit" ? "depositos" : "retiros";
  return { pathname: path(["cuentas", id, verb]), body: { monto, ...at } };
}
