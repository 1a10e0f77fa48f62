// The one HTTP exchange that WHIP and WHEP share: offer out, answer in, and a session that can be ended.

import { Problem } from './problem.js';
import { authorization } from './token.js';

// Hands in the local description of `pc`, at once: the server needs no candidates of ours. Throws a Problem.
export async function open(endpoint, pc) {
  const response = await request(endpoint, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: pc.localDescription.sdp,
  });
  if (response.status !== 201) throw await Problem.fromResponse(response);
  const session = new Session(new URL(response.headers.get('Location') ?? '', response.url || location.href));
  try {
    const sdp = await response.text();
    await pc.setRemoteDescription({ type: 'answer', sdp });
  } catch (error) {
    session.end();
    throw new Problem('The browser cannot use the server’s answer', { detail: String(error?.message ?? error), status: 422 });
  }
  return session;
}

// What the server made of one offer.
class Session {
  // Why the server has ended it for good: a Problem, once look() has found out.
  why = null;

  constructor(url) {
    this.url = url;
  }

  // Tells the server that we leave. Works while the page is being closed, too.
  async end() {
    try {
      await request(this.url, { method: 'DELETE', keepalive: true }, 3000);
    } catch {
      // A server that is gone has forgotten the session already.
    }
  }

  // 'there', 'gone' (the server does not know it any more), 'ended' (by the server, see `why`) or 'unknown' (no answer).
  async look() {
    try {
      const response = await request(this.url, { method: 'GET', cache: 'no-store' }, 3000);
      if (response.status !== 404 && response.status !== 410) return 'there';
      this.why = finality(await Problem.fromResponse(response));
      return this.why ? 'ended' : 'gone';
    } catch {
      return 'unknown';
    }
  }
}

// A session that the server has ended, rather than forgotten, is not made again by itself.
function finality(problem) {
  if (problem.kind.endsWith(':ended-by-takeover')) {
    return new Problem('Taken over by another device', {
      detail: 'The same token publishes this stream from somewhere else now.',
      hint: 'To take it back, go live again here.',
      status: problem.status,
      kind: problem.kind,
    });
  }
  return problem.kind.includes(':ended-by-') ? problem : null;
}

// fetch with a time limit, whose failures are Problems.
export async function request(url, options = {}, limitMs = 10_000) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limitMs);
  try {
    const headers = { ...options.headers, ...authorization(url) };
    return await fetch(url, { ...options, headers, signal: abort.signal });
  } catch {
    throw Problem.noServer();
  } finally {
    clearTimeout(timer);
  }
}

// The server's list of streams. Throws a Problem.
export async function streams() {
  const response = await request('/api/streams', { cache: 'no-store' }, 5000);
  if (!response.ok) throw await Problem.fromResponse(response);
  const list = (await response.json())?.streams;
  return Array.isArray(list) ? list : [];
}
