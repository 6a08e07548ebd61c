// One opening: countdown, queue, the person's number, joining, and verification of the draw.
import { ServerClock, ask } from "./clock.js";
import { runCountdowns } from "./countdown.js";
import { canCompute, commitment, drawnNumber } from "./draw.js";
import { solve } from "./proof.js";
import { follow, hasAdmitted } from "./queue.js";
import { followTicket, isLongOver, keepTicket, keptTicket, readTicket } from "./ticket.js";
import { tidyNik, tidyWord } from "./tidy.js";
import { count, say } from "./words.js";

const page = /** @type {HTMLElement} */ (document.querySelector("[data-opening]"));
const opening = page.dataset.opening ?? "";
const places = Number(page.dataset.places);
const url = `/v1/openings/${encodeURIComponent(opening)}`;
const clock = new ServerClock();

/** @type {import("./queue.js").Queue | undefined} */
let queue;
let text = keptTicket(opening);
/** The last announcement to screen readers, and its time. */
let told = { urgent: "", at: -Infinity };

/** @param {string} name @returns {HTMLElement} */
const part = (name) => /** @type {HTMLElement} */ (document.querySelector(`[data-${name}]`));

/** @param {string} name @param {string} content */
function show(name, content) {
  const element = part(name);
  if (element.textContent !== content) element.textContent = content;
}

/**
 * The person's number; undefined before the draw, or if this browser cannot compute it.
 * @param {import("./ticket.js").Ticket} ticket
 * @returns {Promise<number | undefined>}
 */
async function numberOf(ticket) {
  if (ticket.number !== undefined) return ticket.number;
  if (!queue?.seed || !canCompute) return undefined;
  return drawnNumber(queue.seed, ticket.id, queue.beacon ?? "", queue.joined);
}

/** @param {number} number @returns {string[]} the outlook for this number */
function prospects(number) {
  if (!queue) return [];
  const lines = [say("your_number", { n: number })];
  if (queue.state === "closed") return [...lines, say("all_closed")];
  if (queue.state === "sold_out") return [...lines, say("all_gone")];
  if (queue.state === "ended") return [...lines, say("over")];
  if (queue.state === "cancelled") return [say("useless")];
  if (number <= queue.admitted_through && queue.state === "open") return [...lines, say("your_turn")];
  lines.push(say("before_you", { n: number, places }));
  if (number >= places) lines.push(say("likely_gone"));
  if (queue.state !== "open" || queue.rate_per_min <= 0) return [...lines, say("wait_unknown")];
  const minutes = (number - queue.admitted_through) / queue.rate_per_min;
  return [...lines, minutes < 1 ? say("soon") : say("wait_minutes", { n: Math.ceil(minutes) })];
}

/** @returns {Promise<string[]>} */
async function standing() {
  if (!text) return [say("no_ticket")];
  const ticket = readTicket(text);
  if (!ticket) return [say("bad_ticket")];
  if (ticket.opening !== opening) return [say("other_opening")];
  const number = await numberOf(ticket);
  if (number !== undefined) return prospects(number);
  if (queue?.state === "closed") return [say("all_closed")];
  if (queue?.state === "sold_out") return [say("all_gone")];
  if (queue?.state === "ended") return [say("over")];
  if (queue?.state === "cancelled") return [say("useless")];
  return [say("have_ticket"), ...(canCompute ? [] : [say("needs_https")])];
}

/** Announce important changes to screen readers at once, others at most once a minute. */
async function showStanding() {
  const lines = await standing();
  show("standing", lines.join(" "));
  const urgent = `${queue?.state} ${lines.includes(say("your_turn"))} ${text.length}`;
  if (urgent !== told.urgent || performance.now() - told.at >= 60_000) {
    show("heard", [queue ? say(`state_${queue.state}`) : "", ...lines].join(" "));
    told = { urgent, at: performance.now() };
  }
  part("leave").hidden = !text;
  show("ticket", text);
  part("own-ticket").hidden = !text;
}

/**
 * Show that it was moved or cancelled since the page was loaded.
 * @param {import("./queue.js").Queue} latest
 */
function showNotice(latest) {
  const english = document.documentElement.lang === "en";
  const reason = (english && latest.reason_en) || latest.reason || "";
  const words = [];
  if (latest.state === "cancelled") words.push(say("called_off", { reason }));
  else if (latest.moved_from && latest.opens_at !== page.dataset.opens) {
    words.push(say("moved_to", { at: localTime(latest.opens_at) }), ...(reason ? [say("because", { reason })] : []));
  } else return;
  const notice = part("notice");
  notice.hidden = false;
  show("notice", words.join(" "));
}

/**
 * Count down to the present moment, and not at all while there is nothing to wait for.
 * @param {import("./queue.js").Queue} latest
 */
function setTimers(latest) {
  const until = latest.state === "cancelled" || latest.state === "closed" ? "" : latest.opens_at;
  for (const timer of document.querySelectorAll("[data-until]")) {
    if (timer instanceof HTMLElement) timer.dataset.until = until;
  }
}

/** @param {string} at @returns {string} in the program's time zone */
function localTime(at) {
  const options = /** @type {const} */ ({ dateStyle: "full", timeStyle: "short", timeZone: page.dataset.zone });
  return new Intl.DateTimeFormat(document.documentElement.lang, options).format(new Date(at));
}

/** @param {import("./queue.js").Queue} latest */
function showQueue(latest) {
  queue = latest;
  show("state", say(`state_${queue.state}`));
  show("joined", count(queue.joined));
  show("arrived", count(queue.arrived));
  show("admitted", hasAdmitted(queue) ? say("through", { n: queue.admitted_through }) : say("nobody"));
  show("rate", say("per_minute", { n: queue.rate_per_min }));
  show("seed", queue.seed ?? say("no_seed"));
  show("beacon", queue.beacon || "–");
  show("beacon-source", queue.beacon_source || "–");
  show("fault", "");
  showNotice(queue);
  setTimers(queue);
  const joinable = queue.state === "joining" || queue.state === "open" || queue.state === "paused";
  part("join").hidden = !joinable || Boolean(text);
  if (text && isLongOver(queue, clock.now())) {
    text = "";
    keepTicket(opening, "");
  }
  showStanding();
}

/**
 * The text of a problem; marks the fields that it concerns.
 * @param {HTMLFormElement} form
 * @param {{detail: string, next: string, errors?: {pointer: string, detail: string}[]}} problem
 * @returns {string}
 */
function refusal(form, problem) {
  const errors = problem.errors ?? [];
  for (const field of form.querySelectorAll("input")) {
    field.setAttribute("aria-invalid", String(errors.some((each) => each.pointer === `/${field.name}`)));
  }
  const lines = errors.length ? errors.map((each) => each.detail) : [problem.detail, problem.next];
  return lines.join(" ");
}

/** @param {SubmitEvent} event */
async function join(event) {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  const given = new FormData(form);
  /** @type {Record<string, unknown>} */
  const body = { nik: tidyNik(String(given.get("nik"))), birth_date: given.get("birth_date") };
  if (page.dataset.proof === "yes" && !canCompute) {
    show("join-answer", say("join_needs_https"));
    return;
  }
  button.disabled = true;
  show("join-answer", say("joining"));
  try {
    if (page.dataset.proof === "yes") {
      show("join-answer", say("solving"));
      body.altcha = await solve(await (await ask(clock, `${url}/challenge`)).json());
    }
    const headers = { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang };
    const response = await ask(clock, `${url}/tickets`, { method: "POST", headers, body: JSON.stringify(body) });
    const answer = await response.json();
    if (response.ok) {
      form.reset();
      take(answer.ticket);
      show("join-answer", say("joined"));
    } else {
      show("join-answer", refusal(form, answer));
    }
  } catch {
    show("join-answer", say("try_again"));
  } finally {
    button.disabled = false;
  }
}

/** @param {string} ticket "" for none */
function take(ticket) {
  keepTicket(opening, ticket);
  showTaken(ticket);
}

/** @param {string} ticket taken by this tab or another one; "" for none */
function showTaken(ticket) {
  text = ticket;
  part("join").hidden = Boolean(ticket);
  showStanding();
}

/** Ask before the ticket is removed: one tap must not cost anybody their place. */
function askToForget() {
  const dialog = /** @type {HTMLDialogElement} */ (part("sure"));
  dialog.returnValue = "";
  dialog.showModal();
}

/**
 * The result of the computation from public data.
 * @param {string} pasted a ticket
 * @param {string} said the number that the person was given, "" for none
 * @returns {Promise<string[]>}
 */
async function findings(pasted, said) {
  if (!canCompute) return [say("needs_https")];
  if (!queue?.seed) return [say("no_seed")];
  const lines = [say((await commitment(queue.seed)) === page.dataset.commitment ? "seed_good" : "seed_bad")];
  if (!pasted) return lines;
  const ticket = readTicket(pasted);
  if (!ticket) return [...lines, say("bad_ticket")];
  if (ticket.opening !== opening) return [...lines, say("other_opening")];
  const number = (await numberOf(ticket)) ?? 0;
  if (said !== "" && Number(said) !== number) {
    return [...lines, say("number_differs", { n: number, said: Number(said) })];
  }
  const how = ticket.number === undefined ? "number_is" : "number_late";
  return [...lines, say(how, { n: number, joined: queue.joined })];
}

/** @param {SubmitEvent} event */
async function verify(event) {
  event.preventDefault();
  const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
  const lines = await findings(tidyWord(String(given.get("ticket"))) || text, tidyWord(String(given.get("number"))));
  part("findings").replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
  );
}

/** @param {SubmitEvent} event */
function paste(event) {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  take(tidyWord(String(new FormData(form).get("ticket"))));
  form.reset();
}

if (page.dataset.waitingRoom === "yes") {
  part("join").addEventListener("submit", (event) => void join(/** @type {SubmitEvent} */ (event)));
  const nik = /** @type {HTMLInputElement} */ (part("join").querySelector("[name=nik]"));
  nik.addEventListener("change", () => (nik.value = tidyNik(nik.value)));
  part("paste").addEventListener("submit", (event) => paste(/** @type {SubmitEvent} */ (event)));
  part("verify").addEventListener("submit", (event) => void verify(/** @type {SubmitEvent} */ (event)));
  part("leave").addEventListener("click", askToForget);
  part("sure").addEventListener("close", () => {
    if (/** @type {HTMLDialogElement} */ (part("sure")).returnValue === "forget") take("");
  });
  followTicket(opening, showTaken);
  for (const each of document.querySelectorAll("[data-scripted]")) each.removeAttribute("hidden");
  showStanding();
  follow(clock, `${url}/queue`, showQueue, () => show("fault", say("no_answer")));
}
ask(clock, url)
  .catch(() => undefined) // then our own clock counts, until an answer comes
  .finally(() => runCountdowns(clock));
