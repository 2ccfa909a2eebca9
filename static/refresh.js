// Automatic refresh: every thirty seconds, where it is not switched off.

import { h, setText } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";
import { connectionState, watchConnection } from "./live.js";
import { choice, choose } from "./settings.js";

/** How often. */
const EVERY = 30_000;

/**
 * A switch that calls `refresh` every thirty seconds: always, or only while events do not come live.
 * Gives the switch and how to stop.
 */
export function autoRefresh(refresh, { always = false } = {}) {
  const box = h("input", {
    type: "checkbox", role: "switch", checked: choice("refresh", true),
    onchange: () => choose("refresh", box.checked),
  });
  const told = h("span", { class: "muted", "data-refreshed": "" });
  const stamp = () => setText(told, t("updated_at", clock(Date.now())));
  let running = false;
  async function run() {
    if (running) return;
    running = true;
    try {
      await refresh();
      stamp();
    } catch {
      // The state of the connection, which is always visible, says why.
    } finally {
      running = false;
    }
  }
  const due = () => box.checked && (always || connectionState() !== "live");
  const timer = setInterval(() => { if (due()) run(); }, EVERY);
  const unwatch = watchConnection((state, { again }) => { if (state === "live" && again) run(); });
  return {
    element: h("span", { class: "refresh" }, h("label", {}, box, t("auto_refresh")), told,
      h("button", { type: "button", class: "quiet", onclick: run, title: t("refresh_now") }, "↻",
        h("span", { class: "visually-hidden" }, t("refresh_now")))),
    run,
    stop: () => { clearInterval(timer); unwatch(); },
  };
}

/** Whether the service is well, for the line at the top. */
export async function health() {
  const response = await fetch("/health", { headers: { accept: "application/json" } });
  return response.json();
}
