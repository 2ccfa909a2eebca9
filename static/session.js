// Who sits here, and what they may see. The server decides; this only spares dead ends.

let identity = null;

/** From now on it is them, or nobody. */
export function setIdentity(next) {
  identity = next;
}

/** Who is in. */
export function me() {
  return identity;
}

/** Whether they have one of these roles. */
export function has(...wanted) {
  return Boolean(identity?.roles.some(({ rol }) => wanted.includes(rol)));
}

/** Whether they have one of these roles without being tied to a company. */
export function hasEverywhere(...wanted) {
  return Boolean(identity?.roles.some(({ rol, empresa }) => wanted.includes(rol) && !empresa));
}

/** Their grants of one role. */
export function grants(role) {
  return identity?.roles.filter(({ rol }) => rol === role) ?? [];
}
