// Devices: what is registered, how it is, its keys, its password at the broker, and its secret where it
// is one from before Atalaya.

import { statusOf } from "./board.js";
import { slug } from "./companies.js";
import { all, call, path } from "./api.js";
import { confirmed, dialog, fill, h, secretDialog, table, tell, toast } from "./dom.js";
import { moment } from "./format.js";
import { t } from "./i18n.js";
import { has } from "./session.js";
import { TablePage, adder } from "./table-page.js";

/** Opens the page. */
export function open(root) {
  const manages = has("admin", "operador");
  const filter = { empresa: "", sede: "", tipo: "" };
  let table = null;
  const narrow = (name, label) => h("input", { type: "search", placeholder: label, "aria-label": label, maxlength: 64,
    onchange: (event) => { filter[name] = event.target.value.trim(); tell(() => table.load()); } });
  table = new TablePage(root, {
    title: t("devices"), parts: ["hardware"], query: () => filter,
    tools: [manages && adder(t("add_device"), create, () => table), narrow("empresa", t("company")), narrow("sede", t("site")), narrow("tipo", t("type"))],
    columns: [[t("device"), (one) => one.hardware], [t("name"), (one) => one.nombre], [t("col_place"), (one) => `${one.empresa}/${one.sede}`],
      [t("type"), (one) => one.tipo], [t("status"), (one) => h("span", { class: `status ${statusOf(one)}` }, t(statusOf(one)))],
      [t("last_sign"), (one) => moment(one.ultima_senal)], [t("trust"), (one) => one.confianza],
      [t("keys"), (one) => String(one.claves.filter((key) => !key.revocada).length)]],
    actions: manages ? (one) => [[t("edit"), edit], [t("keys"), keys], [t("broker_password"), password],
      one.confianza === "heredada" && [t("legacy_secret"), legacySecret]] : undefined,
  });
  return table;
}

const trust = (value) => ({ name: "confianza", label: t("trust"), type: "select", value: value ?? "firma",
  options: [["firma", t("trust_firma")], ["broker", t("trust_broker")], ["heredada", t("trust_heredada")]] });

async function types() {
  return (await all(["tipos_hardware"])).map((one) => [one.tipo, one.descripcion ? `${one.tipo} · ${one.descripcion}` : one.tipo]);
}

async function create() {
  const options = await types();
  return dialog({
    title: t("add_device"), confirm: t("save"),
    fields: [slug("hardware", t("device")), slug("empresa", t("company")), slug("sede", t("site")),
      { name: "tipo", label: t("type"), type: "select", options }, { name: "nombre", label: t("name"), attributes: { maxlength: 100 } }, trust()],
    submit: async ({ nombre, ...body }) => {
      const made = await call("POST", "/hardware", { body: nombre ? { ...body, nombre } : body });
      toast(t("saved"));
      return made;
    },
  });
}

async function edit(device) {
  const options = await types();
  return dialog({
    title: t("edit_one", device.hardware), confirm: t("save"),
    fields: [{ name: "nombre", label: t("name"), value: device.nombre, attributes: { maxlength: 100 } },
      { name: "tipo", label: t("type"), type: "select", value: device.tipo, options },
      { name: "activo", label: t("active"), type: "checkbox", value: device.activo }, trust(device.confianza)],
    submit: async (body) => {
      const made = await call("PATCH", path(["hardware", device.hardware]), { body });
      toast(t("saved"));
      return made;
    },
  });
}

async function keys(device) {
  const list = h("tbody", {});
  const show = async () => {
    const found = await all(["hardware", device.hardware, "claves"]);
    fill(list, found.map((key) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, key.kid)), h("td", {}, key.alg), h("td", {}, moment(key.creada)),
      h("td", {}, key.revocada ? t("revoked_at", moment(key.revocada)) : h("button", { type: "button", class: "danger", "aria-label": `${t("revoke")}: ${key.kid}`,
        onclick: () => tell(async () => {
          if (!await confirmed(t("revoke"), t("revoke_text", key.kid), { danger: true, confirm: t("revoke") })) return;
          await call("DELETE", path(["hardware", device.hardware, "claves", key.kid]));
          await show();
        }) }, t("revoke"))))));
  };
  await show();
  const add = (alg) => h("button", { type: "button", onclick: () => tell(async () => { if (await addKey(device, alg)) await show(); }) }, t(`add_key_${alg}`));
  await dialog({
    title: t("keys_of", device.hardware), wide: true,
    body: h("div", {}, table(t("keys"), ["kid", "alg", "since", "actions"].map((name) => t(name)), list),
    h("div", { class: "row" }, add("EdDSA"), add("HS256")), h("p", { class: "muted" }, t("enrol_hint"))),
  });
  return true;
}

async function addKey(device, alg) {
  const made = await dialog({
    title: t(`add_key_${alg}`), confirm: t("save"), body: h("p", {}, t(`key_text_${alg}`)),
    fields: alg === "EdDSA" ? [{ name: "clave_publica", label: t("public_key"), required: true, attributes: { maxlength: 100 } }] : [],
    submit: (body) => call("POST", path(["hardware", device.hardware, "claves"]), { body: { alg, ...body } }),
  });
  if (made?.secreto) await secretDialog(t("shared_secret"), t("shown_once"), made.secreto);
  return made;
}

async function password(device) {
  const made = await dialog({
    title: t("broker_password"), danger: Boolean(device.contrasena_mqtt), confirm: t("make_password"),
    body: h("p", {}, t(device.contrasena_mqtt ? "broker_password_again" : "broker_password_first", device.hardware)),
    submit: () => call("POST", path(["hardware", device.hardware, "contrasena_mqtt"]), { body: {} }),
  });
  if (made) await secretDialog(t("broker_password"), t("shown_once"), made.contrasena);
  return made;
}

async function legacySecret(device) {
  const made = await dialog({
    title: t("legacy_secret"), danger: Boolean(device.secreto_heredado), confirm: t("make_secret"),
    body: h("p", {}, t(device.secreto_heredado ? "legacy_secret_again" : "legacy_secret_first", device.hardware)),
    submit: () => call("POST", path(["hardware", device.hardware, "secreto_heredado"]), { body: {} }),
  });
  if (made) await secretDialog(t("legacy_secret"), t("shown_once"), made.secreto);
  return made;
}
