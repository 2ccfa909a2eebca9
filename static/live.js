// Events as they are committed, over one WebSocket for all that is open.
//
// After a connection breaks, `desde` brings what was missed; after a long absence pages read their
// state anew instead, which is less than all that happened meanwhile.

import { call, parse } from "./api.js";

/** A longer absence is not replayed, in milliseconds. */
const REPLAY = 120_000;

/** Between two tries to connect, in milliseconds: from the first to the longest. */
const FIRST_WAIT = 300;
const LONGEST_WAIT = 5_000;

/** No answer to a ping for so long means that nobody is there. */
const SILENCE = 25_000;
const PING = 10_000;

const wishes = new Set();
const watchers = new Set();
let socket = null;
let state = "off";
let cursor = null;
let lostAt = null;
let wait = FIRST_WAIT;
let timer = null;
let heard = 0;
let ids = 0;
let generation = 0;

/** `off`, `connecting`, `live` or `lost`. */
export function connectionState() {
  return state;
}

/** Tells `watcher` of each change: `(state, { again, gap })`. Returns how to stop. */
export function watchConnection(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** Hands events under MQTT filters to `handle`. Returns how to stop. */
export function subscribe(topics, handle) {
  const wish = { topics, handle };
  wishes.add(wish);
  if (state === "live") send({ accion: "suscribir", temas: topics });
  return () => {
    wishes.delete(wish);
    const rest = new Set(wanted());
    const unwanted = topics.filter((topic) => !rest.has(topic));
    if (state === "live" && unwanted.length) send({ accion: "desuscribir", temas: unwanted });
  };
}

/** Begins; goes on until `stop`. */
export function start() {
  if (state === "off") connect();
}

/** Ends it all: somebody has signed out. */
export function stop() {
  generation++;
  clearTimeout(timer);
  wishes.clear();
  cursor = lostAt = null;
  set("off");
  socket?.close();
  socket = null;
}

function wanted() {
  return [...new Set([...wishes].flatMap((wish) => wish.topics))];
}

function send(request) {
  ids++;
  // One that is closing takes nothing more; the next connection asks for what is wanted by then.
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id: ids, ...request }));
  return ids;
}

function set(next, details = {}) {
  state = next;
  for (const watcher of watchers) watcher(next, details);
}

async function connect() {
  const mine = ++generation;
  set(lostAt === null ? "connecting" : "lost");
  let ticket;
  try {
    // A WebSocket cannot show the cookie's token: it takes a ticket that is good once.
    ticket = (await call("POST", "/sesiones/actual/boleto")).boleto;
  } catch (problem) {
    if (problem.status === 401 || mine !== generation) return;
    return later();
  }
  if (mine !== generation) return;
  const opened = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws?boleto=${ticket}`);
  socket = opened;
  let request = null;
  let subscribed = null;
  let beat = null;
  opened.onopen = () => {
    heard = Date.now();
    const gap = lostAt !== null && (cursor === null || Date.now() - lostAt > REPLAY);
    const again = lostAt !== null;
    request = { accion: "suscribir", temas: wanted() };
    if (cursor !== null && !gap) request.desde = cursor;
    subscribed = { id: send(request), again, gap };
    beat = setInterval(() => {
      if (Date.now() - heard > SILENCE) opened.close();
      else send({ accion: "ping" });
    }, PING);
  };
  opened.onmessage = ({ data }) => {
    heard = Date.now();
    const frame = parse(data);
    if (frame.tema === undefined) {
      if (frame.datos?.cursor && (cursor === null || subscribed?.gap)) cursor = frame.datos.cursor;
      if (subscribed && frame.id === subscribed.id) {
        lostAt = null;
        wait = FIRST_WAIT;
        set("live", subscribed);
        subscribed = null;
        // What was wished for while the connection was made.
        const late = wanted().filter((topic) => !request.temas.includes(topic));
        if (late.length) send({ accion: "suscribir", temas: late });
      }
      return;
    }
    if (frame.cursor) cursor = frame.cursor;
    deliver(frame);
  };
  opened.onclose = () => {
    clearInterval(beat);
    if (mine !== generation) return;
    lostAt ??= Date.now();
    later();
  };
}

function later() {
  lostAt ??= Date.now();
  set("lost");
  clearTimeout(timer);
  // Spread, so that a house full of browsers does not come back at once.
  timer = setTimeout(connect, wait * (0.5 + Math.random()));
  wait = Math.min(LONGEST_WAIT, wait * 2);
}

function deliver(frame) {
  for (const wish of wishes) {
    if (wish.topics.some((filter) => matches(frame.tema, filter))) wish.handle(frame);
  }
}

/** Whether an MQTT filter takes a topic. */
export function matches(topic, filter) {
  if (topic === filter) return true;
  const have = topic.split("/");
  const want = filter.split("/");
  for (let level = 0; level < want.length; level++) {
    if (want[level] === "#") return true;
    if (want[level] !== "+" && want[level] !== have[level]) return false;
  }
  return have.length === want.length;
}
