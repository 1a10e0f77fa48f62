// The one HTTP exchange that WHIP and WHEP share: offer out, answer in, and a session that can be ended.

import { useIceServers } from './iceservers.js';
import { Problem } from './problem.js';

// Hands in an offer that `pc` has made and not yet set: only then can it still be given the ICE servers of the answer. Throws a Problem.
export async function open(endpoint, pc, offer) {
  const response = await request(endpoint, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: offer.sdp,
  });
  if (response.status !== 201) throw await Problem.fromResponse(response);
  const session = new Session(new URL(response.headers.get('Location') ?? '', response.url || location.href));
  try {
    const sdp = await response.text();
    useIceServers(pc, response.headers.get('Link'));
    await pc.setLocalDescription(offer);
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

  // 'there', 'gone' (the server does not know it any more) or 'unknown' (no answer).
  async look() {
    try {
      const response = await request(this.url, { method: 'GET', cache: 'no-store' }, 3000);
      return response.status === 404 || response.status === 410 ? 'gone' : 'there';
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
