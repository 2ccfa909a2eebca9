// Rules: what happens when an alert arrives, tried on what has happened before it is switched on.

import { slug } from "./companies.js";
import { all, call, path } from "./api.js";
import { add, dialog, fill, h, table, tell, toast, valuesOf } from "./dom.js";
import { moment, pretty } from "./format.js";
import { t } from "./i18n.js";
import { has } from "./session.js";
import { TablePage, adder, yes } from "./table-page.js";

const EXAMPLE = [{ accion: "notificar", grupo: "guardia" }];

/** Opens the page. */
export function open(root) {
  const manages = has("admin", "operador");
  let table = null;
  table = new TablePage(root, {
    title: t("rules"), parts: ["reglas"],
    tools: [manages && adder(t("add_rule"), () => editor(), () => table)],
    columns: [[t("name"), (one) => one.nombre], [t("company"), (one) => one.empresa], [t("condition"), (one) => h("code", {}, one.condicion)],
      [t("rule_actions"), (one) => one.acciones.map((action) => h("span", { class: "chip" }, actionText(action)))],
      [t("order"), (one) => String(one.orden)], [t("active"), (one) => yes(one.activa)], [t("version"), (one) => `${one.version} · ${moment(one.modificada)}`]],
    actions: (rule) => [[t("try_out"), () => trial({ regla_id: rule.id }, rule.nombre)], manages && [t("edit"), editor],
      manages && [t(rule.activa ? "switch_off" : "switch_on"), toggle], [t("versions"), versions]],
  });
  return table;
}

function actionText(action) {
  const about = action.grupo ?? action.prioridad ?? action.tipos?.join(", ") ?? "";
  return about ? `${action.accion}: ${about}` : action.accion;
}

async function toggle(rule) {
  const made = await call("PATCH", path(["reglas", rule.id]), { body: { activa: !rule.activa, version: rule.version } });
  toast(t("saved"));
  return made;
}

function read(values) {
  let acciones;
  try {
    acciones = JSON.parse(values.acciones);
  } catch (error) {
    throw new Error(t("json_wrong", t("rule_actions"), error.message));
  }
  return { nombre: values.nombre, condicion: values.condicion, acciones, orden: Number(values.orden), activa: values.activa };
}

function editor(rule) {
  const tried = h("div", {});
  const attempt = h("button", { type: "button", onclick: async (event) => {
    const values = valuesOf(event.target.form);
    try {
      const body = { empresa: rule?.empresa ?? values.empresa, ...read(values) };
      fill(tried, results(await call("POST", "/reglas/prueba", { body: { regla: body, dias: 7 } })));
    } catch (problem) {
      // Here: a message of the page would stand behind the dialog.
      fill(tried, h("p", { class: "error", role: "status", "data-trial": "" }, problem.message));
    }
  } }, t("try_week"));
  return dialog({
    title: rule ? t("edit_one", rule.nombre) : t("add_rule"), confirm: t("save"), wide: true,
    fields: [
      ...(rule ? [] : [slug("empresa", t("company"))]),
      { name: "nombre", label: t("name"), value: rule?.nombre, required: true, attributes: { maxlength: 100 } },
      { name: "condicion", label: t("condition"), type: "textarea", required: true, value: rule?.condicion ?? "alerta.prioridad == 'critica'", hint: t("condition_hint"), attributes: { rows: 3, class: "code" } },
      { name: "acciones", label: t("rule_actions"), type: "textarea", required: true, value: pretty(rule?.acciones ?? EXAMPLE), hint: t("actions_hint"), attributes: { rows: 8, class: "code" } },
      { name: "orden", label: t("order"), type: "number", value: String(rule?.orden ?? 50), hint: t("order_hint"), required: true },
      { name: "activa", label: t("active"), type: "checkbox", value: rule?.activa ?? true },
      h("div", { class: "row" }, attempt), tried,
    ],
    submit: async (values) => {
      const body = read(values);
      const made = rule
        ? await call("PATCH", path(["reglas", rule.id]), { body: { ...body, version: rule.version } })
        : await call("POST", "/reglas", { body: { empresa: values.empresa, ...body } });
      toast(t("saved"));
      return made;
    },
  });
}

function results(found) {
  const one = (result) => h("tr", {}, h("th", { scope: "row" }, result.alerta_id ? h("a", { href: `#/alerta/${result.alerta_id}` }, result.alerta_id.slice(0, 8)) : "–"),
    h("td", {}, t(`priority_${result.prioridad}`)), h("td", {}, result.comandos.map(({ hardware }) => h("span", { class: "chip" }, hardware))),
    h("td", {}, result.notificar.join(", ")), h("td", {}, yes(result.congela_retiros)), h("td", {}, result.errores.join("; ")));
  return h("div", { role: "status", "data-trial": "" }, h("p", {}, t("trial_result", found.coinciden, found.probadas)),
    found.resultados.length > 0 && table(t("try_out"),
      ["alert", "col_priority", "driven", "notified", "freezes", "errors"].map((name) => t(name)),
      h("tbody", {}, found.resultados.slice(0, 50).map(one))));
}

async function trial(asked, name) {
  const place = h("div", {});
  const run = async (dias) => fill(place, results(await call("POST", "/reglas/prueba", { body: { ...asked, dias } })));
  await run(7);
  await dialog({ title: t("try_one", name), wide: true, body: h("div", {}, h("div", { class: "row" }, [1, 7, 30, 90].map((days) =>
    h("button", { type: "button", onclick: () => tell(() => run(days)) }, t("days", days)))), place) });
}

async function versions(rule) {
  const found = await all(["reglas", rule.id, "versiones"]);
  const list = h("ol", { class: "history" });
  add(list, found.map((one) => h("li", {}, h("p", {}, h("b", {}, `v${one.version}`), ` · ${moment(one.modificada)} · ${yes(one.activa)}`),
    h("pre", {}, one.condicion), h("p", {}, one.acciones.map((action) => h("span", { class: "chip" }, actionText(action)))))));
  await dialog({ title: t("versions_of", rule.nombre), wide: true, body: list });
}
