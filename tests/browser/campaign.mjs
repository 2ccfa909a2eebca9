// The page under load: 10,000 open alerts, 200 events a second, somebody who clicks. Started by
// tests/campaigns/page, which starts the server.

import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { BASE, launch, signIn, unharmed, visitor } from "./lib.mjs";

const MINUTES = Number(process.env.MINUTES ?? 10);
const DEVICES = 2_000;
const KINDS = ["ROJO", "NARANJA", "AMARILLO", "VERDE", "AZUL"];
const RATE = 200;

/** Between two clicks, in milliseconds: how fast the operator is, not a wait for anything. */
const PACE = 700;
const AT_ONCE = 16;

/** What is promised. */
const CLICK_MS = 100;
const MEGABYTES = 200;
const PAINT_MS = 1_000;

async function ask(method, path, body) {
  const response = await fetch(`${BASE}/api/v1${path}`, {
    method, headers: { authorization: `Bearer ${process.env.TOKEN}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Runs `work(index)` for each of `count`, a few at a time. */
async function each(count, work) {
  let next = 0;
  const worker = async () => { while (next < count) await work(next++); };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const device = (index) => `boton-${index % DEVICES}`;

async function fill() {
  await each(DEVICES, (index) => ask("POST", "/hardware", { hardware: device(index), empresa: "banco", sede: "principal", tipo: "SENSOR" }));
  const ids = [];
  await each(DEVICES * KINDS.length, async (index) => {
    const raised = await ask("POST", "/alertas", { hardware: device(index), tipo_alarma: KINDS[Math.floor(index / DEVICES)] });
    ids.push([raised.alerta_id, index]);
    if (ids.length % 2_000 === 0) console.log(`${ids.length} alerts are open`);
  });
  return ids;
}

/** Another process: the load is not to slow down whoever measures. */
async function load() {
  process.on("disconnect", () => process.exit(0));
  const ids = await fill();
  process.send("filled");
  let count = 0;
  const began = Date.now();
  // Three of five are presses of what is open, the others end an alert and begin it anew: two events.
  const turn = async (index) => {
    const at = (index * 7_919) % ids.length;
    const [id, number] = ids[at];
    const again = { hardware: device(number), tipo_alarma: KINDS[Math.floor(number / DEVICES)] };
    if (index % 5 < 3) {
      await ask("POST", "/alertas", again);
      count += 1;
    } else {
      await ask("POST", `/alertas/${id}/resolver`, {});
      ids[at] = [(await ask("POST", "/alertas", again)).alerta_id, number];
      count += 2;
    }
  };
  setInterval(() => process.send({ count, seconds: (Date.now() - began) / 1000 }), 5_000);
  let index = 0;
  const worker = async () => {
    for (;;) {
      const ahead = count - ((Date.now() - began) / 1000) * RATE;
      if (ahead > 0) await new Promise((go) => setTimeout(go, (ahead / RATE) * 1000));
      await turn(index++);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

async function firstPaint(browser) {
  const paints = [];
  for (let run = 0; run < 5; run++) {
    const context = await visitor(browser);
    const page = await context.newPage();
    await page.goto(BASE);
    await page.locator("form.sign-in").waitFor();
    paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime));
    await context.close();
  }
  return quantile(paints, 0.5);
}

/** Private memory of the processes that draw pages, in megabytes: what a page costs the machine. */
function rendererMegabytes(pids) {
  let kilobytes = 0;
  for (const pid of pids) {
    try {
      for (const [, size] of readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_\w+:\s+(\d+)/gm)) kilobytes += Number(size);
    } catch {
      // It has gone.
    }
  }
  return kilobytes / 1024;
}

async function watch(browser) {
  const context = await visitor(browser);
  const page = await signIn(context, "demo-operador", "demo-atalaya", "#/vigilancia");
  await page.locator("label", { hasText: "Sonido" }).locator("input").uncheck();
  // Some are between their end and their new beginning at any moment.
  await page.waitForFunction(() => Number(document.querySelector("[data-alerts]")?.getAttribute("aria-rowcount")) > 9_980,
    undefined, { timeout: 60_000 });
  const cdp = await context.newCDPSession(page);
  const system = await browser.newBrowserCDPSession();
  await cdp.send("Performance.enable");
  await page.evaluate(() => {
    window.clicks = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (entry.name === "click") window.clicks.push(entry.duration);
    }).observe({ type: "event", durationThreshold: 16 });
  });
  const heaps = [];
  const memories = [];
  let made = 0;
  const end = Date.now() + MINUTES * 60_000;
  while (Date.now() < end) {
    await click(page, made++);
    await page.waitForTimeout(PACE);
    if (made % 20) continue;
    await cdp.send("HeapProfiler.collectGarbage");
    const { metrics } = await cdp.send("Performance.getMetrics");
    heaps.push(metrics.find(({ name }) => name === "JSHeapUsedSize").value / 1048576);
    const { processInfo } = await system.send("SystemInfo.getProcessInfo");
    memories.push(rendererMegabytes(processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id)));
    console.log(`${made} clicks, heap ${heaps.at(-1).toFixed(1)} MB, renderer ${memories.at(-1).toFixed(1)} MB`);
  }
  const slow = await page.evaluate(() => window.clicks);
  // What took less than the observer's threshold counts as it.
  const clicks = [...slow, ...Array(Math.max(0, made - slow.length)).fill(16)];
  // Of all priorities, whichever are shown.
  const counts = await page.locator(".count b").allTextContents();
  unharmed(context);
  await context.close();
  return { clicks, heaps, memories, rows: counts.reduce((sum, count) => sum + Number(count), 0) };
}

/** What an operator does, in turn, with the mouse where things are: selects, narrows, widens. */
async function click(page, turn) {
  const list = await page.locator("[data-alerts]").boundingBox();
  const row = { x: list.x + 18, y: list.y + 30 + 44 * (turn % 8) + 22 };
  const filter = await page.locator(`[data-priority=${turn % 8 < 4 ? "alta" : "media"}]`).boundingBox();
  const at = turn % 4 === 1 || turn % 4 === 2 ? { x: filter.x + 20, y: filter.y + 15 } : row;
  await page.mouse.click(at.x, at.y);
}

async function measure() {
  const child = fork(new URL(import.meta.url), ["load"]);
  let told = { count: 0, seconds: 1 };
  await new Promise((go, fail) => {
    child.on("message", (message) => { if (message === "filled") go(); else told = message; });
    child.on("exit", (code) => fail(new Error(`the load ended with ${code}`)));
  });
  const browser = await launch();
  try {
    const paint = await firstPaint(browser);
    const { clicks, heaps, memories, rows } = await watch(browser);
    const rate = told.count / told.seconds;
    const figures = {
      first_paint_ms: Math.round(paint), events_per_second: Math.round(rate), open_alerts: rows, clicks: clicks.length,
      click_ms: { p50: quantile(clicks, 0.5), p95: quantile(clicks, 0.95), p99: quantile(clicks, 0.99), max: Math.max(...clicks) },
      heap_mb: { first: heaps[0], last: heaps.at(-1), max: Math.max(...heaps) },
      renderer_mb: { first: memories[0], last: memories.at(-1), max: Math.max(...memories) },
    };
    console.log(JSON.stringify(figures, (_, value) => (typeof value === "number" ? Math.round(value * 10) / 10 : value), 2));
    const wrong = [
      paint > PAINT_MS && "the first paint is late",
      rate < RATE * 0.95 && "there was not load enough",
      figures.click_ms.p99 > CLICK_MS && "clicks are slow",
      figures.renderer_mb.max > MEGABYTES && "the page is too large",
    ].filter(Boolean);
    console.log(wrong.length ? `FAILED: ${wrong.join(", ")}` : "all of it holds");
    return wrong.length ? 1 : 0;
  } finally {
    child.removeAllListeners("exit");
    child.kill();
    await browser.close();
  }
}

if (process.argv[2] === "load") await load();
else process.exit(await measure());
