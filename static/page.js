const state = document.getElementById("estado");
const list = document.getElementById("eventos");
const LINES = 50;
const empty = document.getElementById("nada");
const seen = new Set();
let cursor = null;
let csrf = null;
const form = document.getElementById("entrar");
// Money as it stands in the message: a number of the browser could not hold it exactly.
const money = (text, field) => "$" + (text.match(`"${field}":(-?[0-9.]+)`)?.[1] ?? "?");
function sentence(topic, event, text) {
  const time = new Date(event.timestamp).toLocaleTimeString();
  switch (topic) {
    case "banco/transacciones": {
      const kind = event.tipo === "DEPOSITO" ? "💰 Depósito" : "💸 Retiro";
      return `${time}  ${kind} de ${money(text, "monto")} · cédula ${event.cedula} · saldo ${money(text, "saldo_nuevo")} · versión ${event.version}`;
    }
    case "banco/transferencias":
      return `${time}  🔄 Transferencia de ${money(text, "monto")} · de ${event.cedula_origen} (${money(text, "saldo_origen")}) a ${event.cedula_destino} (${money(text, "saldo_destino")}) · versión ${event.version_origen}`;
    case "banco/alertas":
      return `${time}  🚨 ${event.message} · cédula ${event.cedula}`;
  }
  return null;
}
async function call(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (csrf) headers["x-csrf-token"] = csrf;
  const response = await fetch("/api/v1/sesiones" + path, {
    method, headers, body: body && JSON.stringify(body),
  });
  const answer = response.status === 204 ? {} : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), answer);
  return answer;
}
// Who signed in before on this browser is in still: the cookie says so, and `csrf` that the page is ours.
async function enter(identity) {
  csrf = identity.csrf;
  document.getElementById("quien").textContent = identity.usuario;
  document.getElementById("entrar").hidden = true;
  document.getElementById("dentro").hidden = false;
  if (identity.cambiar_contrasena) {
    state.textContent = "debe cambiar la contraseña: atalaya login " + identity.usuario;
    return;
  }
  connect();
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const body = { usuario: fields.get("usuario"), contrasena: fields.get("contrasena"), cookie: true };
  if (fields.get("codigo")) body.codigo = fields.get("codigo");
  document.getElementById("error").textContent = "";
  try {
    await enter(await call("POST", "", body));
    form.reset();
  } catch (error) {
    document.getElementById("codigo").hidden = error.codigo !== "falta_codigo" && error.codigo !== "codigo_incorrecto";
    document.getElementById("error").textContent = error.message;
  }
});
document.getElementById("salir").addEventListener("click", async () => {
  await call("DELETE", "/actual").catch(() => {});
  location.reload();
});
async function connect() {
  let ticket;
  try {
    // A WebSocket cannot show the cookie's token: it takes a ticket that is good once.
    ticket = (await call("POST", "/actual/boleto")).boleto;
  } catch (error) {
    if (error.status === 401) return location.reload();
    state.textContent = "sin conexión, reintentando…";
    return setTimeout(connect, 1000);
  }
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws?boleto=" + ticket);
  socket.onopen = () => {
    state.textContent = "en línea";
    const temas = ["banco/transacciones", "banco/transferencias", "banco/alertas"];
    socket.send(JSON.stringify(cursor ? { accion: "suscribir", temas, desde: cursor } : { accion: "suscribir", temas }));
  };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (!frame.tema) return;
    cursor = frame.cursor ?? cursor;
    const line = sentence(frame.tema, frame.datos, data);
    if (!line || seen.has(line)) return;
    // After a reconnection an event may come twice.
    seen.add(line);
    empty.hidden = true;
    const item = document.createElement("li");
    // As text, never as HTML: what clients wrote stays what it is.
    item.textContent = line;
    list.prepend(item);
    while (list.children.length > LINES) {
      seen.delete(list.lastChild.textContent);
      list.lastChild.remove();
    }
  };
  socket.onclose = () => {
    state.textContent = "sin conexión, reintentando…";
    setTimeout(connect, 1000);
  };
}
call("GET", "/actual").then(enter, () => {
  state.textContent = "fuera";
  form.hidden = false;
});
