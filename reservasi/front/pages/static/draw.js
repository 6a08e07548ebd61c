// Computes the draw from public data: SHA-256, HMAC-SHA-256 and integers.

/** Whether this browser can compute it: cryptography is available only on HTTPS pages and localhost. */
export const canCompute = globalThis.crypto?.subtle !== undefined;

/** @param {string} hex @returns {Uint8Array<ArrayBuffer>} */
export function bytesOf(hex) {
  if (!/^([0-9a-f]{2})+$/i.test(hex)) throw new Error("not hexadecimal");
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** @param {ArrayBuffer} buffer @returns {string} */
export function hexOf(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The commitment that was published when the opening was created.
 * @param {string} seed in hexadecimal
 * @returns {Promise<string>}
 */
export async function commitment(seed) {
  return hexOf(await crypto.subtle.digest("SHA-256", bytesOf(seed)));
}

/**
 * The number of a person who joined before the opening: floor(u / 2^64 x joined), u being the first 8 bytes of
 * HMAC-SHA-256(seed, "ticket id, line feed, beacon").
 * @param {string} seed in hexadecimal
 * @param {string} ticketId
 * @param {string} beacon "" for none
 * @param {number} joined
 * @returns {Promise<number>}
 */
export async function drawnNumber(seed, ticketId, beacon, joined) {
  const key = await crypto.subtle.importKey("raw", bytesOf(seed), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`${ticketId}\n${beacon}`));
  return Number((new DataView(mac).getBigUint64(0) * BigInt(joined)) >> 64n);
}
