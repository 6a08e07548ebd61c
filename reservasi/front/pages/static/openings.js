// The list of openings: countdowns by the server's clock.
import { ServerClock, ask } from "./clock.js";
import { runCountdowns } from "./countdown.js";

const clock = new ServerClock();

async function learn() {
  try {
    await ask(clock, location.pathname, { method: "HEAD" });
  } catch {
    // the next request may succeed; until then our own clock is used
  }
  setTimeout(learn, 60_000 * (1 + Math.random()));
}

learn().finally(() => runCountdowns(clock));
