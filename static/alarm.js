// Sound and notifications for what is urgent.

import { t } from "./i18n.js";
import { choice, choose } from "./settings.js";

/** Between two sounds, in milliseconds: a burst of alarms is one sound. */
const QUIET = 1_500;

let audio = null;
let last = 0;

/** Whether sound is on. */
export const isLoud = () => choice("sound", true);

/** Switches sound; to switch it on plays it, which browsers permit in answer to a click only. */
export function setLoud(on) {
  choose("sound", on);
  if (on) beep();
}

/** Whether notifications are wanted and permitted. */
export const notifies = () => choice("notify", false) && "Notification" in window && Notification.permission === "granted";

/** Asks the browser for permission; gives whether it is there. */
export async function setNotifies(on) {
  if (on && "Notification" in window) on = (await Notification.requestPermission()) === "granted";
  else on = false;
  choose("notify", on);
  return on;
}

/** Two falling tones. */
function beep() {
  try {
    audio ??= new AudioContext();
    audio.resume();
    for (const [start, frequency] of [[0, 880], [0.22, 660], [0.44, 880]]) {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      const at = audio.currentTime + start;
      tone.frequency.value = frequency;
      volume.gain.setValueAtTime(0.0001, at);
      volume.gain.exponentialRampToValueAtTime(0.25, at + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.2);
      tone.connect(volume).connect(audio.destination);
      tone.start(at);
      tone.stop(at + 0.21);
    }
  } catch {
    // Without sound there is still what is seen.
  }
}

/** Tells of a critical alert by all means that are wanted. */
export function alarm(alert) {
  const now = Date.now();
  const text = t("urgent_text", alert.tipo_alarma, `${alert.empresa}/${alert.sede}`, alert.hardware);
  if (now - last < QUIET) return;
  last = now;
  if (isLoud()) beep();
  document.getElementById("urgent").textContent = text;
  if (!notifies()) return;
  const note = new Notification(t("urgent"), { body: text, tag: "atalaya-critica" });
  note.onclick = () => {
    window.focus();
    location.hash = `#/alerta/${alert.alerta_id}`;
    note.close();
  };
}
