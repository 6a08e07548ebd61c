// A ticket, as the person has it: read here, never believed; only the service can tell whether it is good.

/** @param {string} part in base64url @returns {Record<string, any>} */
const decoded = (part) => JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/")));

/** @typedef {{opening: string, id: string, number: number | undefined}} Ticket */

/**
 * @param {string} text
 * @returns {Ticket | undefined} undefined when it has not the form of a ticket
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

/** @param {string} opening @returns {string} */
const key = (opening) => `reservasi.ticket.${opening}`;

/** @param {string} opening @returns {string} what this tab keeps; "" for nothing */
export function keptTicket(opening) {
  try {
    return sessionStorage.getItem(key(opening)) ?? "";
  } catch {
    return ""; // storage is switched off
  }
}

/** @param {string} opening @param {string} text "" forgets it */
export function keepTicket(opening, text) {
  try {
    if (text) sessionStorage.setItem(key(opening), text);
    else sessionStorage.removeItem(key(opening));
  } catch {
    // the page shows it all the same
  }
}
