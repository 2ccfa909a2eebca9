// What an operator does to an alert, and the reason that goes with it.

import { call, path } from "./api.js";
import { dialog } from "./dom.js";
import { t } from "./i18n.js";

/** Acknowledges, resolves or discards an alert. */
export function step(id, verb, motivo) {
  return call("POST", path(["alertas", id, verb]), { body: motivo ? { motivo } : {} });
}

/** Asks why, which a false alarm must say; `submit({ motivo })` as of a dialog. */
export function stepDialog(verb, count, submit) {
  const discards = verb === "descartar";
  return dialog({
    title: t(`${verb}_many`, count), confirm: t(verb), danger: discards,
    fields: [{ name: "motivo", label: discards ? t("reason") : t("reason_optional"), required: discards, attributes: { maxlength: 500 } }],
    submit,
  });
}
