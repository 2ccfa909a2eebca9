// Elements, dialogs and short messages. Text goes in as text: nothing here ever parses HTML.

import { t } from "./i18n.js";

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "indeterminate", "open"]);

/** An element: `h("button", { class: "primary", onclick: act }, "Text")`. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  // A select knows its value only once it has its options.
  if (tag === "select" && attributes.value !== undefined) element.value = attributes.value;
  return element;
}

/** Appends children, lists of them and texts; leaves out what is not there. */
export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false) element.append(child);
  }
  return element;
}

/** Replaces all that is in `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, ...children);
}

/** Sets a text only where it differs: the browser then has nothing to do. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let fieldCount = 0;

/**
 * A labelled field. `spec`: name, label, type (text, password, number, textarea, select, checkbox,
 * datetime-local), value, options [[value, text]…], required, pattern, hint, and attributes.
 */
export function field(spec) {
  const id = `field-${++fieldCount}`;
  const hint = spec.hint && h("small", { id: `${id}-hint` }, spec.hint);
  const common = {
    id,
    name: spec.name,
    required: spec.required,
    disabled: spec.disabled,
    "aria-describedby": hint ? `${id}-hint` : undefined,
    ...spec.attributes,
  };
  const control = controlOf(spec, common);
  const label = h("label", { for: id }, spec.label);
  if (spec.type === "checkbox") return h("div", { class: "field check" }, control, label, hint);
  return h("div", { class: "field" }, label, control, hint);
}

function controlOf(spec, common) {
  switch (spec.type) {
    case "textarea":
      return h("textarea", { rows: 4, spellcheck: "false", ...common, value: spec.value ?? "" });
    case "select":
      return h("select", { ...common, value: spec.value ?? spec.options[0]?.[0] },
        spec.options.map(([value, text]) => h("option", { value }, text)));
    case "checkbox":
      return h("input", { type: "checkbox", ...common, checked: Boolean(spec.value) });
    default:
      return h("input", {
        type: spec.type ?? "text", pattern: spec.pattern, ...common, value: spec.value ?? "",
      });
  }
}

/** A list of names and what they are, [[name, text or element]…]; what is not there is left out. */
export function facts(rows, kind = "") {
  return h("dl", { class: `facts ${kind}` }, rows.filter(([, value]) => value)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A table that scrolls by itself where the screen is narrow; `heads` are texts or `th`. */
export function table(label, heads, body, kind = "") {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", { class: kind }, h("thead", {}, h("tr", {}, heads.map((head) =>
      (head instanceof Node ? head : h("th", { scope: "col" }, head))))), body));
}

/** What is in a form, by name: texts, and whether boxes are checked. */
export function valuesOf(form) {
  const values = {};
  for (const control of form.elements) {
    if (!control.name) continue;
    values[control.name] = control.type === "checkbox" ? control.checked : control.value.trim();
  }
  return values;
}

/**
 * A dialog with a form. `submit(values)` may throw an error, which is shown while the dialog stays;
 * what it returns is what the promise gives, `undefined` where the dialog is left.
 */
export function dialog({ title, body, fields = [], confirm, danger = false, wide = false, submit }) {
  return new Promise((resolve) => {
    let result;
    let busy = false;
    const error = h("p", { class: "error", role: "alert", hidden: true });
    const go = h("button", { class: danger ? "danger" : "primary", value: "go" }, confirm ?? t("ok"));
    const leave = h("button", { type: "button", onclick: () => box.close() },
      submit ? t("cancel") : t("close"));
    const form = h("form", { method: "dialog", onsubmit: send },
      h("h2", { id: `dialog-${++fieldCount}` }, title), body,
      fields.map((one) => (one instanceof Node ? one : field(one))), error,
      h("div", { class: "actions" }, leave, submit && go));
    const box = h("dialog", {
      "aria-labelledby": `dialog-${fieldCount}`, class: wide ? "wide" : "",
      onclose: () => { box.remove(); resolve(result); },
      // Escape must not leave an order half given.
      oncancel: (event) => { if (busy) event.preventDefault(); },
    }, form);

    async function send(event) {
      event.preventDefault();
      if (busy || !submit) return;
      busy = true;
      go.disabled = leave.disabled = true;
      go.setAttribute("aria-busy", "true");
      error.hidden = true;
      try {
        result = (await submit(valuesOf(form), form)) ?? true;
        busy = false;
        box.close();
      } catch (problem) {
        error.textContent = problem.message;
        error.hidden = false;
      } finally {
        busy = false;
        go.disabled = leave.disabled = false;
        go.removeAttribute("aria-busy");
      }
    }

    document.body.append(box);
    box.showModal();
    form.querySelector("input, select, textarea")?.focus();
  });
}

/** Whether somebody agrees. */
export function confirmed(title, text, { danger = false, confirm } = {}) {
  return dialog({ title, body: h("p", {}, text), danger, confirm, submit: () => true });
}

/** A short message that goes by itself. */
export function toast(text, kind = "info") {
  const shown = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), kind === "error" ? 10_000 : 5_000);
}

/** Something that is shown once, to be copied. */
export function secretDialog(title, text, secret) {
  const code = h("code", { class: "secret", tabindex: 0 }, secret);
  const copy = h("button", { type: "button", onclick: () => copyText(secret) }, t("copy"));
  return dialog({ title, body: h("div", {}, h("p", {}, text), h("p", { class: "row" }, code, copy)) });
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("copied"));
  } catch {
    toast(t("copy_by_hand"), "error");
  }
}

/** Runs `work` and says what went wrong, where something did. */
export async function tell(work) {
  try {
    return await work();
  } catch (problem) {
    toast(problem.message, "error");
    return undefined;
  }
}

/** Between two drawings of what comes by itself, in milliseconds: more than anybody could read. */
const CALM = 150;

/**
 * Calls `work` soon, however often it is asked for, and leaves the time between to whoever clicks; once
 * a second while nobody looks.
 */
export function coalesced(work) {
  let waits = false;
  let last = 0;
  return () => {
    if (waits) return;
    waits = true;
    const run = () => { waits = false; last = performance.now(); work(); };
    if (document.hidden) setTimeout(run, 1_000);
    else setTimeout(() => requestAnimationFrame(run), Math.max(0, last + CALM - performance.now()));
  };
}
