// The watch: open alerts by priority, to be acknowledged, resolved or discarded, many at once.

import { alarm, isLoud, notifies, setLoud, setNotifies } from "./alarm.js";
import { step, stepDialog } from "./alert-step.js";
import { AlertStore, PRIORITIES } from "./alerts-store.js";
import { add, coalesced, fill, h, setText, tell, toast } from "./dom.js";
import { feed } from "./feed.js";
import { age } from "./format.js";
import { t } from "./i18n.js";
import { autoRefresh } from "./refresh.js";
import { has } from "./session.js";
import { VirtualList } from "./virtual-list.js";

/** After the pointer has moved over the list, rows stay where they are for so long. */
const STILL = 1_200;

/** Requests under way at once when many alerts are handled. */
const AT_ONCE = 6;

const VERBS = { a: "reconocer", r: "resolver", d: "descartar" };

/** Opens the page. */
export function open(root) {
  return new Watch(root);
}

class Watch {
  constructor(root) {
    this.selected = new Set();
    this.active = null;
    this.still = 0;
    this.filter = { priority: "", state: "", text: "" };
    this.mayHandle = has("operador");
    const draw = coalesced(() => this.draw());
    this.feed = feed();
    this.store = new AlertStore({
      changed: draw,
      arrived: (alert) => { if (alert.prioridad === "critica") alarm(alert); },
      happened: (event) => { if (!event.quiet) this.feed.alert(event); },
    });
    this.list = new VirtualList({
      create: () => this.createRow(), show: (row, alert) => this.showRow(row, alert),
      key: (alert) => alert.alerta_id,
      attributes: { role: "table", tabindex: 0, "aria-label": t("open_alerts"), "data-alerts": "" },
    });
    this.list.element.prepend(this.headRow());
    this.refresher = autoRefresh(() => this.store.load());
    this.build(root);
    this.ticker = setInterval(() => this.list.render(), 1_000);
    this.keys = (event) => this.key(event);
    document.addEventListener("keydown", this.keys);
    for (const kind of ["pointermove", "pointerdown"]) {
      this.list.element.addEventListener(kind, () => { this.still = Date.now() + STILL; }, { passive: true });
    }
    this.draw();
    tell(() => this.refresher.run());
  }

  close() {
    document.removeEventListener("keydown", this.keys);
    clearInterval(this.ticker);
    clearTimeout(this.late);
    this.refresher.stop();
    this.store.close();
    this.list.close();
    this.feed.close();
  }

  build(root) {
    this.counts = h("ul", { class: "counts", "aria-label": t("by_priority") });
    this.bulk = h("div", { class: "bulk", hidden: true, role: "region", "aria-label": t("selection") });
    this.empty = h("p", { class: "empty", hidden: true }, t("no_open_alerts"));
    this.all = h("input", { type: "checkbox", "aria-label": t("select_all"), onchange: () => this.selectAll() });
    const state = h("select", { "aria-label": t("state"), onchange: (e) => this.narrow({ state: e.target.value }) },
      [["", t("any_state")], ["NUEVA", t("state_NUEVA")], ["RECONOCIDA", t("state_RECONOCIDA")]]
        .map(([value, text]) => h("option", { value }, text)));
    const search = h("input", { type: "search", placeholder: t("filter_alerts"), "aria-label": t("filter_alerts"),
      oninput: (e) => this.narrow({ text: e.target.value.trim().toLowerCase() }) });
    const sound = h("input", { type: "checkbox", role: "switch", checked: isLoud(),
      onchange: () => setLoud(sound.checked) });
    const notify = h("input", { type: "checkbox", role: "switch", checked: notifies(),
      onchange: async () => { notify.checked = await setNotifies(notify.checked); } });
    add(root, h("div", { class: "page-head" }, h("h1", {}, t("watch")), this.counts,
      h("div", { class: "row end" }, h("label", {}, sound, t("sound")), h("label", {}, notify, t("notify")),
        this.refresher.element)),
    h("div", { class: "watch" },
      h("section", { class: "card alerts", "aria-label": t("open_alerts") },
        h("div", { class: "row tools" }, this.mayHandle && h("label", {}, this.all, t("select_all")), state, search),
        this.bulk, this.list.element, this.empty),
      h("section", { class: "card" }, h("h2", {}, t("live_feed")), this.feed.element)));
  }

  narrow(change) {
    Object.assign(this.filter, change);
    this.still = 0;
    this.list.element.scrollTop = 0;
    this.draw();
  }

  visible() {
    const { priority, state, text } = this.filter;
    if (!priority && !state && !text) return this.store.order;
    return this.store.order.filter((alert) => (!priority || alert.prioridad === priority)
      && (!state || alert.estado === state)
      && (!text || [alert.empresa, alert.sede, alert.hardware, alert.tipo_alarma, alert.descripcion]
        .some((one) => one?.toLowerCase().includes(text))));
  }

  draw() {
    clearTimeout(this.late);
    const wait = this.still - Date.now();
    if (wait > 0 && this.shown) {
      // Somebody is about to click: what they point at stays there. What is over is shown as such.
      this.late = setTimeout(() => this.draw(), wait);
    } else {
      this.shown = this.visible().slice();
    }
    for (const id of this.selected) if (!this.store.byId.has(id)) this.selected.delete(id);
    this.list.set(this.shown);
    this.list.element.setAttribute("aria-rowcount", this.shown.length + 1);
    this.empty.hidden = this.shown.length > 0;
    this.drawCounts();
    this.drawBulk();
  }

  drawCounts() {
    const counts = Object.fromEntries(PRIORITIES.map((one) => [one, 0]));
    for (const alert of this.store.order) counts[alert.prioridad] += 1;
    if (!this.counts.children.length) {
      for (const priority of PRIORITIES) {
        add(this.counts, h("li", {}, h("button", { type: "button", class: `count ${priority}`, "data-priority": priority,
          "aria-pressed": "false",
          onclick: () => this.narrow({ priority: this.filter.priority === priority ? "" : priority }) },
        h("b", {}), " ", t(`priority_${priority}`))));
      }
    }
    for (const button of this.counts.querySelectorAll("button")) {
      const { priority } = button.dataset;
      setText(button.firstChild, String(counts[priority]));
      button.setAttribute("aria-pressed", String(this.filter.priority === priority));
    }
    document.title = `${counts.critica ? `(${counts.critica}) ` : ""}${t("watch")} · Atalaya`;
  }

  drawBulk() {
    const count = this.selected.size;
    this.all.checked = count > 0 && count === this.shown.length;
    this.all.indeterminate = count > 0 && count < this.shown.length;
    if (this.working) return;
    this.bulk.hidden = count === 0;
    if (this.bulk.dataset.count === String(count)) return;
    this.bulk.dataset.count = String(count);
    const button = (verb) => h("button", { type: "button", class: verb === "descartar" ? "danger" : "",
      onclick: () => this.handle([...this.selected], verb) }, t(verb));
    fill(this.bulk, h("span", { role: "status" }, t("selected", count)),
      Object.values(VERBS).map(button),
      h("button", { type: "button", class: "quiet", onclick: () => { this.selected.clear(); this.draw(); } }, t("select_none")));
  }

  selectAll() {
    this.selected = new Set(this.all.checked ? this.visible().map((alert) => alert.alerta_id) : []);
    this.draw();
  }

  headRow() {
    const cell = (name) => h("span", { role: "columnheader", class: `c-${name}` },
      h("span", { class: name === "select" ? "visually-hidden" : "" }, t(`col_${name}`)));
    return h("div", { role: "rowgroup", class: "alert-head" }, h("div", { role: "row", class: "alert-row", "aria-rowindex": 1 },
      ["select", "priority", "kind", "place", "device", "text", "count", "age", "state", "actions"].map(cell)));
  }

  createRow() {
    const cell = (name, ...children) => h("span", { role: "cell", class: `c-${name}` }, ...children);
    const row = h("div", { role: "row", class: "alert-row", tabindex: -1 });
    const parts = {
      box: h("input", { type: "checkbox", tabindex: -1, disabled: !this.mayHandle,
        onchange: () => this.toggle(row.dataset.id, parts.box.checked) }),
      priority: h("span", { class: "badge" }), kind: h("a", { tabindex: -1 }), place: h("span", {}),
      device: h("span", {}), text: h("span", {}), count: h("span", {}), age: h("time", {}), state: h("span", {}),
      actions: Object.values(VERBS).map((verb) => h("button", { type: "button", tabindex: -1, class: `act ${verb}`,
        onclick: () => this.handle([row.dataset.id], verb) }, t(verb))),
    };
    add(row, cell("select", parts.box), cell("priority", parts.priority), cell("kind", parts.kind),
      cell("place", parts.place), cell("device", parts.device), cell("text", parts.text), cell("count", parts.count),
      cell("age", parts.age), cell("state", parts.state), cell("actions", this.mayHandle && parts.actions));
    row.parts = parts;
    row.addEventListener("focusin", () => this.activate(row.dataset.id, false));
    row.addEventListener("dblclick", () => { location.hash = `#/alerta/${row.dataset.id}`; });
    return row;
  }

  showRow(row, alert) {
    const { parts } = row;
    // It may be over while its row stays.
    const now = this.store.byId.get(alert.alerta_id);
    const shown = now ?? alert;
    if (row.dataset.id !== alert.alerta_id || row.shown !== shown) {
      row.dataset.id = alert.alerta_id;
      row.shown = shown;
      const name = `${shown.tipo_alarma}, ${shown.hardware}`;
      parts.box.setAttribute("aria-label", t("select_one", name));
      parts.priority.className = `badge ${shown.prioridad}`;
      setText(parts.priority, t(`priority_${shown.prioridad}`));
      setText(parts.kind, shown.tipo_alarma);
      parts.kind.href = `#/alerta/${shown.alerta_id}`;
      setText(parts.place, `${shown.empresa}/${shown.sede}`);
      setText(parts.device, shown.hardware);
      row.title = [parts.place.textContent, shown.hardware, shown.descripcion].filter(Boolean).join(" · ");
      setText(parts.text, [shown.tardia && t("late"), shown.congela_retiros && t("freezes"), shown.descripcion].filter(Boolean).join(" · "));
      setText(parts.count, shown.repeticiones > 1 ? `×${shown.repeticiones}` : "");
      setText(parts.state, now ? t(`state_${shown.estado}`) : t("state_over"));
      row.classList.toggle("over", !now);
      row.classList.toggle("new", now !== undefined && shown.estado === "NUEVA");
      parts.actions[0].hidden = !now || shown.estado !== "NUEVA";
      parts.actions[1].hidden = parts.actions[2].hidden = !now;
      for (const button of parts.actions) button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    }
    setText(parts.age, age(shown.since));
    parts.box.checked = this.selected.has(alert.alerta_id);
    row.classList.toggle("selected", parts.box.checked);
    row.tabIndex = this.active === alert.alerta_id ? 0 : -1;
  }

  toggle(id, on) {
    if (on) this.selected.add(id);
    else this.selected.delete(id);
    this.draw();
  }

  activate(id, focus = true) {
    this.active = id;
    if (!focus) return;
    this.list.reveal(this.shown.findIndex((alert) => alert.alerta_id === id));
    this.list.rowOf(id)?.focus({ preventScroll: true });
  }

  move(by) {
    if (!this.shown.length) return;
    const at = this.shown.findIndex((alert) => alert.alerta_id === this.active);
    const next = at < 0 ? 0 : Math.min(this.shown.length - 1, Math.max(0, at + by));
    this.activate(this.shown[next].alerta_id);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select, summary")) return;
    const page = Math.max(1, Math.floor(this.list.element.clientHeight / this.list.rowHeight()) - 1);
    const moves = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in moves) {
      event.preventDefault();
      this.move(moves[event.key]);
    } else if (event.key in VERBS && this.mayHandle && (this.selected.size || this.active)) {
      event.preventDefault();
      this.handle(this.selected.size ? [...this.selected] : [this.active], VERBS[event.key]);
    } else if (event.key === "x" && this.active && this.mayHandle) {
      this.toggle(this.active, !this.selected.has(this.active));
    } else if (event.key === "Enter" && event.target.getAttribute?.("role") === "row") {
      location.hash = `#/alerta/${this.active}`;
    }
  }

  async handle(ids, verb) {
    if (this.working) return;
    const open = ids.filter((id) => this.store.byId.has(id));
    const due = verb === "reconocer" ? open.filter((id) => this.store.byId.get(id).estado === "NUEVA") : open;
    if (!due.length) return;
    let motivo;
    if (verb === "descartar" || due.length > 1) {
      const answer = await stepDialog(verb, due.length, (values) => values);
      if (!answer) return;
      motivo = answer.motivo;
    }
    await this.run(due, verb, motivo);
  }

  /** Hands in one request an alert, a few at a time, and says how far it is. */
  async run(ids, verb, motivo) {
    const after = this.nextOf(ids);
    const failures = [];
    let done = 0;
    const bar = h("progress", { max: ids.length, value: 0, "aria-label": t(verb) });
    const many = ids.length > 1;
    if (many) {
      this.working = true;
      fill(this.bulk, h("span", { role: "status" }, t(`${verb}_many`, ids.length)), bar);
      this.bulk.hidden = false;
    }
    const rest = ids.values();
    const worker = async () => {
      for (const id of rest) {
        try {
          this.store.answered(await step(id, verb, motivo));
          this.selected.delete(id);
        } catch (problem) {
          failures.push(problem);
        }
        bar.value = ++done;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    this.working = false;
    delete this.bulk.dataset.count;
    if (failures.length) toast(t("some_failed", failures.length, failures[0].message), "error");
    else toast(t(`${verb}_done`, ids.length));
    this.still = 0;
    this.draw();
    if (after && this.active && !this.store.byId.has(this.active)) this.activate(after, this.hasFocus());
  }

  hasFocus() {
    return this.list.element.contains(document.activeElement) || document.activeElement === document.body;
  }

  /** Which alert comes after those that are about to go. */
  nextOf(ids) {
    const gone = new Set(ids);
    const at = this.shown.findIndex((alert) => alert.alerta_id === this.active);
    const next = this.shown.slice(at + 1).find((alert) => !gone.has(alert.alerta_id));
    return next?.alerta_id;
  }
}
