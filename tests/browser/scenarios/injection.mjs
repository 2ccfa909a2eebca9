// What people write stays text, on every page where it is shown.

import { BASE, REFUSED, ask, must, signIn, unharmed, visitor } from "../lib.mjs";

const PASSWORD = "demo-atalaya";

/** Whatever a browser could take for something else than text. */
const CORPUS = [
  "<script>window.hurt=1</script>",
  "<img src=x onerror=window.hurt=1>",
  "\"><svg onload=window.hurt=1>",
  "javascript:window.hurt=1",
  "{{7*7}}${window.hurt=1}",
  "'-window.hurt-'",
];

export default async function play(browser) {
  const places = await ask("poison", { corpus: CORPUS });
  must(places.planted.length >= 8, `planted in ${places.planted}`);
  await tour(browser, "demo-admin", ["sistema", "registros", "personas", "empresas", "hardware", "reglas", "auditoria"], places);
  await tour(browser, "demo", ["vigilancia", "tablero", "cuarentena", `alerta/${places.alert}`, "caja/777"], places);
  await typed(browser);
}

async function tour(browser, user, addresses, places) {
  const context = await visitor(browser);
  const page = await signIn(context, user, PASSWORD);
  page.on("dialog", () => context.faults.push("a script asked something"));
  for (const address of addresses) {
    await page.goto(`${BASE}/#/${address}`);
    await page.locator(`main[data-page=${address.split("/")[0]}] h1`).first().waitFor();
    await page.locator("main [data-refreshed]:not(:empty)").first().waitFor();
    // Everything that opens is opened.
    await page.evaluate(() => { for (const details of document.querySelectorAll("main details")) details.open = true; });
    const found = await page.evaluate(() => ({
      hurt: window.hurt, scripts: document.querySelectorAll("main script, dialog script").length,
      planted: document.querySelectorAll("main img, main svg, main [onerror], main [onload]").length,
      links: [...document.querySelectorAll("main a")].filter((link) => link.protocol === "javascript:").length,
    }));
    must(found.hurt === undefined && found.scripts === 0 && found.planted === 0 && found.links === 0, `${address}: ${JSON.stringify(found)}`);
  }
  // It is shown, and as it was written.
  await page.goto(`${BASE}/#/${user === "demo-admin" ? "empresas" : `alerta/${places.alert}`}`);
  await page.locator("main", { hasText: "<img src=x onerror=window.hurt=1>" }).waitFor();
  unharmed(context, [REFUSED]);
  await context.close();
}

/** The fields of the page themselves. */
async function typed(browser) {
  const context = await visitor(browser);
  const page = await signIn(context, "demo", PASSWORD, "#/vigilancia");
  await page.locator("input[type=search]").fill(CORPUS[1]);
  await page.goto(`${BASE}/#/caja`);
  await page.locator("form.search input").fill(`${CORPUS[0]} nobody`);
  await page.locator("form.search button.primary").click();
  await page.locator(".results li").waitFor();
  await page.goto(`${BASE}/#/alerta/${encodeURIComponent(CORPUS[2])}`);
  await page.locator("main [role=alert]").waitFor();
  must(await page.evaluate(() => window.hurt) === undefined, "a field ran what was written into it");
  unharmed(context, [REFUSED, /status of 400/]);
  await context.close();
}
