// Polls the queue: at most once a second, with jitter, and less often while nothing can change.
import { ask } from "./clock.js";

/**
 * @typedef {{state: "announced" | "joining" | "open" | "paused" | "closed" | "sold_out" | "ended" |
 *   "cancelled", opens_at: string,
 *   joins_from: string, ends_at: string, joined: number, arrived: number, admitted_through: number,
 *   rate_per_min: number, commitment: string, seed?: string, beacon?: string, beacon_source?: string,
 *   moved_from?: string, reason?: string, reason_en?: string, paused_since?: string}} Queue
 */

const SOON_MS = 60_000;
const LONGEST_MS = 30_000;

/**
 * The pause before the next request in milliseconds, without jitter: at least a second.
 * @param {Queue} queue
 * @param {number} now by the server's clock
 * @param {boolean} visible whether the page is visible
 * @returns {number}
 */
export function pause(queue, now, visible) {
  if (["closed", "sold_out", "ended", "cancelled"].includes(queue.state)) return LONGEST_MS;
  const longest = queue.state === "joining" ? 10_000 : LONGEST_MS; // people join meanwhile
  const ahead = Date.parse(queue.state === "announced" ? queue.joins_from : queue.opens_at) - now;
  if (ahead > SOON_MS) return Math.max(1000, Math.min(longest, ahead - SOON_MS));
  return visible ? 1000 : 10_000;
}

/**
 * Whether numbers may book: not before the opening, nor while it has been paused since before it.
 * @param {Queue} queue
 * @returns {boolean}
 */
export function hasAdmitted(queue) {
  if (!queue.seed) return false;
  const since = queue.paused_since ? Date.parse(queue.paused_since) : Infinity;
  return queue.admitted_through > 0 || since > Date.parse(queue.opens_at);
}

/**
 * The pause after so many failures in a row, in milliseconds.
 * @param {number} failures
 * @param {string | null} retryAfter the header, in seconds
 * @returns {number}
 */
export function pauseAfterFailure(failures, retryAfter) {
  const asked = Number.parseInt(retryAfter ?? "", 10);
  return Math.max(Math.min(1000 * 2 ** failures, LONGEST_MS), Number.isNaN(asked) ? 0 : asked * 1000);
}

/**
 * Follow the queue until the page is left.
 * @param {import("./clock.js").ServerClock} clock
 * @param {string} url
 * @param {(queue: Queue) => void} tell
 * @param {() => void} fail the queue could not be read; it is tried again
 */
export function follow(clock, url, tell, fail) {
  let failures = 0;
  async function look() {
    let wait = LONGEST_MS;
    try {
      const response = await ask(clock, url);
      if (!response.ok) {
        failures += 1;
        wait = pauseAfterFailure(failures, response.headers.get("Retry-After"));
        fail();
      } else {
        /** @type {Queue} */
        const queue = await response.json();
        failures = 0;
        wait = pause(queue, clock.now(), document.visibilityState === "visible");
        tell(queue);
      }
    } catch {
      failures += 1;
      wait = pauseAfterFailure(failures, null);
      fail();
    }
    setTimeout(look, wait * (1 + Math.random() / 2));
  }
  look();
}
