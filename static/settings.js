// What this browser remembers: choices of whoever sits here, never data.

const PREFIX = "atalaya.";

/** The remembered choice called `name`, or `otherwise`. */
export function choice(name, otherwise) {
  try {
    const kept = localStorage.getItem(PREFIX + name);
    return kept === null ? otherwise : JSON.parse(kept);
  } catch {
    // A browser that keeps nothing, or somebody's scribble: the default is good enough.
    return otherwise;
  }
}

/** Remembers a choice. */
export function choose(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // It holds until the page is closed, which is all that such a browser allows.
  }
}
