// Money, times and ages for people. Money stays text: a number of the browser cannot hold it.

import { locale, t } from "./i18n.js";

let currency = "USD";
const cache = new Map();

/** From now on money is in this currency. */
export function setCurrency(code) {
  currency = code;
  cache.clear();
}

function formatter(kind, options, Kind) {
  const key = `${kind} ${locale()} ${currency}`;
  if (!cache.has(key)) cache.set(key, new Kind(locale(), options));
  return cache.get(key);
}

/** "1150.00" as people of this language write it. */
export function money(text) {
  if (text === undefined || text === null) return "";
  const options = {
    style: "currency", currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: 2, maximumFractionDigits: 2,
  };
  // A decimal as text is formatted exactly.
  return formatter("money", options, Intl.NumberFormat).format(String(text));
}

/** A number, for figures and charts. */
export function number(value, digits = 1) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  const options = { maximumFractionDigits: digits };
  return formatter(`number ${digits}`, options, Intl.NumberFormat).format(value);
}

/** Day and time. */
export function moment(text) {
  if (!text) return "–";
  const options = { dateStyle: "medium", timeStyle: "medium" };
  return formatter("moment", options, Intl.DateTimeFormat).format(new Date(text));
}

/** The time of day. */
export function clock(text) {
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return formatter("clock", options, Intl.DateTimeFormat).format(new Date(text));
}

/** How long ago: "45 s", "12 min", "3 h 05", "4 d". */
export function age(since, now = Date.now()) {
  const seconds = Math.max(0, Math.floor((now - since) / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.floor(hours / 24)} d`;
}

/**
 * An amount as somebody typed it, as the API takes it, or `null`. A comma counts as the decimal
 * point where nothing else can be meant.
 */
export function amount(text) {
  const plain = text.trim().replace(/^\$\s*/, "").replace(/^(\d+),(\d{1,2})$/, "$1.$2");
  if (!/^(0|[1-9]\d{0,14})(\.\d{1,2})?$/.test(plain) || /^0(\.0+)?$/.test(plain)) return null;
  return plain;
}

/** JSON as it is shown to people. */
export function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** The roles of somebody, in words. */
export function roles(list) {
  if (!list.length) return t("no_roles");
  return list.map((one) => {
    const place = [one.empresa, one.sede].filter(Boolean).join("/") || one.cedula;
    return place ? `${one.rol} (${place})` : one.rol;
  }).join(", ");
}
