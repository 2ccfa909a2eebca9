// People: who there is, what they may do, and a first password that is shown once.

import { call, path } from "./api.js";
import { add, dialog, field, h, secretDialog, toast } from "./dom.js";
import { moment, roles } from "./format.js";
import { t } from "./i18n.js";
import { has } from "./session.js";
import { TablePage, adder, yes } from "./table-page.js";

const ROLES = ["operador", "cajero", "cliente", "auditor", "admin"];

/** Opens the page. */
export function open(root) {
  const manages = has("admin");
  let table = null;
  table = new TablePage(root, {
    title: t("people"), parts: ["usuarios"],
    tools: [manages && adder(t("add_person"), create, () => table)],
    columns: [[t("user"), (one) => one.usuario], [t("name"), (one) => one.nombre], [t("roles"), (one) => roles(one.roles)],
      [t("active"), (one) => yes(one.activo)], [t("second_factor"), (one) => yes(one.segundo_factor)], [t("since"), (one) => moment(one.creado)]],
    actions: manages ? (one) => [[t("edit"), edit], [t("new_password"), newPassword], one.segundo_factor && [t("factor_remove"), removeFactor]] : undefined,
  });
  return table;
}

/** A list of roles with where each holds. */
function grantEditor(given) {
  const list = h("div", { class: "grants" });
  const one = (grant = {}) => {
    const scope = (name, label) => field({ name: "", label, value: grant[name], attributes: { "data-scope": name, maxlength: 64 } });
    const parts = { empresa: scope("empresa", t("company")), sede: scope("sede", t("site")), cedula: scope("cedula", t("cedula")) };
    const role = field({ name: "", label: t("role"), type: "select", value: grant.rol ?? "operador", options: ROLES.map((name) => [name, name]),
      attributes: { "data-scope": "rol", onchange: show } });
    const select = role.querySelector("select");
    function show() {
      const wanted = { admin: [], operador: ["empresa"], auditor: ["empresa"], cajero: ["empresa", "sede"], cliente: ["cedula"] }[select.value];
      for (const [name, part] of Object.entries(parts)) part.hidden = !wanted.includes(name);
    }
    show();
    const row = h("fieldset", { class: "grant" }, h("legend", {}, t("role")), role, Object.values(parts),
      h("button", { type: "button", class: "quiet", onclick: () => row.remove() }, t("remove")));
    return row;
  };
  add(list, given.map(one));
  const more = h("button", { type: "button", onclick: () => list.append(one()) }, t("add_role"));
  const element = h("div", { class: "field" }, list, more);
  const value = () => [...list.children].map((row) => {
    const grant = {};
    for (const control of row.querySelectorAll("[data-scope]")) {
      const text = control.value.trim();
      if (text && !control.closest(".field").hidden) grant[control.dataset.scope] = text;
    }
    return grant;
  });
  return { element, value };
}

function told(person) {
  return secretDialog(t("first_password"), t("first_password_text", person.usuario), person.contrasena);
}

async function create() {
  const grants = grantEditor([{}]);
  const made = await dialog({
    title: t("add_person"), confirm: t("add_person"), wide: true,
    fields: [
      { name: "usuario", label: t("user"), required: true, pattern: "[A-Za-z0-9_\\-]{1,64}", hint: t("slug_hint"), attributes: { autocomplete: "off" } },
      { name: "nombre", label: t("name"), attributes: { maxlength: 100, autocomplete: "off" } },
      grants.element,
    ],
    submit: ({ usuario, nombre }) => call("POST", "/usuarios", { body: { usuario, ...(nombre && { nombre }), roles: grants.value() } }),
  });
  if (made) await told(made);
  return made;
}

function edit(person) {
  const grants = grantEditor(person.roles);
  return dialog({
    title: t("edit_one", person.usuario), confirm: t("save"), wide: true,
    fields: [
      { name: "nombre", label: t("name"), value: person.nombre, attributes: { maxlength: 100 } },
      { name: "activo", label: t("active"), type: "checkbox", value: person.activo },
      grants.element,
    ],
    submit: async ({ nombre, activo }) => {
      await call("PATCH", path(["usuarios", person.usuario]), { body: { nombre, activo, roles: grants.value() } });
      toast(t("saved"));
      return true;
    },
  });
}

async function newPassword(person) {
  const made = await dialog({
    title: t("new_password"), body: h("p", {}, t("new_password_text", person.usuario)), danger: true, confirm: t("new_password"),
    submit: () => call("PATCH", path(["usuarios", person.usuario]), { body: { nueva_contrasena: true } }),
  });
  if (made) await told(made);
  return made;
}

function removeFactor(person) {
  return dialog({
    title: t("factor_remove"), body: h("p", {}, t("factor_remove_text", person.usuario)), danger: true, confirm: t("factor_remove"),
    submit: () => call("PATCH", path(["usuarios", person.usuario]), { body: { segundo_factor: false } }),
  });
}
