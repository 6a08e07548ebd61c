// The server's clock, learnt from the Date header of its answers: a phone's own clock may be minutes off.

/** How long the oldest knowledge counts, in milliseconds: a device that slept may have lost time. */
const KEPT_MS = 10 * 60_000;

export class ServerClock {
  constructor() {
    /** @type {{least: number, most: number, at: number}[]} what each answer said of server time minus our own */
    this.bounds = [];
  }

  /**
   * Learn from an answer. Date has whole seconds, so each answer bounds the difference to about a second; several that
   * came at different fractions of a second bound it closer.
   * @param {Response} response
   * @param {number} sentAt by `performance.now()`
   * @param {number} receivedAt by `performance.now()`
   */
  learn(response, sentAt, receivedAt) {
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (Number.isNaN(date) || response.headers.has("Age")) return;
    const bound = { least: date - receivedAt, most: date + 1000 - sentAt, at: receivedAt };
    const kept = this.bounds.filter((b) => receivedAt - b.at < KEPT_MS);
    const fitting = kept.filter((b) => b.least <= bound.most && bound.least <= b.most);
    this.bounds = [...fitting.slice(-20), bound];
  }

  /** @returns {number} milliseconds since the epoch by the server's clock; by our own before any answer */
  now() {
    if (this.bounds.length === 0) return Date.now();
    const least = Math.max(...this.bounds.map((b) => b.least));
    const most = Math.min(...this.bounds.map((b) => b.most));
    return performance.now() + (least + most) / 2;
  }
}

/**
 * Fetch without an old answer from the browser's cache, and learn the time from it.
 * @param {ServerClock} clock
 * @param {string} url
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function ask(clock, url, options = {}) {
  const sentAt = performance.now();
  const response = await fetch(url, { cache: "no-cache", signal: AbortSignal.timeout(15_000), ...options });
  clock.learn(response, sentAt, performance.now());
  return response;
}
