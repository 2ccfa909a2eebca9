// Spanish and English: the words of the page.

import { choice, choose } from "./settings.js";
import { TEXTS } from "./texts.js";

const LANGUAGES = ["es", "en"];

/** The language of the page: what was chosen here, else the browser's, else Spanish. */
export function language() {
  const wanted = choice("language", navigator.language.slice(0, 2));
  return LANGUAGES.includes(wanted) ? wanted : "es";
}

/** The same as a locale: the browser's own where it is of that language, for money and dates. */
export function locale() {
  const wanted = language();
  return navigator.languages.find((one) => one.slice(0, 2) === wanted) ?? wanted;
}

/** From now on the page speaks this language. */
export function chooseLanguage(code) {
  choose("language", code);
}

/** The text called `key`, with `{0}`, `{1}`… replaced. */
export function t(key, ...values) {
  const text = TEXTS[key]?.[LANGUAGES.indexOf(language())];
  if (text === undefined) {
    console.error(`no text "${key}"`);
    return key;
  }
  return text.replace(/\{(\d)\}/g, (_, index) => values[index] ?? "");
}
