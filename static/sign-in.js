// Signing in, and the password that must be chosen at first.

import { call } from "./api.js";
import { dialog, field, fill, h, toast, valuesOf } from "./dom.js";
import { t } from "./i18n.js";

/** Shows the form; `entered` is told who has come in. */
export function signInPage(root, entered, notice) {
  const error = h("p", { class: "error", role: "alert", hidden: !notice }, notice ?? "");
  const code = field({
    name: "codigo", label: t("code"), hint: t("code_hint"),
    attributes: { inputmode: "numeric", autocomplete: "one-time-code", maxlength: 6 },
  });
  code.hidden = true;
  const button = h("button", { class: "primary" }, t("sign_in"));
  const form = h("form", { class: "card sign-in", onsubmit: send },
    h("h1", {}, h("img", { src: "/app/icon.svg", alt: "", width: 40, height: 40 }), "Atalaya"),
    h("p", { class: "muted" }, t("sign_in_text")),
    field({ name: "usuario", label: t("user"), required: true,
      attributes: { autocomplete: "username", autocapitalize: "none", spellcheck: "false" } }),
    field({ name: "contrasena", label: t("password"), type: "password", required: true,
      attributes: { autocomplete: "current-password" } }),
    code, error, button);
  fill(root, h("main", { id: "main", class: "center" }, form));
  form.querySelector("input").focus();

  async function send(event) {
    event.preventDefault();
    button.disabled = true;
    error.hidden = true;
    const { usuario, contrasena, codigo } = valuesOf(form);
    const body = { usuario, contrasena: form.elements.contrasena.value || contrasena, cookie: true };
    if (codigo) body.codigo = codigo;
    try {
      entered(await call("POST", "/sesiones", { body }));
    } catch (problem) {
      const asked = ["falta_codigo", "codigo_incorrecto"].includes(problem.codigo);
      code.hidden = !asked;
      error.textContent = problem.message;
      error.hidden = false;
      button.disabled = false;
      form.elements[asked ? "codigo" : "contrasena"].focus();
    }
  }
}

/** Asks for a new password; gives whether one was chosen. */
export function choosePassword({ forced = false } = {}) {
  const password = (name, label, autocomplete, hint) => ({
    name, label, type: "password", required: true, hint, attributes: { autocomplete },
  });
  return dialog({
    title: t("choose_password"),
    body: forced && h("p", {}, t("choose_password_text")),
    fields: [
      password("actual", t("password_now"), "current-password"),
      password("nueva", t("password_new"), "new-password", t("password_rule")),
      password("otra", t("password_again"), "new-password"),
    ],
    submit: async (values, form) => {
      const [now, next, again] = ["actual", "nueva", "otra"].map((name) => form.elements[name].value);
      if (next !== again) throw new Error(t("passwords_differ"));
      await call("PUT", "/sesiones/actual/contrasena", { body: { actual: now, nueva: next } });
      toast(t("password_chosen"));
      return true;
    },
  });
}

/** Sets up or takes away the second factor. */
export async function secondFactor(identity) {
  if (identity.segundo_factor) {
    return dialog({
      title: t("factor_remove"), danger: true, confirm: t("factor_remove"),
      fields: [{ name: "contrasena", label: t("password"), type: "password", required: true,
        attributes: { autocomplete: "current-password" } }],
      submit: async (_, form) => {
        const body = { contrasena: form.elements.contrasena.value };
        await call("DELETE", "/sesiones/actual/segundo_factor", { body });
        identity.segundo_factor = false;
      },
    });
  }
  const made = await dialog({
    title: t("factor_add"), confirm: t("go_on"),
    fields: [{ name: "contrasena", label: t("password"), type: "password", required: true,
      attributes: { autocomplete: "current-password" } }],
    submit: (_, form) => call("POST", "/sesiones/actual/segundo_factor", { body: { contrasena: form.elements.contrasena.value } }),
  });
  if (!made) return undefined;
  return dialog({
    title: t("factor_add"), confirm: t("factor_prove"),
    body: h("div", {}, h("p", {}, t("factor_text")), h("p", {}, h("code", { class: "secret" }, made.secreto)),
      h("p", {}, h("a", { href: made.uri }, t("factor_link")))),
    fields: [{ name: "codigo", label: t("code"), required: true,
      attributes: { inputmode: "numeric", autocomplete: "one-time-code", maxlength: 6 } }],
    submit: async ({ codigo }) => {
      await call("PUT", "/sesiones/actual/segundo_factor", { body: { codigo } });
      identity.segundo_factor = true;
      toast(t("factor_added"));
    },
  });
}
