// Plays one scenario; `node play.mjs NAME`, started by tests/suite/browser.rs.

import { launch } from "./lib.mjs";

const name = process.argv[2];
const browser = await launch();
let status = 0;
try {
  const scenario = await import(`./scenarios/${name}.mjs`);
  await scenario.default(browser);
} catch (error) {
  console.error(error.stack ?? error);
  status = 1;
} finally {
  await browser.close();
}
process.exit(status);
