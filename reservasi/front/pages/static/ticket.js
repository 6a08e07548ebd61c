// Reads a ticket without verifying it; only the service can tell whether it is valid.

/** @param {string} part in base64url @returns {Record<string, any>} */
const decoded = (part) => JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/")));

/** @typedef {{opening: string, id: string, number: number | undefined}} Ticket */

/**
 * @param {string} text
 * @returns {Ticket | undefined} undefined if it is not in the form of a ticket
 */
export function readTicket(text) {
  try {
    const [head, payload, signature] = text.trim().split(".");
    const claims = decoded(payload);
    if (decoded(head).typ !== "reservasi-ticket" || !signature) return undefined;
    if (typeof claims.aud !== "string" || typeof claims.jti !== "string") return undefined;
    const number = Number.isInteger(claims.n) ? claims.n : undefined;
    return { opening: claims.aud.split("/")[1], id: claims.jti, number };
  } catch {
    return undefined;
  }
}

const PREFIX = "reservasi.ticket.";
const DAY_S = 86_400;

/** @param {string} opening @returns {string} */
const key = (opening) => `${PREFIX}${opening}`;

/** Forget the tickets of openings that ended more than a day ago. */
function forgetOld() {
  for (const name of Object.keys(localStorage)) {
    if (!name.startsWith(PREFIX)) continue;
    const ends = endOf(localStorage.getItem(name) ?? "");
    if (ends !== undefined && ends + DAY_S < Date.now() / 1000) localStorage.removeItem(name);
  }
}

/** @param {string} text @returns {number | undefined} when the ticket's opening ends, in seconds */
function endOf(text) {
  try {
    return decoded(text.split(".")[1]).exp;
  } catch {
    return undefined;
  }
}

/** @param {string} opening @returns {string} the ticket stored in this browser, in all tabs; "" for none */
export function keptTicket(opening) {
  try {
    forgetOld();
    return localStorage.getItem(key(opening)) ?? "";
  } catch {
    return ""; // storage is switched off
  }
}

/** @param {string} opening @param {string} text "" forgets it */
export function keepTicket(opening, text) {
  try {
    if (text) localStorage.setItem(key(opening), text);
    else localStorage.removeItem(key(opening));
  } catch {
    // the page shows it nevertheless
  }
}

/** @param {string} opening @param {(text: string) => void} tell called when another tab stores or removes a ticket */
export function followTicket(opening, tell) {
  window.addEventListener("storage", (event) => {
    if (event.key === key(opening) || event.key === null) tell(event.key === null ? "" : (event.newValue ?? ""));
  });
}
