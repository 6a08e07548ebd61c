// Proof of work before joining, after ALTCHA (PBKDF2): a second or two for one person, days for a hundred thousand.
import { bytesOf, hexOf } from "./draw.js";

/**
 * @param {{parameters: {algorithm: string, nonce: string, salt: string, cost: number, keyLength?: number,
 *   keyPrefix?: string}, signature?: string}} challenge
 * @returns {Promise<string>} the solution for the request to join
 */
export async function solve(challenge) {
  const { algorithm, nonce, salt, cost, keyLength = 32, keyPrefix = "00" } = challenge.parameters;
  if (!algorithm.startsWith("PBKDF2/")) throw new Error("unknown algorithm");
  const saltBytes = bytesOf(salt);
  const nonceBytes = bytesOf(nonce);
  const password = new Uint8Array(nonceBytes.length + 4);
  password.set(nonceBytes);
  for (let counter = 0; ; counter += 1) {
    new DataView(password.buffer).setUint32(nonceBytes.length, counter);
    const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
    const kind = { name: "PBKDF2", hash: algorithm.slice("PBKDF2/".length), salt: saltBytes, iterations: cost };
    const derivedKey = hexOf(await crypto.subtle.deriveBits(kind, key, keyLength * 8));
    if (derivedKey.startsWith(keyPrefix)) {
      return btoa(JSON.stringify({ challenge, solution: { counter, derivedKey } }));
    }
  }
}
