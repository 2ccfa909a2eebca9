// The open alerts, as this browser knows them: read once, then kept by events.

import { call, pages, path } from "./api.js";
import { subscribe } from "./live.js";

/** From the most urgent. */
export const PRIORITIES = ["critica", "alta", "media", "baja"];

const OPEN = new Set(["NUEVA", "RECONOCIDA"]);

/** Closed alerts are remembered while a list is read, so that an old page cannot bring one back. */
const REMEMBERED = 5_000;

/** Urgent first; of those, what nobody has acknowledged; of those, the newest. */
function compare(a, b) {
  return a.rank - b.rank || b.since - a.since || (a.alerta_id < b.alerta_id ? 1 : a.alerta_id > b.alerta_id ? -1 : 0);
}

/** Where `alert` stands in a sorted list, or would. */
function place(list, alert) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(list[middle], alert) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function ranked(alert) {
  const priority = PRIORITIES.indexOf(alert.prioridad);
  const rank = priority * 2 + (alert.estado === "NUEVA" ? 0 : 1);
  return { ...alert, rank, since: Date.parse(alert.creada), changed: Date.parse(alert.actualizada) };
}

/** Open alerts in order. `changed()` is told of every change, `arrived(alert)` of every new one. */
export class AlertStore {
  constructor({ changed, arrived, happened }) {
    this.byId = new Map();
    this.order = [];
    this.closed = new Set();
    this.loading = false;
    this.tell = changed;
    this.arrived = arrived;
    this.happened = happened;
    this.abort = new AbortController();
    this.off = subscribe(["empresas/+/alertas"], ({ datos }) => this.take(datos));
  }

  close() {
    this.off();
    this.abort.abort();
  }

  /** Reads all open alerts; what is no longer among them goes. */
  async load() {
    if (this.loading) return;
    this.loading = true;
    const seen = new Set();
    const began = Date.now();
    try {
      await pages(["alertas"], { abiertas: true }, (some) => {
        for (const alert of some) {
          seen.add(alert.alerta_id);
          if (!this.closed.has(alert.alerta_id)) this.put(ranked(alert));
        }
        this.tell();
      }, this.abort.signal);
      // The clocks of server and browser differ; what came by an event meanwhile was put later.
      for (const alert of [...this.order]) {
        if (!seen.has(alert.alerta_id) && alert.put < began) this.remove(alert.alerta_id);
      }
    } finally {
      this.loading = false;
    }
    this.tell();
  }

  put(alert) {
    const known = this.byId.get(alert.alerta_id);
    if (known) {
      if (known.changed > alert.changed) return;
      this.order.splice(place(this.order, known), 1);
    }
    alert.put = Date.now();
    this.byId.set(alert.alerta_id, alert);
    this.order.splice(place(this.order, alert), 0, alert);
  }

  remove(id) {
    const known = this.byId.get(id);
    if (!known) return;
    this.order.splice(place(this.order, known), 1);
    this.byId.delete(id);
  }

  /** Takes a change from REST or from an event. */
  take(event) {
    this.happened?.(event);
    const at = event.timestamp;
    const known = this.byId.get(event.alerta_id);
    if (!OPEN.has(event.estado)) {
      this.closed.add(event.alerta_id);
      if (this.closed.size > REMEMBERED) this.closed.delete(this.closed.values().next().value);
      this.remove(event.alerta_id);
    } else if (known || event.cambio === "CREADA") {
      if (known && known.changed > Date.parse(at)) return;
      this.put(ranked({ ...known, ...event, creada: known?.creada ?? at, actualizada: at }));
      if (!known) this.arrived?.(this.byId.get(event.alerta_id));
    } else if (!this.loading) {
      // One that we have not heard of, in the middle of its life. While a list is read it is still to
      // come in that.
      this.fetch(event.alerta_id);
    }
    this.tell();
  }

  async fetch(id) {
    try {
      const alert = await call("GET", path(["alertas", id], { limite: 1 }), { signal: this.abort.signal });
      if (OPEN.has(alert.estado) && !this.closed.has(id)) this.put(ranked(alert));
      this.tell();
    } catch {
      // The next refresh brings it.
    }
  }

  /** Puts what a request of our own has answered. */
  answered(alert) {
    if (OPEN.has(alert.estado)) this.put(ranked(alert));
    else this.take({ ...alert, timestamp: alert.actualizada, quiet: true });
    this.tell();
  }
}
