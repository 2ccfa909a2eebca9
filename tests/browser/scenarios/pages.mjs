// Every page in both languages, light and dark, on a desk and on a phone: without a violation of
// WCAG 2.2 AA, nothing wider than the screen, and a picture of it to look at.

import { mkdirSync } from "node:fs";
import { BASE, accessible, ask, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";
const FOLDER = process.env.SCREENSHOTS;

const PLACES = {
  demo: ["vigilancia", "tablero", "caja/1350509525", "cuarentena", "ALERT"],
  "demo-admin": ["sistema", "registros", "personas", "empresas", "hardware", "reglas", "auditoria"],
  "demo-cliente": ["cuenta"],
};

const LOOKS = [
  { name: "es-light-desktop", locale: "es-EC", colorScheme: "light", viewport: { width: 1440, height: 900 } },
  { name: "en-dark-desktop", locale: "en-US", colorScheme: "dark", viewport: { width: 1440, height: 900 } },
  { name: "es-dark-phone", locale: "es-EC", colorScheme: "dark", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
  { name: "en-light-phone", locale: "en-US", colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
];

export default async function play(browser) {
  mkdirSync(FOLDER, { recursive: true });
  const { alert } = await ask("furnish");
  const wrong = [];
  for (const { name, ...look } of LOOKS.filter((one) => one.name.endsWith(process.env.SCREEN))) {
    await door(browser, look, name, wrong);
    for (const [user, places] of Object.entries(PLACES)) {
      const context = await visitor(browser, look);
      const page = await signIn(context, user, PASSWORD);
      for (const place of places) {
        const address = place === "ALERT" ? `alerta/${alert}` : place;
        await page.goto(`${BASE}/#/${address}`);
        await page.locator(`main[data-page=${address.split("/")[0]}] h1`).first().waitFor();
        await page.locator("main [data-refreshed]:not(:empty)").first().waitFor();
        if (["caja", "cuenta"].includes(address.split("/")[0])) await page.locator("[data-balance]:not(:empty)").waitFor();
        const title = `${name} ${place}`;
        await page.screenshot({ path: `${FOLDER}/${name}-${place.split("/")[0].toLowerCase()}.png` });
        await accessible(page, title).catch((error) => wrong.push(error.message));
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) wrong.push(`${title} is ${wide} pixels wider than the screen`);
      }
      unharmed(context);
      await context.close();
    }
  }
  must(!wrong.length, wrong.join("\n"));
}

async function door(browser, look, name, wrong) {
  const context = await visitor(browser, look);
  const page = await context.newPage();
  await page.goto(BASE);
  await page.locator("form.sign-in").waitFor();
  await page.screenshot({ path: `${FOLDER}/${name}-door.png` });
  await accessible(page, `${name} door`).catch((error) => wrong.push(error.message));
  await context.close();
}
