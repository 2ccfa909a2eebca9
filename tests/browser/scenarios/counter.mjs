// The counter: money moves once, is seen at once everywhere, and not where it is frozen.

import { AWAY, REFUSED, ask, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";
const ANA = "1350509525";
const LUIS = "1315151515";

/** The balance that a page shows, in cents. */
async function balance(page) {
  const text = await page.locator("[data-balance]").textContent();
  return Number(text.replace(/\D/g, ""));
}

const shows = (page, cents) => eventually(`a balance of ${cents}`, async () => (await balance(page)) === cents);

export default async function play(browser) {
  const context = await visitor(browser);
  const page = await signIn(context, "demo-cajero", PASSWORD);
  await find(page, ANA);
  const start = await balance(page);

  // A second tab of the same browser, and the customer at home.
  const tab = await context.newPage();
  await tab.goto(page.url());
  await shows(tab, start);
  const home = await visitor(browser);
  const customer = await signIn(home, "demo-cliente", PASSWORD);
  await shows(customer, start);

  // A tab behind another is drawn rarely, and to draw is what clicks wait for.
  await page.bringToFront();
  await deposit(page, "150,25");
  for (const one of [page, tab, customer]) await shows(one, start + 15_025);
  await customer.locator("tbody tr", { hasText: "Depósito" }).first().waitFor();

  await twice(page, start + 15_025);
  await overdraft(page);
  await transfer(page, tab, start + 15_025 + 100);
  await wrongAmounts(page);
  await openAndFind(page);
  await frozen(page);
  unharmed(context, [REFUSED, AWAY]);
  unharmed(home);
  await context.close();
  await home.close();
}

async function find(page, text) {
  await page.locator("form.search input").fill(text);
  await page.locator("form.search button.primary").click();
  await page.locator("[data-balance]").waitFor();
  await eventually("a balance", async () => (await page.locator("[data-balance]").textContent()) !== "");
}

async function begin(page, kind, amount, to) {
  await page.locator(`button[data-act=${kind}]`).click();
  const dialog = page.locator("dialog[open]");
  if (to) await dialog.locator("input[name=destino]").fill(to);
  await dialog.locator("input[name=monto]").fill(amount);
  await dialog.locator("button[value=go]").click();
}

async function deposit(page, amount) {
  await begin(page, "deposit", amount);
  const confirm = page.locator("dialog[open]", { hasText: "Confirmar" });
  must((await confirm.textContent()).includes("150"), "the confirmation does not say how much");
  await confirm.locator("button[value=go]").click();
  const receipt = page.locator("dialog[open] [data-receipt]");
  await receipt.waitFor();
  must((await receipt.getAttribute("data-receipt")).length === 36, "a receipt without a number");
  await page.locator("dialog[open] .actions button").click();
}

/** Pressed twice, and again after every answer was lost: it happens once. */
async function twice(page, before) {
  const keys = new Set();
  let lost = 0;
  let isCut = true;
  await page.route("**/depositos", async (route) => {
    keys.add(route.request().headers()["idempotency-key"]);
    if (!isCut) return route.continue();
    lost += 1;
    // It arrives and is committed, but the page never hears of it.
    await route.fetch();
    return route.abort("connectionreset");
  });
  await begin(page, "deposit", "1");
  const confirm = page.locator("dialog[open]", { hasText: "Confirmar" });
  await confirm.locator("button[value=go]").dblclick();
  await eventually("that nobody answers", async () => (await confirm.locator("[role=alert]").textContent()) !== "");
  isCut = false;
  await confirm.locator("button[value=go]").click();
  await page.locator("dialog[open] [data-receipt]").waitFor();
  await page.locator("dialog[open] .actions button").click();
  await page.unroute("**/depositos");
  must(lost > 1 && keys.size === 1, `sent ${lost} times in vain, under ${keys.size} keys`);
  await shows(page, before + 100);
}

async function overdraft(page) {
  await begin(page, "withdraw", "999999");
  const confirm = page.locator("dialog[open]", { hasText: "Confirmar" });
  await confirm.locator("button[value=go]").click();
  await eventually("the overdraft is told", async () => (await confirm.locator("[role=alert]").textContent()).includes("saldo"));
  await confirm.locator("button", { hasText: "Cancelar" }).click();
}

async function transfer(page, tab, before) {
  await begin(page, "transfer", "10.50", LUIS);
  const confirm = page.locator("dialog[open]", { hasText: "Confirmar" });
  must((await confirm.textContent()).includes(LUIS), "the confirmation does not say to whom");
  await confirm.locator("button[value=go]").click();
  await page.locator("dialog[open] [data-receipt]").waitFor();
  await page.locator("dialog[open] .actions button").click();
  for (const one of [page, tab]) await shows(one, before - 1_050);
}

async function wrongAmounts(page) {
  await page.locator("button[data-act=deposit]").click();
  const dialog = page.locator("dialog[open]");
  for (const wrong of ["0", "-1", "1e2", "0.001", "12,505", "doce"]) {
    await dialog.locator("input[name=monto]").fill(wrong);
    await dialog.locator("button[value=go]").click();
    await eventually(`${wrong} is refused`, async () => (await dialog.locator("[role=alert]").textContent()).includes("no es válido"));
  }
  await page.keyboard.press("Escape");
}

async function openAndFind(page) {
  await page.locator("form.search button", { hasText: "Abrir una cuenta" }).click();
  const dialog = page.locator("dialog[open]");
  await dialog.locator("input[name=cedula]").fill("1710034065");
  await dialog.locator("input[name=nombres]").fill("María José");
  await dialog.locator("input[name=apellidos]").fill("Zambrano");
  await dialog.locator("button[value=go]").click();
  await page.locator("section.account", { hasText: "Zambrano" }).waitFor();
  await find(page, LUIS);
  await find(page, "zambrano mar");
  await page.locator("section.account", { hasText: "María José Zambrano" }).waitFor();
}

/** While an alert freezes the site the teller is told so, and no longer. */
async function frozen(page) {
  const banner = page.locator(".frozen");
  must(await banner.isHidden(), "frozen without a reason");
  await ask("freeze");
  await banner.waitFor();
  must((await banner.textContent()).includes("congelados"), "the banner does not say what is frozen");
  await ask("thaw");
  await banner.waitFor({ state: "hidden" });
}
