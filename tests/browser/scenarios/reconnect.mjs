// The server goes and comes back: it is seen, and nothing is missed.

import { AWAY, ask, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

export default async function play(browser) {
  const context = await visitor(browser);
  const watch = await signIn(context, "demo", PASSWORD, "#/vigilancia");
  const counter = await context.newPage();
  await counter.goto(`${watch.url().split("#")[0]}#/caja/1350509525`);
  const balance = async () => Number((await counter.locator("[data-balance]").textContent()).replace(/\D/g, ""));
  await counter.locator("[data-balance]").waitFor();
  await eventually("a balance", async () => (await balance()) > 0);
  const before = await balance();

  await ask("kill");
  for (const page of [watch, counter]) await page.locator("[data-connection=lost]").first().waitFor();
  // What happens before the pages are back: an alert and money.
  await ask("start");
  for (const page of [watch, counter]) await page.locator("[data-connection=live]").first().waitFor();
  await ask("press", { device: "boton-1", kind: "ROJO" });
  await ask("deposit");
  await watch.locator(".virtual-body .alert-row", { hasText: "boton-1" }).waitFor();
  await eventually("the deposit", async () => (await balance()) === before + 100);

  // The connection alone breaks: what happened meanwhile comes with the cursor.
  await ask("cut");
  for (const page of [watch, counter]) await page.locator("[data-connection=lost]").first().waitFor();
  await ask("press", { device: "boton-2", kind: "NARANJA" });
  await ask("deposit");
  await ask("resolve", { device: "boton-1" });
  await ask("mend");
  for (const page of [watch, counter]) await page.locator("[data-connection=live]").first().waitFor();
  await watch.locator(".virtual-body .alert-row:not([hidden])", { hasText: "boton-2" }).waitFor();
  await watch.locator(".virtual-body .alert-row:not([hidden])", { hasText: "boton-1" }).waitFor({ state: "hidden" });
  await eventually("the second deposit", async () => (await balance()) === before + 200);
  const lines = await watch.locator(".feed li").allTextContents();
  must(lines.filter((line) => line.includes("boton-1") && line.includes("resuelta")).length === 1, `the feed misses or repeats: ${lines.join(" | ")}`);
  must(lines.filter((line) => line.includes("boton-2") && line.includes("creada")).length === 1, `the feed misses or repeats: ${lines.join(" | ")}`);
  unharmed(context, [AWAY]);
  await context.close();
}
