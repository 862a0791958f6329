// Calls to the coordinator: JSON with one-sentence errors, and server-sent events over fetch, because EventSource
// cannot send a token.
const BASE = "/api/v1/";
let token = sessionStorage.getItem("hilnas-token") || "";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem("hilnas-token", value);
}

function headers(more = {}) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

export async function call(path, { method = "GET", body } = {}) {
  const options = { method, headers: headers(body ? { "Content-Type": "application/json" } : {}) };
  if (body) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(BASE + path, options);
  } catch {
    throw new ApiError(0, "unreachable", "The coordinator does not answer. This page reconnects by itself.");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.code, problem.message || `The coordinator answered ${response.status}.`);
}

/** Follows the events under `path` until `signal` aborts; `onState` gets true when live and false when polling. */
export async function follow(path, lastId, signal, onEvent, onState) {
  let after = lastId;
  while (!signal.aborted) {
    try {
      const response = await fetch(`${BASE}${path}/events`, {
        headers: headers({ "Last-Event-ID": String(after), Accept: "text/event-stream" }), signal,
      });
      if (!response.ok) throw new Error(response.statusText);
      onState(true);
      for await (const event of messages(response.body)) {
        after = Number(event.id) || after;
        onEvent(event);
      }
    } catch {
      if (signal.aborted) return;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

async function* messages(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (buffer + value).split(/\r?\n\r?\n/);
    buffer = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split(/\r?\n/).filter((line) => line && line[0] !== ":").map((line) => {
        const at = line.indexOf(":");
        return [line.slice(0, at), line.slice(at + 1).trimStart()];
      }));
      if (fields.data) yield fields;
    }
  }
}
