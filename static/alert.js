// One alert: what it says, what happened to it, which rules acted, and the devices they drove.

import { step, stepDialog } from "./alert-step.js";
import { call, path } from "./api.js";
import { add, facts, fill, h, table, tell, toast } from "./dom.js";
import { age, moment, pretty } from "./format.js";
import { t } from "./i18n.js";
import { subscribe } from "./live.js";
import { autoRefresh } from "./refresh.js";
import { has } from "./session.js";

/** Steps of a history on a page. */
const STEPS = 100;

/** Opens the page of the alert called `id`. */
export function open(root, [id]) {
  const body = h("div", {}, h("h1", {}, t("alert")));
  const refresher = autoRefresh(load);
  add(root, h("p", {}, h("a", { href: "#/vigilancia" }, `← ${t("watch")}`)), body);
  const off = subscribe(["empresas/+/alertas"], ({ datos }) => { if (datos.alerta_id === id) tell(load); });
  const rules = new Map();

  async function load() {
    let alert;
    try {
      alert = await call("GET", path(["alertas", id], { limite: STEPS }));
    } catch (problem) {
      fill(body, h("h1", {}, t("alert")), h("p", { class: "error", role: "alert" }, problem.message));
      throw problem;
    }
    await nameRules(alert);
    const driven = await devices(alert);
    fill(body, head(alert), h("div", { class: "columns" }, factsCard(alert), history(alert)), drivenTable(driven));
  }

  async function nameRules(alert) {
    const ids = new Set(alert.historia.flatMap((one) => one.reglas.map((rule) => rule.id)));
    for (const rule of ids) {
      if (rules.has(rule)) continue;
      const found = await call("GET", path(["reglas", rule])).catch(() => null);
      rules.set(rule, found?.nombre ?? String(rule));
    }
  }

  /** The newest order to each device that was driven, and how the device is. */
  async function devices(alert) {
    const orders = new Map();
    for (const one of alert.historia) {
      for (const { hardware, comando } of one.comandos) {
        if (!orders.has(hardware)) orders.set(hardware, { hardware, comando, at: one.timestamp, orders: 0 });
        orders.get(hardware).orders += 1;
      }
    }
    const found = [...orders.values()].slice(0, 50);
    await Promise.all(found.map(async (order) => {
      order.device = await call("GET", path(["hardware", order.hardware])).catch(() => null);
    }));
    return found;
  }

  function head(alert) {
    const isOpen = ["NUEVA", "RECONOCIDA"].includes(alert.estado);
    const act = (verb) => h("button", { type: "button", class: verb === "descartar" ? "danger" : "primary",
      onclick: () => ask(verb) }, t(verb));
    return h("div", { class: "page-head" },
      h("h1", {}, h("span", { class: `badge ${alert.prioridad}` }, t(`priority_${alert.prioridad}`)), " ", alert.tipo_alarma,
        h("small", {}, ` ${t(`state_${alert.estado}`)}`)),
      has("operador") && isOpen && h("div", { class: "row" },
        alert.estado === "NUEVA" && act("reconocer"), act("resolver"), act("descartar")),
      h("div", { class: "row end" }, refresher.element));
  }

  async function ask(verb) {
    const done = await stepDialog(verb, 1, ({ motivo }) => step(id, verb, motivo));
    if (!done) return;
    toast(t(`${verb}_done`, 1));
    await tell(load);
  }

  function factsCard(alert) {
    const rows = [
      [t("col_place"), `${alert.empresa}/${alert.sede}`],
      [t("col_device"), alert.hardware],
      [t("raised"), `${moment(alert.creada)} (${age(Date.parse(alert.creada))})`],
      [t("acknowledged_at"), alert.reconocida && moment(alert.reconocida)],
      [t("closed_at"), alert.cerrada && moment(alert.cerrada)],
      [t("col_count"), String(alert.repeticiones)],
      [t("escalations"), alert.escaladas ? String(alert.escaladas) : null],
      [t("description"), alert.descripcion],
      [t("late"), alert.tardia ? t("late_text") : null],
      [t("freezes"), alert.congela_retiros ? t("freezes_text") : null],
    ];
    const raw = (name, value) => value && h("details", { open: true }, h("summary", {}, name), h("pre", {}, pretty(value)));
    return h("section", { class: "card" }, h("h2", {}, t("facts")),
      facts(rows), raw(t("location"), alert.ubicacion), raw(t("data"), alert.datos));
  }

  function history(alert) {
    return h("section", { class: "card" }, h("h2", {}, t("history")),
      h("ol", { class: "history" }, alert.historia.map((one) => h("li", {},
        h("p", {}, h("time", { datetime: one.timestamp }, moment(one.timestamp)), " · ", h("b", {}, t(`change_${one.cambio}`)),
          " · ", t("by", one.por), ` (${one.canal}${one.confianza ? `, ${one.confianza}` : ""})`),
        one.motivo && h("p", {}, `“${one.motivo}”`),
        one.reglas.length > 0 && h("p", {}, `${t("rules")}: `, one.reglas.map((rule) =>
          h("span", { class: "chip" }, `${rules.get(rule.id)} v${rule.version}`))),
        one.notificar.length > 0 && h("p", {}, `${t("notified")}: ${one.notificar.join(", ")}`),
        one.comandos.length > 0 && h("details", {}, h("summary", {}, t("orders", one.comandos.length)),
          h("ul", {}, one.comandos.map(({ hardware, comando }) =>
            h("li", {}, h("b", {}, hardware), h("pre", {}, pretty(comando))))))))));
  }

  function drivenTable(driven) {
    if (!driven.length) return null;
    const status = (device) => {
      if (!device) return "–";
      if (device.silencioso) return t("silent");
      return device.estado ? t(device.estado) : t("unknown");
    };
    const heads = ["col_device", "type", "last_order", "status", "last_sign"].map((name) => t(name));
    const row = ({ hardware, comando, at, device }) => h("tr", {}, h("th", { scope: "row" }, hardware),
      h("td", {}, device?.tipo ?? "–"), h("td", {}, `${clip(comando)} · ${moment(at)}`),
      h("td", {}, status(device)), h("td", {}, moment(device?.ultima_senal)));
    return h("section", { class: "card" }, h("h2", {}, t("driven")), table(t("driven"), heads, h("tbody", {}, driven.map(row))));
  }

  tell(() => refresher.run());
  return { close: () => { off(); refresher.stop(); } };
}

function clip(order) {
  const { alerta_id: _, timestamp: __, regla: ___, ...rest } = order;
  const text = Object.values(rest).map((value) => (typeof value === "object" ? JSON.stringify(value) : value)).join(" ");
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}
