// The page: who is in, where they are, and whether events come live.

import { call, onSignedOut, setCsrf } from "./api.js";
import { add, dialog, fill, h, setText, tell } from "./dom.js";
import { setCurrency } from "./format.js";
import { chooseLanguage, language, t } from "./i18n.js";
import * as live from "./live.js";
import { health } from "./refresh.js";
import { has, hasEverywhere, me, setIdentity } from "./session.js";
import { choice, choose } from "./settings.js";
import { choosePassword, secondFactor, signInPage } from "./sign-in.js";

const app = document.getElementById("app");

/** Where one can go: address, name, who for, and the module that opens it. */
const PLACES = [
  ["vigilancia", "watch", ["operador", "auditor"], () => import("./watch.js")],
  ["tablero", "board", ["operador", "auditor"], () => import("./board.js")],
  ["caja", "counter", ["cajero"], () => import("./counter.js")],
  ["cuenta", "my_account", ["cliente"], () => import("./account.js")],
  ["consulta", "accounts", ["auditor"], () => import("./counter.js")],
  ["sistema", "system", ["admin", "auditor"], () => import("./system.js")],
  ["registros", "logs", ["admin", "auditor"], () => import("./logs.js")],
  ["personas", "people", ["admin", "auditor"], () => import("./people.js")],
  ["empresas", "companies", ["admin", "operador", "auditor"], () => import("./companies.js")],
  ["hardware", "devices", ["admin", "operador", "auditor"], () => import("./devices.js")],
  ["reglas", "rules", ["admin", "operador", "auditor"], () => import("./rules.js")],
  ["cuarentena", "quarantine", ["operador", "auditor"], () => import("./quarantine.js")],
  ["auditoria", "audit", ["admin", "auditor"], () => import("./audit.js")],
];

/** What is about the installation as a whole, and not for whoever is of one company. */
const WHOLE = new Set(["sistema", "registros"]);

let page = null;
let opening = 0;

function places() {
  const own = PLACES.filter(([address, , roles]) => (WHOLE.has(address) ? hasEverywhere(...roles) : has(...roles)));
  // Whoever moves money has the same page already.
  return own.filter(([address]) => address !== "consulta" || !has("cajero"));
}

function applyTheme() {
  const theme = choice("theme", "auto");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function chooser(label, options, value, chosen) {
  return h("select", { "aria-label": label, title: label, value, onchange: (e) => chosen(e.target.value) },
    options.map(([key, text]) => h("option", { value: key }, text)));
}

/** Language and colours: on every page, also before signing in. */
function preferences() {
  return [
    chooser(t("language"), [["es", "Español"], ["en", "English"]], language(), (value) => {
      chooseLanguage(value);
      render();
    }),
    chooser(t("theme"), [["auto", t("theme_auto")], ["light", t("theme_light")], ["dark", t("theme_dark")]],
      choice("theme", "auto"), (value) => { choose("theme", value); applyTheme(); window.dispatchEvent(new Event("atalaya:theme")); }),
  ];
}

function connectionBadge() {
  const text = h("span", {});
  const badge = h("span", { class: "connection", role: "status", "data-connection": "" },
    h("span", { class: "dot", "aria-hidden": "true" }), text);
  const show = (state) => {
    badge.dataset.connection = state;
    setText(text, t(`connection_${state}`));
  };
  show(live.connectionState());
  unwatchBadge();
  unwatchBadge = live.watchConnection(show);
  return badge;
}

let unwatchBadge = () => {};

function header() {
  const menu = h("nav", { "aria-label": t("pages") }, h("ul", {}, places().map(([address, name]) =>
    h("li", {}, h("a", { href: `#/${address}` }, t(name))))));
  const account = h("details", { class: "menu" }, h("summary", {}, me().usuario),
    h("div", { class: "card" },
      h("p", { class: "muted" }, me().roles.map(({ rol }) => rol).join(", ")), preferences(),
      h("button", { type: "button", onclick: () => choosePassword() }, t("choose_password")),
      h("button", { type: "button", onclick: () => tell(() => secondFactor(me())) },
        me().segundo_factor ? t("factor_remove") : t("factor_add")),
      h("button", { type: "button", onclick: shortcuts }, t("shortcuts")),
      h("button", { type: "button", onclick: signOut }, t("sign_out"))));
  return h("header", { class: "top" },
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/app/icon.svg", alt: "", width: 28, height: 28 }), "Atalaya"),
    connectionBadge(), menu, h("div", { class: "row end" }, account));
}

function shortcuts() {
  const keys = [["j k ↑ ↓", "key_move"], ["x", "key_select"], ["a", "key_acknowledge"], ["r", "key_resolve"],
    ["d", "key_discard"], ["Enter", "key_open"], ["?", "key_help"]];
  return dialog({
    title: t("shortcuts"),
    body: h("dl", { class: "keys" }, keys.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(text))])),
  });
}

async function signOut() {
  await call("DELETE", "/sesiones/actual").catch(() => {});
  leave();
}

/** Back to the door. */
function leave(notice) {
  page?.close?.();
  page = null;
  live.stop();
  choose("signed_in", false);
  setIdentity(null);
  setCsrf(null);
  render(notice);
}

async function enter(identity) {
  choose("signed_in", true);
  setIdentity(identity);
  setCsrf(identity.csrf);
  if (identity.cambiar_contrasena) {
    // Nothing else is permitted until there is one; then they sign in with it.
    fill(app, h("main", { id: "main", class: "center" }));
    const chosen = await choosePassword({ forced: true });
    if (!chosen) return signOut();
    const fresh = await call("GET", "/sesiones/actual").catch(() => null);
    if (!fresh) return leave(t("sign_in_again"));
    return enter(fresh);
  }
  render();
  live.start();
}

function render(notice) {
  document.documentElement.lang = language();
  if (!me()) {
    document.title = "Atalaya";
    signInPage(app, enter, typeof notice === "string" ? notice : undefined);
    app.prepend(h("header", { class: "row end door" }, preferences()));
    return;
  }
  fill(app, h("a", { class: "skip", href: "#main", onclick: skip }, t("skip")), header(),
    h("main", { id: "main", tabindex: -1 }));
  route();
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

async function route() {
  if (!me()) return;
  const [address, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const own = places();
  const alert = address === "alerta" && has("operador", "auditor");
  const place = own.find(([name]) => name === address) ?? (alert ? null : own[0]);
  const number = ++opening;
  page?.close?.();
  page = null;
  for (const link of document.querySelectorAll("header nav a")) {
    const current = place && link.getAttribute("href") === `#/${place[0]}`;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const main = document.getElementById("main");
  delete main.dataset.page;
  if (!place && !alert) {
    fill(main, h("h1", {}, t("nothing_for_you")), h("p", {}, t("nothing_for_you_text")));
    return;
  }
  try {
    const module = alert ? await import("./alert.js") : await place[3]();
    if (number !== opening) return;
    const name = alert ? t("alert") : t(place[1]);
    document.title = `${name} · Atalaya`;
    fill(main);
    page = module.open(main, rest) ?? null;
    main.dataset.page = alert ? "alerta" : place[0];
  } catch (error) {
    if (number !== opening) return;
    fill(main, h("p", { class: "error", role: "alert" }, error.message),
      h("button", { onclick: () => location.reload() }, t("again")));
    throw error;
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
  if (event.key === "?" && !typing && me()) shortcuts();
});
document.addEventListener("click", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
});
window.addEventListener("hashchange", route);
onSignedOut((problem) => { if (me()) leave(problem.message); });
window.addEventListener("unhandledrejection", (event) => {
  // What nobody waits for any more: an answer that came after its page was left.
  if (event.reason?.name === "AbortError") event.preventDefault();
});

applyTheme();
add(app, h("p", { class: "center muted" }, "…"));
health().then(({ moneda }) => moneda && setCurrency(moneda), () => {});
// Whoever was not in here has no cookie to ask about.
if (choice("signed_in", false)) call("GET", "/sesiones/actual").then(enter, () => leave());
else render();
