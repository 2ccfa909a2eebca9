// REST: one way in for all pages.

import { language } from "./i18n.js";

let csrf = null;
let signedOut = () => {};

/** What a page that signed in with a cookie sends along. */
export function setCsrf(token) {
  csrf = token;
}

/** Who is told when the session has ended. */
export function onSignedOut(handler) {
  signedOut = handler;
}

/** A request was refused or failed; `message` says why, in the language of the page. */
export class Problem extends Error {
  constructor(message, fields) {
    super(message);
    Object.assign(this, fields);
  }
}

const MONEY = /"((?:monto|saldo)\w*)":(-?\d+(?:\.\d+)?)/g;

/** JSON in which money stays the text it is: a number of the browser could not hold it exactly. */
export function parse(text) {
  return JSON.parse(text.replace(MONEY, '"$1":"$2"'));
}

/** How often a request that was refused for want of room is sent again. */
const TRIES = 5;

/**
 * Sends a request and gives what is answered. A request that came too fast is sent again; one with
 * a `key` (Idempotency-Key) also after the connection broke, since it happens once at most.
 */
export async function call(method, path, { body, key, signal } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(method, path, body, key, signal);
    } catch (problem) {
      const busy = problem.status === 429 || problem.status === 503;
      const repeatable = method === "GET" || key;
      const again = busy || (problem.status === 0 && repeatable);
      if (!again || attempt >= TRIES || signal?.aborted) throw problem;
      await pause(problem.after ?? 200 * 2 ** attempt);
    }
  }
}

async function once(method, path, body, key, signal) {
  const headers = { accept: "application/json", "accept-language": language() };
  if (csrf) headers["x-csrf-token"] = csrf;
  if (key) headers["idempotency-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const text = language() === "es" ? "No hay conexión con Atalaya" : "Atalaya cannot be reached";
    throw new Problem(text, { status: 0 });
  }
  const text = await response.text();
  if (response.ok) {
    const answer = text ? parse(text) : {};
    if (answer && typeof answer === "object") {
      Object.defineProperty(answer, "replayed", {
        value: response.headers.get("idempotent-replayed") === "true",
      });
    }
    return answer;
  }
  throw refusal(response, text, path);
}

function refusal(response, text, path) {
  let document = {};
  try {
    document = parse(text);
  } catch {
    // Something in between has answered; its status says enough.
  }
  const wait = Number(response.headers.get("retry-after"));
  const problem = new Problem(document.detail ?? `${response.status}`, {
    ...document, status: response.status, after: wait > 0 ? wait * 1000 : undefined,
  });
  if (response.status === 401 && path !== "/sesiones") signedOut(problem);
  return problem;
}

const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

/** A path from parts that may be anything, and a query of what is set. */
export function path(parts, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(set).toString();
  const joined = parts.map((part) => encodeURIComponent(part)).join("/");
  return `/${joined}${search ? `?${search}` : ""}`;
}

/** All pages of a list, each handed to `take`; stops where it says `false`. */
export async function pages(parts, query, take, signal) {
  let cursor = null;
  do {
    const page = await call("GET", path(parts, { limite: 200, ...query, cursor }), { signal });
    if (take(page.datos) === false) return;
    cursor = page.siguiente;
  } while (cursor);
}

/** A whole list; only for what is small. */
export async function all(parts, query = {}) {
  const found = [];
  await pages(parts, query, (some) => { found.push(...some); });
  return found;
}

/** A fresh idempotency key. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
