// The system: charts that draw, a refresh that can be switched off, and logs that can be followed.

import { BASE, ask, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

export default async function play(browser) {
  const context = await visitor(browser);
  const page = await signIn(context, "demo-admin", PASSWORD);
  await charts(page);
  await logs(page);
  unharmed(context);
  await context.close();
  await refresh(browser);
  await withoutNode(browser);
}

/** A build without Node has no library of charts: the page says so, and has the figures. */
async function withoutNode(browser) {
  const context = await visitor(browser);
  await context.route("**/app/uplot.*", (route) => route.fulfill({ status: 404 }));
  const page = await signIn(context, "demo-admin", PASSWORD);
  await page.locator(".notice", { hasText: "Node" }).waitFor();
  await eventually("the figures", async () => (await page.locator("[data-chart=Sesiones] .figure").textContent()) !== "");
  await context.close();
}

/** Pixels of a chart that are not its most frequent colour. */
const ink = (page, title) => page.locator(`[data-chart="${title}"] canvas`).evaluate((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let drawn = 0;
  // The line's colour: the first of the palette, blue rather than grey.
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 128 && data[i + 2] > data[i] + 60) drawn += 1;
  return drawn;
});

async function charts(page) {
  await page.locator("button", { hasText: "1 hora" }).click();
  await page.locator("button", { hasText: "15 min" }).click();
  await page.locator("[data-chart=Transacciones] canvas").waitFor();
  // Two samples make a line: nothing was drawn before there was something.
  await eventually("a line of transactions", async () => {
    await ask("deposit");
    await page.locator(".refresh button").click();
    return (await ink(page, "Transacciones")) > 40;
  }, 60_000);
  must(await page.locator(".chart-card canvas").count() === 11, "a chart is missing");
  const figure = await page.locator("[data-chart=Sesiones] .figure").textContent();
  must(Number.parseInt(figure, 10) >= 1, `sessions: ${figure}`);
  must((await page.locator("dl.status").textContent()).includes("conectado"), "the broker's state is not told");
}

async function logs(page) {
  await page.goto(`${BASE}/#/registros`);
  await page.locator("table.log tbody tr").first().waitFor();
  await page.locator("input[type=search]").fill("draining-nowhere");
  await page.locator("[role=status]", { hasText: "Ninguna línea" }).waitFor();
  await page.locator("input[type=search]").fill("");
  await page.locator("label", { hasText: "Nivel" }).locator("select").selectOption("warn");
  await eventually("no line below a warning", async () => {
    const levels = await page.locator("table.log tbody tr td:nth-child(2)").allTextContents();
    return levels.every((level) => ["warn", "error"].includes(level));
  });
  await page.locator("button", { hasText: "Alertas" }).click();
  await page.locator("label", { hasText: "Nivel" }).locator("select").selectOption("");
  await page.locator("label", { hasText: "Seguir" }).locator("input").check();
  await ask("press", { device: "boton-1", kind: "ROJO" });
  await page.locator("table.log tbody tr", { hasText: "boton-1" }).first().waitFor();
}

/** Every thirty seconds, until it is switched off, which is remembered. */
async function refresh(browser) {
  const context = await visitor(browser);
  const page = await context.newPage();
  await page.clock.install();
  await page.goto(`${BASE}/#/sistema`);
  await page.locator("input[name=usuario]").fill("demo-admin");
  await page.locator("input[name=contrasena]").fill(PASSWORD);
  await page.locator("form.sign-in button.primary").click();
  await page.locator("[data-chart=Transacciones] canvas").waitFor();
  let asked = 0;
  page.on("request", (request) => { if (request.url().includes("/metricas")) asked += 1; });
  await page.clock.runFor(31_000);
  await eventually("a refresh after 30 s", async () => asked >= 1);
  const toggle = page.locator(".refresh input");
  await toggle.uncheck();
  asked = 0;
  await page.clock.runFor(95_000);
  must(asked === 0, `${asked} refreshes although they are off`);
  await page.reload();
  await page.locator("[data-chart=Transacciones] canvas").waitFor();
  must(!await page.locator(".refresh input").isChecked(), "the choice is forgotten");
  await context.close();
}
