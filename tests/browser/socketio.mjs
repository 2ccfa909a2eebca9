// A client as the web front end from before Atalaya is one: socket.io-client with its own defaults,
// websocket first. Says on its output what it hears, one JSON array a line; does what it reads on its
// input: `subscribe <cedula>`.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
const say = (...words) => console.log(JSON.stringify(words));

const socket = io(url, {
  transports: ["websocket", "polling"],
  reconnectionDelay: 100,
  reconnectionDelayMax: 200,
  extraHeaders: { Origin: process.env.ORIGIN ?? url },
  ...(token ? { auth: { token } } : {}),
});

const followed = new Set();
socket.on("connect", () => {
  say("connect");
  for (const cedula of followed) socket.emit("subscribe_balance", { cedula });
});
socket.on("connect_error", (error) => say("connect_error", error.message));
socket.on("disconnect", (reason) => say("disconnect", reason));
socket.onAny((event, data) => say(event, data));

createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, cedula] = line.split(" ");
  if (verb === "subscribe") {
    followed.add(cedula);
    socket.emit("subscribe_balance", { cedula }, (heard) => say("heard", cedula, heard));
  }
}).on("close", () => process.exit(0));
