// The board: sites with their devices, who is there, who is silent, where something is open.

import { AlertStore, PRIORITIES } from "./alerts-store.js";
import { all } from "./api.js";
import { add, coalesced, dialog, facts, fill, h, tell } from "./dom.js";
import { age, moment } from "./format.js";
import { t } from "./i18n.js";
import { autoRefresh } from "./refresh.js";

/** Devices of a site that are drawn; more are counted. */
const TILES = 200;

/** Opens the page. */
export function open(root) {
  let sites = [];
  let devices = [];
  const cards = h("div", { class: "board" });
  const draw = coalesced(render);
  const store = new AlertStore({ changed: draw });
  const refresher = autoRefresh(load, { always: true });
  const legend = ["online", "offline", "silent", "unknown"].map((name) =>
    h("li", {}, h("span", { class: `tile ${name}`, "aria-hidden": "true" }), t(name)));
  add(root, h("div", { class: "page-head" }, h("h1", {}, t("board")), h("ul", { class: "legend" }, legend),
    h("div", { class: "row end" }, refresher.element)), cards);

  async function load() {
    [sites, devices] = await Promise.all([all(["sedes"]), all(["hardware"]), store.load()]);
    render();
  }

  function render() {
    const urgency = new Map();
    for (const alert of store.order) {
      for (const key of [`${alert.empresa}/${alert.sede}`, alert.hardware]) {
        const known = urgency.get(key) ?? { count: 0, rank: PRIORITIES.length };
        known.count += 1;
        known.rank = Math.min(known.rank, PRIORITIES.indexOf(alert.prioridad));
        urgency.set(key, known);
      }
    }
    const bySite = new Map();
    for (const device of devices) {
      const key = `${device.empresa}/${device.sede}`;
      if (!bySite.has(key)) bySite.set(key, []);
      bySite.get(key).push(device);
    }
    const rank = (site) => urgency.get(`${site.empresa}/${site.sede}`)?.rank ?? PRIORITIES.length;
    const sorted = [...sites].sort((a, b) => rank(a) - rank(b) || `${a.empresa}/${a.sede}`.localeCompare(`${b.empresa}/${b.sede}`));
    fill(cards, sorted.map((site) => card(site, bySite.get(`${site.empresa}/${site.sede}`) ?? [], urgency)),
      !sites.length && h("p", { class: "empty" }, t("no_sites")));
  }

  function card(site, own, urgency) {
    const open = urgency.get(`${site.empresa}/${site.sede}`);
    const priority = open && PRIORITIES[open.rank];
    const online = own.filter((one) => statusOf(one) === "online").length;
    return h("section", { class: `card site ${priority ?? ""} ${site.activa ? "" : "off"}` },
      h("h2", {}, site.nombre, h("small", {}, ` ${site.empresa}/${site.sede}`)),
      h("p", { class: "row" }, open
        ? h("span", { class: `badge ${priority}` }, t("open_count", open.count))
        : h("span", { class: "badge calm" }, t("calm")),
      h("span", { class: "muted" }, t("online_of", online, own.length))),
      h("ul", { class: "tiles" }, own.slice(0, TILES).map((device) => tile(device, urgency.get(device.hardware)))),
      own.length > TILES && h("p", { class: "muted" }, t("and_more", own.length - TILES)));
  }

  function tile(device, open) {
    const status = statusOf(device);
    const priority = open ? PRIORITIES[open.rank] : "";
    const text = [device.nombre, device.tipo, t(status), open && t("open_count", open.count)].filter(Boolean).join(", ");
    return h("li", {}, h("button", { type: "button", class: `tile ${status} ${priority}`, title: text, onclick: () => show(device) },
      h("span", { "aria-hidden": "true" }, device.tipo.slice(0, 2)), h("span", { class: "visually-hidden" }, text)));
  }

  tell(() => refresher.run());
  return { close: () => { store.close(); refresher.stop(); } };
}

/** `online`, `offline`, `silent`, `off` or `unknown`: what a device says, and what is proved. */
export function statusOf(device) {
  if (!device.activo) return "off";
  if (device.silencioso) return "silent";
  if (device.estado === "en_linea") return "online";
  return device.estado === "fuera_de_linea" ? "offline" : "unknown";
}

function show(device) {
  const rows = [
    [t("name"), device.nombre], [t("type"), device.tipo], [t("col_place"), `${device.empresa}/${device.sede}`],
    [t("status"), t(statusOf(device))],
    [t("status_since"), device.estado_desde && `${moment(device.estado_desde)} (${age(Date.parse(device.estado_desde))})`],
    [t("last_sign"), device.ultima_senal && `${moment(device.ultima_senal)} (${age(Date.parse(device.ultima_senal))})`],
    [t("trust"), device.confianza],
  ];
  return dialog({ title: device.hardware, body: facts(rows) });
}
