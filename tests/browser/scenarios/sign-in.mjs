// Each role gets in, sees its own start page and nothing that is not for it.

import { BASE, REFUSED, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

/** User, the title of the start page, and the addresses in the menu. */
const ROLES = [
  ["demo-admin", "Sistema", ["sistema", "registros", "personas", "empresas", "hardware", "reglas", "auditoria"]],
  ["demo-operador", "Vigilancia", ["vigilancia", "tablero", "empresas", "hardware", "reglas", "cuarentena"]],
  ["demo-cajero", "Caja", ["caja"]],
  ["demo-cliente", "Mi cuenta", ["cuenta"]],
  ["demo-auditor", "Vigilancia", ["vigilancia", "tablero", "consulta", "sistema", "registros", "personas", "empresas",
    "hardware", "reglas", "cuarentena", "auditoria"]],
];

export default async function play(browser) {
  await wrongPassword(browser);
  for (const [user, title, menu] of ROLES) await startsAt(browser, user, title, menu);
  await preferences(browser);
  await firstPassword(browser);
}

async function wrongPassword(browser) {
  const context = await visitor(browser);
  const page = await context.newPage();
  await page.goto(BASE);
  await page.locator("input[name=usuario]").fill("demo-admin");
  await page.locator("input[name=contrasena]").fill("wrong");
  await page.locator("form.sign-in button.primary").click();
  const error = page.locator("form.sign-in [role=alert]");
  await error.waitFor();
  must((await error.textContent()).includes("contraseña"), `no reason: ${await error.textContent()}`);
  unharmed(context, [REFUSED]);
  await context.close();
}

async function startsAt(browser, user, title, menu) {
  const context = await visitor(browser);
  const page = await signIn(context, user, PASSWORD);
  await page.locator("main h1", { hasText: title }).waitFor();
  const links = await page.locator("header nav a").evaluateAll((all) => all.map((link) => link.getAttribute("href").slice(2)));
  must(JSON.stringify(links) === JSON.stringify(menu), `${user} sees ${links}`);
  // An address that is not theirs leads to what is.
  await page.goto(`${BASE}/#/${menu.includes("caja") ? "personas" : "caja"}`);
  await page.locator("main h1", { hasText: title }).waitFor();
  // In again after a reload, without a word.
  await page.reload();
  await page.locator("main h1", { hasText: title }).waitFor();
  await page.locator("header details summary").click();
  await page.locator("header details button", { hasText: "Salir" }).click();
  await page.locator("form.sign-in").waitFor();
  await page.reload();
  await page.locator("form.sign-in").waitFor();
  unharmed(context);
  await context.close();
}

async function preferences(browser) {
  const context = await visitor(browser, { locale: "en-GB", colorScheme: "light" });
  const page = await signIn(context, "demo-cajero", PASSWORD);
  await page.locator("main h1", { hasText: "Counter" }).waitFor();
  const dark = () => page.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor);
  const before = await dark();
  await page.locator("header details summary").click();
  await page.locator("header details select").nth(1).selectOption("dark");
  must(before !== await dark(), "dark is as light as light");
  await page.locator("header details select").nth(0).selectOption("es");
  await page.locator("main h1", { hasText: "Caja" }).waitFor();
  must(await page.evaluate(() => document.documentElement.lang) === "es", "the document does not say its language");
  await page.reload();
  await page.locator("main h1", { hasText: "Caja" }).waitFor();
  must(before !== await dark(), "the colours are forgotten");
  unharmed(context);
  await context.close();
}

/** A new person's first password must be changed, and lets nobody do anything before. */
async function firstPassword(browser) {
  const admin = await visitor(browser);
  const people = await signIn(admin, "demo-admin", PASSWORD, "#/personas");
  await people.locator("button", { hasText: "Añadir una persona" }).click();
  const dialog = people.locator("dialog[open]");
  await dialog.locator("input[name=usuario]").fill("vigia-nueva");
  await dialog.locator("input[name=nombre]").fill("Vigía Nueva");
  await dialog.locator("input[data-scope=empresa]").fill("banco");
  await dialog.locator("button[value=go]").click();
  const first = await people.locator("dialog[open] code.secret").textContent();
  await people.locator("dialog[open] .actions button").click();
  await people.locator("tr", { hasText: "vigia-nueva" }).waitFor();
  unharmed(admin);
  await admin.close();

  const context = await visitor(browser);
  const page = await context.newPage();
  await page.goto(BASE);
  await page.locator("input[name=usuario]").fill("vigia-nueva");
  await page.locator("input[name=contrasena]").fill(first);
  await page.locator("form.sign-in button.primary").click();
  const choose = page.locator("dialog[open]");
  await choose.locator("input[name=actual]").fill(first);
  await choose.locator("input[name=nueva]").fill("correct horse battery staple");
  await choose.locator("input[name=otra]").fill("correct horse battery");
  await choose.locator("button[value=go]").click();
  await eventually("the difference is told", async () => (await choose.locator("[role=alert]").textContent()).includes("no son iguales"));
  await choose.locator("input[name=otra]").fill("correct horse battery staple");
  await choose.locator("button[value=go]").click();
  await page.locator("main h1", { hasText: "Vigilancia" }).waitFor();
  unharmed(context);
  await context.close();
}
