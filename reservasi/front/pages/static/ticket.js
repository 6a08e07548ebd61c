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
const KEPT_DAYS = 366; // after the end that was announced when a ticket was issued: its opening may have moved since

/** @param {string} opening @returns {string} */
const key = (opening) => `${PREFIX}${opening}`;

/**
 * Forget very old tickets.
 * @param {string} opening whose page is shown; its ticket stays, since its queue tells the present end
 */
function forgetOld(opening) {
  for (const name of Object.keys(localStorage)) {
    if (!name.startsWith(PREFIX) || name === key(opening)) continue;
    const ends = endOf(localStorage.getItem(name) ?? "");
    if (ends !== undefined && ends + KEPT_DAYS * DAY_S < Date.now() / 1000) localStorage.removeItem(name);
  }
}

/**
 * Whether an opening has been over for more than a day, by its present end, so that its ticket is of no use.
 * @param {{state: string, ends_at: string}} queue
 * @param {number} now by the server's clock
 * @returns {boolean}
 */
export function isLongOver(queue, now) {
  const over = queue.state === "ended" || queue.state === "cancelled";
  return over && Date.parse(queue.ends_at) + DAY_S * 1000 < now;
}

/** @param {string} text @returns {number | undefined} when its opening would end when it was issued, in seconds */
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
    forgetOld(opening);
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
