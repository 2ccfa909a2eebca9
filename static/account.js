// My account: what a customer sees.

import { add, fill, h, tell } from "./dom.js";
import { t } from "./i18n.js";
import { accountView } from "./movements.js";
import { autoRefresh } from "./refresh.js";
import { grants } from "./session.js";

/** Opens the page. */
export function open(root) {
  const own = grants("cliente").map(({ cedula }) => cedula);
  let view = null;
  const place = h("div", {});
  const refresher = autoRefresh(() => view?.load());
  const pick = own.length > 1 && h("select", { "aria-label": t("account"), onchange: (event) => show(event.target.value) },
    own.map((id) => h("option", { value: id }, id)));
  add(root, h("div", { class: "page-head" }, h("h1", {}, t("my_account")), pick, h("div", { class: "row end" }, refresher.element)), place);

  function show(id) {
    view?.close();
    view = accountView(id);
    fill(place, view.element);
    tell(() => refresher.run());
  }

  if (own.length) show(own[0]);
  return { close: () => { view?.close(); refresher.stop(); } };
}
