// The audit: who signed in, was refused or changed what.

import { h, tell } from "./dom.js";
import { moment, pretty } from "./format.js";
import { t } from "./i18n.js";
import { TablePage } from "./table-page.js";

/** Opens the page. */
export function open(root) {
  const filter = { usuario: "" };
  let table = null;
  const who = h("input", { type: "search", placeholder: t("user"), "aria-label": t("user"), maxlength: 64,
    onchange: (event) => { filter.usuario = event.target.value.trim(); tell(() => table.load()); } });
  table = new TablePage(root, {
    title: t("audit"), parts: ["auditoria"], query: () => filter, tools: [who],
    columns: [["#", (one) => String(one.seq)], [t("date"), (one) => moment(one.timestamp)], [t("event"), (one) => one.suceso], [t("who"), (one) => one.por],
      [t("about"), (one) => [one.sobre, one.quien].filter(Boolean).join(" · ") || "–"], [t("from_where"), (one) => one.direccion ?? "–"],
      [t("detail"), (one) => (one.cambio ? h("details", {}, h("summary", {}, t("show")), h("pre", {}, pretty(one.cambio))) : one.detalle ?? "–")],
      [t("times"), (one) => String(one.veces)]],
  });
  return table;
}
