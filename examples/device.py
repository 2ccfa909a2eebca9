"""A device for firmware authors to copy: signs one alert and sends it until it is answered.

    atalaya device enrol boton-1 && pip install -r examples/requirements.txt
    python examples/device.py boton-1.json ROJO [--host 127.0.0.1] [--port 1883]
"""
import argparse, base64, hashlib, json, os, queue, sys, time
import jwt, paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

parser = argparse.ArgumentParser()
parser.add_argument("credentials"), parser.add_argument("kind")
parser.add_argument("--host", default="127.0.0.1"), parser.add_argument("--port", type=int, default=1883)
args = parser.parse_args()
os.path.isfile(args.credentials) or sys.exit(f"{args.credentials} is no file: atalaya device enrol writes one")
me = json.load(open(args.credentials))
me["alg"] == "EdDSA" or sys.exit(f"{args.credentials} is for {me['alg']}: this example signs with Ed25519")

# The number is on disk, whole, before it is on the wire: used twice it looks like a forgery.
me["seq"] += 1
with open(args.credentials + ".tmp", "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
    print(json.dumps(me), file=file, flush=True)
    os.fsync(file.fileno())
os.replace(args.credentials + ".tmp", args.credentials)

# Signed once. What is sent again are the same bytes, so that Atalaya knows a repeat as one.
address = f"{me['empresa']}/{me['sede']}/{me['hardware']}"
claims = {"aud": me["aud"], "sub": address, "seq": me["seq"], "iat": int(time.time()), "tipo_alarma": args.kind}
key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(me["clave_privada"] + "="))
message = jwt.encode(claims, key, "EdDSA", headers={"typ": "alerta+jws", "kid": me["kid"]})
fingerprint, topic, replies = hashlib.sha256(message.encode()).hexdigest(), f"empresas/{address}/", queue.Queue()

def on_connect(client, *_):  # at each connection: a broker that restarts may have forgotten
    client.subscribe([(topic + "respuesta", 1), (topic + "comando", 1)])

def on_subscribe(client, *_):  # not before: a reply that comes earlier is lost
    client.publish(topic + "estado", '{"estado":"en_linea"}', qos=1, retain=True)
    client.publish(topic + "alerta", message, qos=1)

def on_message(client, _, received):
    print(received.topic, received.payload.decode())
    said = json.loads(received.payload)
    # The fingerprint tells whose answer it is. LIMITE passes: the same message may come again.
    if said.get("huella") == fingerprint and said["motivo"] != "LIMITE":
        replies.put(said["estado"])

# Client id and user are the device's name, which is what a broker's ACL goes by.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, me["hardware"], protocol=mqtt.MQTTv5)
client.username_pw_set(me["hardware"], os.environ.get("MQTT_PASSWORD", me.get("contrasena_mqtt")))
client.will_set(topic + "estado", '{"estado":"fuera_de_linea"}', qos=1, retain=True)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.on_connect_fail = lambda *_: print(f"cannot connect to {args.host}:{args.port}, trying again", file=sys.stderr)
client.connect_async(args.host, args.port)
client.loop_start()  # a thread that also connects again
for wait in [1, 2, 4, 8, 16, 30]:  # a PUBACK proves nothing, brokers lose messages: only the reply does
    try:
        sys.exit(replies.get(timeout=wait) == "RECHAZADA")
    except queue.Empty:
        client.publish(topic + "alerta", message, qos=1)
sys.exit("nobody answered")
