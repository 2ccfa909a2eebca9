// What admins and operators edit: companies, sites, devices, keys and rules, tried before they count.

import { BASE, REFUSED, ask, eventually, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

const opened = (page) => page.locator("dialog[open]").last();

async function fillIn(page, values) {
  const dialog = opened(page);
  for (const [name, value] of Object.entries(values)) {
    const control = dialog.locator(`[name=${name}]`);
    if (typeof value === "boolean") await control.setChecked(value);
    else if (await control.evaluate((one) => one.tagName) === "SELECT") await control.selectOption(value);
    else await control.fill(value);
  }
  await dialog.locator("button[value=go]").click();
}

export default async function play(browser) {
  const context = await visitor(browser);
  const page = await signIn(context, "demo-admin", PASSWORD, "#/empresas");
  await page.locator("button", { hasText: "Añadir una empresa" }).click();
  await fillIn(page, { empresa: "acme", nombre: "Acme S. A." });
  const company = page.locator("tr", { hasText: "Acme S. A." });
  await company.waitFor();
  await company.locator("button", { hasText: "Editar" }).click();
  await fillIn(page, { nombre: "Acme del Sur", confianza_broker: true });
  await page.locator("tr", { hasText: "Acme del Sur" }).waitFor();
  await page.locator("button", { hasText: "Añadir una sede" }).click();
  await fillIn(page, { empresa: "acme", sede: "norte", zona_horaria: "America/Guayaquil" });
  await page.locator("tr", { hasText: "acme/norte" }).waitFor();
  // What is refused is told in the dialog, which stays.
  await page.locator("button", { hasText: "Añadir una sede" }).click();
  await fillIn(page, { empresa: "acme", sede: "sur", zona_horaria: "Marte/Olympus" });
  await eventually("the reason", async () => (await opened(page).locator("[role=alert]").textContent()) !== "");
  await page.keyboard.press("Escape");

  await page.goto(`${BASE}/#/hardware`);
  await page.locator("button", { hasText: "Añadir un dispositivo" }).click();
  await fillIn(page, { hardware: "sirena-9", empresa: "acme", sede: "norte", tipo: "SIRENA", nombre: "Sirena del patio" });
  const device = page.locator("tr", { hasText: "Sirena del patio" });
  await device.waitFor();
  await device.locator("button", { hasText: "Claves" }).click();
  await opened(page).locator("button", { hasText: "HS256" }).click();
  await fillIn(page, {});
  const secret = await page.locator("dialog[open] code.secret").textContent();
  must(secret.length === 43, `a secret of ${secret.length} characters`);
  await opened(page).locator(".actions button").click();
  await opened(page).locator("tr", { hasText: "HS256" }).locator("button", { hasText: "Revocar" }).click();
  await fillIn(page, {});
  await opened(page).locator("tr", { hasText: "revocada" }).waitFor();
  await opened(page).locator(".actions button").click();
  unharmed(context, [REFUSED]);
  await context.close();
  await rules(browser);
}

async function rules(browser) {
  await ask("press", { device: "boton-1", kind: "ROJO" });
  const context = await visitor(browser);
  const page = await signIn(context, "demo-operador", PASSWORD, "#/reglas");
  await page.locator("button", { hasText: "Añadir una regla" }).click();
  await opened(page).locator("[name=empresa]").fill("banco");
  await opened(page).locator("[name=nombre]").fill("Aviso a la guardia");
  await opened(page).locator("button", { hasText: "7 días" }).click();
  await page.locator("[data-trial]", { hasText: "en 1 de 1" }).waitFor();
  await opened(page).locator("[name=condicion]").fill("alerta.prioridad ==");
  await opened(page).locator("button", { hasText: "7 días" }).click();
  await opened(page).locator("[data-trial].error").waitFor();
  await fillIn(page, { condicion: "alerta.prioridad = 'critica'" });
  await eventually("where the condition is wrong", async () => (await opened(page).locator("[role=alert]").textContent()) !== "");
  await fillIn(page, { condicion: "alerta.prioridad == 'critica'", acciones: "[{" });
  await eventually("that it is no JSON", async () => (await opened(page).locator("[role=alert]").textContent()).includes("JSON"));
  await fillIn(page, { acciones: '[{"accion":"notificar","grupo":"guardia"}]' });
  const rule = page.locator("tr", { hasText: "Aviso a la guardia" });
  await rule.waitFor();
  await rule.locator("button", { hasText: "Probar" }).click();
  await page.locator("dialog[open] [data-trial]", { hasText: "en 1 de 1" }).waitFor();
  await opened(page).locator(".actions button").click();
  await rule.locator("button", { hasText: "Desactivar" }).click();
  await rule.locator("button", { hasText: "Activar" }).waitFor();
  await rule.locator("button", { hasText: "Versiones" }).click();
  await page.locator("dialog[open] .history li", { hasText: "v2" }).waitFor();
  await opened(page).locator(".actions button").click();
  unharmed(context, [REFUSED]);
  await context.close();
}
