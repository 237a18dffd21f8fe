// The admin API, the only source of what the pages show. Where a token is set, the page asks for it once a session.

const TOKEN = "cacheproxy-token";
const BASE = "/api/v1/";

/** What the API refused, in its own words. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askForToken = async () => false;
let asking = null;
let declined = false;

/** Who asks the operator for a token: `ask(wrong)` resolves to one, or to null. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** Forget that nobody gave one: the operator goes on, and may be asked again. */
export function askAgain() {
  declined = false;
}

/** A path with its query; empty values are left out. */
export function pathOf(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return text ? `${path}?${text}` : path;
}

/** The raw response to a call, with the token when there is one. Raises `ApiError`. */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const response = await fetch(BASE + path, {
      method,
      body,
      signal,
      credentials: "omit",
      headers: token ? { ...headers, Authorization: `Bearer ${token}` } : headers,
    });
    if (response.ok) return response;
    if (response.status === 401 && (await renewed(token))) continue;
    throw await errorOf(response);
  }
}

/** JSON that was read. */
export async function get(path, { query, signal } = {}) {
  return (await call(pathOf(path, query), { signal })).json();
}

/** JSON that came of a change. */
export async function post(path, body, { signal } = {}) {
  const sent = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal };
  return (await call(path, sent)).json();
}

/** What became of a deletion. */
export async function remove(path) {
  const response = await call(path, { method: "DELETE" });
  return response.status === 204 ? {} : response.json();
}

/** Events as they come, from a stream that is opened with the token: EventSource could not send one. */
export async function* events(path, { signal } = {}) {
  const response = await call(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (waiting + value).split(/\r?\n\r?\n/);
    waiting = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  const event = { type: "message", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === "event") event.type = value;
    else if (field === "data") event.data += event.data ? `\n${value}` : value;
  }
  return event.data ? { type: event.type, data: JSON.parse(event.data) } : null;
}

// Several calls may be refused at once: they wait for one answer.
async function renewed(refused) {
  if (sessionStorage.getItem(TOKEN) !== refused) return true;
  if (declined) return false;
  asking ??= askForToken(refused !== null).finally(() => (asking = null));
  const token = await asking;
  declined = !token;
  if (!token) return false;
  sessionStorage.setItem(TOKEN, token);
  window.dispatchEvent(new Event("tokengiven"));
  return true;
}

async function errorOf(response) {
  const said = await response.json().catch(() => null);
  const error = said?.error ?? {};
  return new ApiError(response.status, error.code ?? "", error.message ?? `the proxy answered ${response.status}`);
}
