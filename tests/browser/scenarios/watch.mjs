// The watch: an alert of a device appears, is acknowledged, resolved, discarded, alone or with others.

import { BASE, ask, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

const row = (page, device) => page.locator(".virtual-body .alert-row:not([hidden])", { hasText: device });

export default async function play(browser) {
  const context = await visitor(browser, { permissions: ["notifications"] });
  const page = await signIn(context, "demo-operador", PASSWORD);
  await page.locator(".empty", { hasText: "Todo tranquilo" }).waitFor();
  await urgent(page);
  await byKey(page);
  await byClick(page);
  await inOrder(page);
  await discarded(page);
  await together(page);
  await ofOne(page);
  await onTheBoard(page);
  unharmed(context);
  await context.close();
}

/** A critical alert is seen, heard and announced. */
async function urgent(page) {
  await page.evaluate(() => {
    window.sounds = 0;
    const create = AudioContext.prototype.createOscillator;
    AudioContext.prototype.createOscillator = function counted() { window.sounds += 1; return create.call(this); };
  });
  await ask("press", { device: "boton-1", kind: "ROJO", text: "Robo en caja 2" });
  await row(page, "boton-1").waitFor();
  must((await row(page, "boton-1").textContent()).includes("Robo en caja 2"), "the alert does not say what it is");
  await eventually("it is announced", async () => (await page.locator("#urgent").textContent()).includes("boton-1"));
  must(await page.evaluate(() => window.sounds) > 0, "it is not heard");
  await page.locator(".feed li", { hasText: "boton-1" }).first().waitFor();
  must((await page.title()).startsWith("(1)"), `the title is ${await page.title()}`);
  await page.locator("label", { hasText: "Sonido" }).locator("input").uncheck();
}

async function byKey(page) {
  await page.keyboard.press("j");
  await page.keyboard.press("a");
  await eventually("it is acknowledged", async () => (await row(page, "boton-1").locator("button", { hasText: "Reconocer" }).count()) === 0
    || await row(page, "boton-1").locator("button", { hasText: "Reconocer" }).isHidden());
  const alert = await ask("alert", { device: "boton-1" });
  must(alert.estado === "RECONOCIDA", `it is ${alert.estado}`);
}

async function byClick(page) {
  await row(page, "boton-1").locator("button", { hasText: "Resolver" }).click();
  await row(page, "boton-1").waitFor({ state: "hidden" });
  const alert = await ask("alert", { device: "boton-1" });
  must(alert.estado === "RESUELTA", `it is ${alert.estado}`);
}

/** Urgent before less urgent, whenever it came. */
async function inOrder(page) {
  await ask("press", { device: "boton-2", kind: "VERDE" });
  await ask("press", { device: "boton-3", kind: "ROJO" });
  await ask("press", { device: "boton-4", kind: "NARANJA" });
  const order = () => page.locator(".virtual-body .alert-row:not([hidden])").evaluateAll((rows) =>
    rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex || a.getAttribute("aria-rowindex") - b.getAttribute("aria-rowindex"))
      .map((one) => one.querySelector(".c-device").textContent));
  await eventually("urgent first", async () => (await order()).join() === "boton-3,boton-4,boton-2");
  await page.locator("[data-priority=alta]").click();
  await eventually("one priority alone", async () => (await order()).join() === "boton-4");
  await page.locator("[data-priority=alta]").click();
  await page.locator("input[type=search]").fill("BOTON-2");
  await eventually("what is looked for", async () => (await order()).join() === "boton-2");
  await page.locator("input[type=search]").fill("");
}

/** A false alarm needs a reason. */
async function discarded(page) {
  await row(page, "boton-2").locator("button", { hasText: "Descartar" }).click();
  const dialog = page.locator("dialog[open]");
  await dialog.locator("button[value=go]").click();
  must(await dialog.isVisible(), "discarded without a reason");
  await dialog.locator("input[name=motivo]").fill("Simulacro");
  await dialog.locator("button[value=go]").click();
  await row(page, "boton-2").waitFor({ state: "hidden" });
  const alert = await ask("alert", { device: "boton-2" });
  must(alert.estado === "DESCARTADA", `it is ${alert.estado}`);
}

async function together(page) {
  await page.locator("label", { hasText: "Marcar todas" }).locator("input").check();
  await page.locator(".bulk", { hasText: "2 marcadas" }).waitFor();
  await page.locator(".bulk button", { hasText: "Reconocer" }).click();
  await page.locator("dialog[open] button[value=go]").click();
  await eventually("both are acknowledged", async () => {
    const [one, other] = [await ask("alert", { device: "boton-3" }), await ask("alert", { device: "boton-4" })];
    return one.estado === "RECONOCIDA" && other.estado === "RECONOCIDA";
  });
}

/** One alert's page: its history, its rules, and the devices that they drove. */
async function ofOne(page) {
  await row(page, "boton-3").locator("a").click();
  await page.locator("main h1", { hasText: "ROJO" }).waitFor();
  const history = page.locator("ol.history");
  await history.locator("li", { hasText: "reconocida" }).waitFor();
  must((await history.textContent()).includes("demo-operador"), "the history does not say who");
  must((await history.textContent()).includes("Botonera: semáforos"), "the history does not name the rule");
  const driven = page.locator("section", { hasText: "Dispositivos accionados" }).locator("tbody tr", { hasText: "luz-1" });
  await driven.waitFor();
  await page.locator("button", { hasText: "Resolver" }).click();
  await page.locator("dialog[open] input[name=motivo]").fill("Policía en el lugar");
  await page.locator("dialog[open] button[value=go]").click();
  await history.locator("li", { hasText: "Policía en el lugar" }).waitFor();
}

async function onTheBoard(page) {
  await page.goto(`${BASE}/#/tablero`);
  const site = page.locator("section.site", { hasText: "banco/principal" });
  await site.locator(".badge", { hasText: "1 abiertas" }).waitFor();
  must(await site.locator("ul.tiles li").count() === 5, "not every device is on the board");
  await site.locator("ul.tiles button").first().click();
  await page.locator("dialog[open] .facts").waitFor();
  await page.locator("dialog[open] .actions button").click();
}
