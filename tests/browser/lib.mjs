// What every scenario needs: a browser, somebody who signs in, and a talk with the test that started
// this one: it owns the server, so it restarts it and presses the buttons.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** Where the server is. */
export const BASE = process.env.BASE_URL;

/** How long anything may take. Generous: the suite shares two cores. */
export const DEADLINE = 20_000;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test that started this to do something; gives what it answers. */
export async function ask(what, details = {}) {
  console.log(`@${JSON.stringify({ what, ...details })}`);
  const { value } = await lines.next();
  const answer = JSON.parse(value);
  if (answer.error) throw new Error(`${what}: ${answer.error}`);
  return answer;
}

/** Opens a browser that asks nobody for anything but the server. */
export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
      "--autoplay-policy=no-user-gesture-required"],
  });
}

/** A browser of somebody's own; whatever goes wrong in it ends the scenario. */
export async function visitor(browser, options = {}) {
  const context = await browser.newContext({
    locale: "es-EC", timezoneId: "America/Guayaquil", viewport: { width: 1440, height: 900 }, ...options,
  });
  context.setDefaultTimeout(DEADLINE);
  context.faults = [];
  context.on("weberror", (error) => context.faults.push(`uncaught: ${error.error()}`));
  context.on("console", (message) => {
    if (message.type() === "error") context.faults.push(`console: ${message.text()} (${message.location().url})`);
  });
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== new URL(BASE).origin) {
      context.faults.push(`a request to elsewhere: ${url.origin}`);
    }
  });
  return context;
}

/** Nothing went wrong in this browser, but what is expected to. */
export function unharmed(context, expected = []) {
  const faults = context.faults.filter((fault) => !expected.some((pattern) => pattern.test(fault)));
  if (faults.length) throw new Error(`in the browser:\n  ${faults.join("\n  ")}`);
}

/** What browsers say about answers that a scenario provokes. */
export const REFUSED = /Failed to load resource: the server responded with a status of (401|404|409|422)/;
export const AWAY = /net::ERR_|WebSocket connection|status of 503/;

/** Signs somebody in on a fresh page at `hash`. */
export async function signIn(context, user, password, hash = "") {
  const page = await context.newPage();
  await page.goto(`${BASE}/${hash}`);
  await page.locator("input[name=usuario]").fill(user);
  await page.locator("input[name=contrasena]").fill(password);
  await page.locator("form.sign-in button.primary").click();
  await page.locator("header.top").waitFor();
  await page.locator("[data-connection=live]").first().waitFor();
  return page;
}

/** Fails where axe finds anything against WCAG 2.2 AA. */
export async function accessible(page, name) {
  if (!await page.evaluate(() => "axe" in window)) {
    // Through the debugger: the page's own policy would not let it in.
    await page.evaluate(AXE);
  }
  const found = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  const told = found.violations.map((one) =>
    `${one.id} (${one.impact}): ${one.help}\n    ${one.nodes.slice(0, 4).map((node) => `${node.target.join(" ")}: ${node.failureSummary.replace(/\s+/g, " ")}`).join("\n    ")}`);
  if (told.length) throw new Error(`${name} is not accessible:\n  ${told.join("\n  ")}`);
}

/** Waits until `probe` gives something true. */
export async function eventually(what, probe, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  let last;
  for (;;) {
    last = await probe();
    if (last) return last;
    if (Date.now() > end) throw new Error(`not in time: ${what} (${JSON.stringify(last)})`);
    await new Promise((go) => setTimeout(go, 50));
  }
}

/** Fails with a reason. */
export function must(holds, why) {
  if (!holds) throw new Error(why);
}
