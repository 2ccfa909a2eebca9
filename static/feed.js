// What happens, line by line, the newest first; what is older than the last lines goes.

import { coalesced, h } from "./dom.js";
import { clock, money } from "./format.js";
import { t } from "./i18n.js";
import { subscribe, watchConnection } from "./live.js";
import { has } from "./session.js";

/** Lines that are kept. */
const LINES = 100;

/** Repeats of so many events back are recognised. */
const REMEMBERED = 1_000;

/** A feed; alerts are handed to it, money it listens to itself where one may see it. */
export function feed() {
  const list = h("ol", { class: "feed", "aria-label": t("live_feed"), tabindex: 0 });
  const empty = h("p", { class: "muted" }, t("nothing_yet"));
  const element = h("div", {}, empty, list);
  const seen = new Set();
  let waiting = [];
  const show = coalesced(() => {
    const fresh = waiting.slice(-LINES).reverse();
    waiting = [];
    empty.hidden = true;
    list.prepend(...fresh.map(line));
    while (list.children.length > LINES) list.lastChild.remove();
  });

  function push(identity, event) {
    if (seen.has(identity)) return;
    seen.add(identity);
    if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
    waiting.push(event);
    if (waiting.length > LINES) waiting.shift();
    show();
  }

  const off = has("cajero", "auditor", "cliente")
    ? subscribe(["banco/transacciones", "banco/transferencias", "banco/alertas"], ({ tema, datos }) =>
      push(`${tema} ${datos.tx_id}`, { text: bankLine(tema, datos), at: datos.timestamp, kind: "bank" }))
    : () => {};
  // A gap that is not replayed is told, not papered over.
  const unwatch = watchConnection((state, { gap }) => {
    if (state === "live" && gap) push(`gap ${Date.now()}`, { text: t("gap"), at: new Date().toISOString(), kind: "gap" });
  });
  return {
    element,
    alert: (event) => push(`${event.alerta_id} ${event.cambio} ${event.timestamp}`, {
      text: `${event.tipo_alarma} ${t(`change_${event.cambio}`)} · ${event.empresa}/${event.sede}/${event.hardware}`
        + (event.repeticiones > 1 && event.cambio === "REPETIDA" ? ` ×${event.repeticiones}` : "")
        + (event.por && event.por !== "hardware" ? ` · ${event.por}` : ""),
      at: event.timestamp, kind: event.prioridad, id: event.alerta_id,
    }),
    close: () => { off(); unwatch(); },
  };
}

function line(event) {
  const text = event.id ? h("a", { href: `#/alerta/${event.id}` }, event.text) : event.text;
  return h("li", { class: `line ${event.kind}` }, h("time", { datetime: event.at }, clock(event.at)), " ", text);
}

function bankLine(topic, event) {
  switch (topic) {
    case "banco/transacciones":
      return t(`posted_${event.tipo}`, money(event.monto), event.cedula, money(event.saldo_nuevo));
    case "banco/transferencias":
      return t("posted_transfer", money(event.monto), event.cedula_origen, event.cedula_destino);
    default:
      return `${event.message} · ${event.cedula}`;
  }
}
