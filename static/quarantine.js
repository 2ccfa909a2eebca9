// Quarantine: messages that did not prove who sent them.

import { call, path } from "./api.js";
import { confirmed, dialog, h, toast } from "./dom.js";
import { moment } from "./format.js";
import { t } from "./i18n.js";
import { has } from "./session.js";
import { TablePage } from "./table-page.js";

/** Opens the page. */
export function open(root) {
  const handles = has("operador");
  return new TablePage(root, {
    title: t("quarantine"), parts: ["cuarentena"], empty: t("quarantine_empty"),
    columns: [["#", (one) => String(one.id)], [t("received"), (one) => moment(one.recibida)], [t("device"), (one) => one.hardware ?? "–"],
      [t("reason"), (one) => one.motivo], [t("detail"), (one) => one.detalle], [t("times"), (one) => String(one.veces)]],
    actions: () => [[t("show"), show], handles && [t("resubmit"), resubmit], handles && [t("remove"), release]],
  });
}

async function show(one) {
  await dialog({ title: `${t("quarantine")} #${one.id}`, wide: true, body: h("div", {},
    h("p", {}, one.tema ?? one.canal ?? ""), h("pre", {}, one.mensaje ?? one.mensaje_base64), h("p", { class: "muted" }, one.huella)) });
}

async function resubmit(one) {
  const made = await call("POST", path(["cuarentena", one.id, "reenviar"]), { body: {} });
  toast(t("saved"));
  return made;
}

async function release(one) {
  if (!await confirmed(t("remove"), t("remove_text", one.id), { danger: true, confirm: t("remove") })) return undefined;
  await call("DELETE", path(["cuarentena", one.id]));
  return true;
}
