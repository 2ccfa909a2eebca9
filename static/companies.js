// Companies and their sites.

import { call, path } from "./api.js";
import { dialog, h, toast } from "./dom.js";
import { moment } from "./format.js";
import { t } from "./i18n.js";
import { has } from "./session.js";
import { TablePage, adder, yes } from "./table-page.js";

const NAME = { maxlength: 100 };

/** Opens the page. */
export function open(root) {
  const manages = has("admin");
  let companies = null;
  let sites = null;
  companies = new TablePage(root, {
    title: t("companies"), parts: ["empresas"],
    tools: [manages && adder(t("add_company"), createCompany, () => companies)],
    columns: [[t("company"), (one) => one.empresa], [t("name"), (one) => one.nombre], [t("active"), (one) => yes(one.activa)],
      [t("broker_trust"), (one) => yes(one.confianza_broker)], [t("since"), (one) => moment(one.creada)]],
    actions: manages ? () => [[t("edit"), editCompany]] : undefined,
  });
  sites = new TablePage(root, {
    title: t("sites"), level: "h2", parts: ["sedes"],
    tools: [manages && adder(t("add_site"), createSite, () => sites)],
    columns: [[t("site"), (one) => `${one.empresa}/${one.sede}`], [t("name"), (one) => one.nombre], [t("time_zone"), (one) => one.zona_horaria],
      [t("active"), (one) => yes(one.activa)], [t("since"), (one) => moment(one.creada)]],
    actions: manages ? () => [[t("edit"), editSite]] : undefined,
  });
  return { close: () => { companies.close(); sites.close(); } };
}

/** A name in topics. */
export const slug = (name, label, value) => ({
  name, label, value, required: true, pattern: "[A-Za-z0-9_\\-]{1,64}", hint: t("slug_hint"), attributes: { autocomplete: "off", maxlength: 64 },
});

const named = (value) => ({ name: "nombre", label: t("name"), value, attributes: NAME });

const filled = (body) => Object.fromEntries(Object.entries(body).filter(([, value]) => value !== ""));

function saved(made) {
  toast(t("saved"));
  return made;
}

function createCompany() {
  return dialog({
    title: t("add_company"), confirm: t("save"), fields: [slug("empresa", t("company")), named()],
    submit: async (body) => saved(await call("POST", "/empresas", { body: filled(body) })),
  });
}

function editCompany(company) {
  return dialog({
    title: t("edit_one", company.empresa), confirm: t("save"),
    body: h("p", { class: "muted" }, t("broker_trust_text")),
    fields: [named(company.nombre), { name: "activa", label: t("active"), type: "checkbox", value: company.activa },
      { name: "confianza_broker", label: t("broker_trust"), type: "checkbox", value: company.confianza_broker }],
    submit: async (body) => saved(await call("PATCH", path(["empresas", company.empresa]), { body })),
  });
}

const zone = (value) => ({ name: "zona_horaria", label: t("time_zone"), value, hint: "America/Guayaquil", attributes: { maxlength: 64, list: "zones" } });

function createSite() {
  return dialog({
    title: t("add_site"), confirm: t("save"), fields: [slug("empresa", t("company")), slug("sede", t("site")), named(), zone()],
    submit: async (body) => saved(await call("POST", "/sedes", { body: filled(body) })),
  });
}

function editSite(site) {
  return dialog({
    title: t("edit_one", `${site.empresa}/${site.sede}`), confirm: t("save"),
    fields: [named(site.nombre), zone(site.zona_horaria), { name: "activa", label: t("active"), type: "checkbox", value: site.activa }],
    submit: async (body) => saved(await call("PATCH", path(["sedes", site.empresa, site.sede]), { body: filled(body) })),
  });
}
