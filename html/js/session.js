// The one HTTP exchange that WHIP and WHEP share: offer out, answer in, and a session that can be ended.

import { Problem } from './problem.js';

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

  // 'there', 'unknown' (no answer), or the Problem why the server does not know it any more.
  async look() {
    try {
      const response = await request(this.url, { method: 'GET', cache: 'no-store' }, 3000);
      return response.status === 404 || response.status === 410 ? await Problem.fromResponse(response) : 'there';
    } catch {
      return 'unknown';
    }
  }
}

// fetch with a time limit, whose failures are Problems.
export async function request(url, options = {}, limitMs = 10_000) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limitMs);
  try {
    return await fetch(url, { ...options, signal: abort.signal });
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
