// The system: how it has been over the last minutes to days.

import { call, path } from "./api.js";
import { Chart, charts } from "./charts.js";
import { add, facts, fill, h, tell } from "./dom.js";
import { moment } from "./format.js";
import { t } from "./i18n.js";
import { autoRefresh, health } from "./refresh.js";
import { choice, choose } from "./settings.js";

const WINDOWS = ["15m", "1h", "6h", "1d", "7d"];

/** Chart, unit, and the series in it; the name of a series that stands alone is not shown. */
const CHARTS = [
  ["transactions", "/s", ["transacciones_por_segundo", "rechazos_por_segundo"]],
  ["alerts_by_kind", "/s", "alertas_por_segundo"],
  ["latency", "ms", ["latencia_p50_ms", "latencia_p95_ms", "latencia_p99_ms"]],
  ["groups", "/s", ["grupos_por_segundo", "operaciones_por_grupo"]],
  ["commit", "ms", ["commit_p95_ms"]],
  ["outbox", "", ["outbox_pendientes"]],
  ["outbox_lag", "s", ["outbox_retraso_s"]],
  ["sessions", "", ["sesiones"]],
  ["open_alerts", "", ["alertas_abiertas"]],
  ["devices_online", "", ["dispositivos_en_linea"]],
  ["parts", "", ["broker_conectado", "base_de_datos"]],
];

/** Opens the page. */
export function open(root) {
  let range = choice("window", "15m");
  const shown = CHARTS.map(([name, unit, series]) => ({ chart: new Chart(t(`chart_${name}`), unit), series }));
  const state = h("section", { class: "card" });
  const refresher = autoRefresh(load, { always: true });
  const ranges = h("div", { class: "segmented", role: "group", "aria-label": t("window") }, WINDOWS.map((one) =>
    h("button", { type: "button", "aria-pressed": String(one === range), onclick: (event) => {
      range = one;
      choose("window", one);
      for (const button of ranges.children) button.setAttribute("aria-pressed", String(button === event.target));
      tell(() => refresher.run());
    } }, t(`window_${one}`))));
  const missing = h("p", { class: "notice", hidden: true }, t("charts_need_node"));
  add(root, h("div", { class: "page-head" }, h("h1", {}, t("system")), ranges, h("div", { class: "row end" }, refresher.element)),
    state, missing, h("div", { class: "charts" }, shown.map(({ chart }) => chart.element)));

  async function load() {
    const [uPlot, figures, now] = await Promise.all([charts(), call("GET", path(["metricas"], { ventana: range })), health()]);
    missing.hidden = Boolean(uPlot);
    for (const { chart, series } of shown) chart.draw(uPlot, figures.tiempos, linesOf(figures, series));
    const rows = [[t("service"), t(`health_${now.status}`)], [t("database"), t(`health_${now.base_de_datos}`)],
      [t("broker"), t(`broker_${now.broker}`)], [t("version"), now.version], [t("started"), moment(figures.arranque)]];
    fill(state, facts(rows, "status"));
  }

  tell(() => refresher.run());
  return { close: () => { refresher.stop(); for (const { chart } of shown) chart.close(); } };
}

function linesOf(figures, series) {
  if (series === "alertas_por_segundo") {
    const kinds = Object.entries(figures.alertas_por_segundo);
    if (!kinds.length) return [{ name: t("alerts"), values: figures.tiempos.map(() => null) }];
    return kinds.map(([name, values]) => ({ name, values }));
  }
  return series.map((name) => ({ name: t(`series_${name}`), values: figures.series[name] ?? figures.tiempos.map(() => null) }));
}
