// Countdowns to openings: updated every second, announced to screen readers at most once a minute.
import { say } from "./words.js";

/** @param {number} seconds @returns {string} such as "2 days 03:04:05" */
export function clockface(seconds) {
  const days = Math.floor(seconds / 86_400);
  const parts = [(seconds / 3600) % 24, (seconds / 60) % 60, seconds % 60];
  const time = parts.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
  return days ? `${days} ${say("days")} ${time}` : time;
}

/** @param {number} seconds @returns {string} for screen readers: rounded more, the further away */
export function spoken(seconds) {
  if (seconds <= 0) return say("opened");
  if (seconds < 60) return say("in_a_minute");
  if (seconds < 7200) return say("in_minutes", { n: Math.floor(seconds / 60) });
  if (seconds < 172_800) return say("in_hours", { n: Math.floor(seconds / 3600) });
  return say("in_days", { n: Math.floor(seconds / 86_400) });
}

/**
 * Update every `[data-until]` of the page, and announce the first future one in `[data-announce]`.
 * @param {import("./clock.js").ServerClock} clock
 */
export function runCountdowns(clock) {
  const shown = [...document.querySelectorAll("[data-until]")].filter((each) => each instanceof HTMLElement);
  const announcer = document.querySelector("[data-announce]");
  let toldAt = -Infinity;
  function tick() {
    const now = clock.now();
    let next = /** @type {number | undefined} */ (undefined);
    for (const each of shown) {
      const seconds = Math.ceil((Date.parse(each.dataset.until ?? "") - now) / 1000);
      if (Number.isNaN(seconds)) {
        each.hidden = true; // it was called off
        continue;
      }
      if (each.hidden && seconds <= 0) continue; // it was open before the page was
      each.hidden = false;
      each.textContent = seconds > 0 ? clockface(seconds) : say("opened");
      if (next === undefined || (seconds > 0 && next <= 0)) next = seconds;
    }
    const text = next === undefined ? "" : spoken(next);
    if (announcer && announcer.textContent !== text && (performance.now() - toldAt >= 60_000 || (next ?? 1) <= 0)) {
      announcer.textContent = text;
      toldAt = performance.now();
    }
    setTimeout(tick, 1000 - (clock.now() % 1000));
  }
  tick();
}
