// The one HTTP exchange that WHIP and WHEP share: offer out, answer in, and a session that can be ended.

import { eventsUrl, layerUrl } from './events.js';
import { parseLinks, useIceServers } from './iceservers.js';
import { authorization, trust } from './token.js';
import { pageRoot, placeOf, serverOf } from './urls.js';

// Posts an offer that `pc` has made but not set yet, because only then it can still accept the ICE servers in the response. Throws a Problem.
export async function open(endpoint, pc, offer) {
  const options = { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: offer.sdp };
  let response = await request(endpoint, options);
  if (response.status === 401 && response.redirected) {
    // Our server redirects us to another one (307), and the browser drops the token.
    trust(response.url);
    response = await request(response.url, options);
  }
  if (response.status !== 201) throw await Problem.fromResponse(response);
  const from = new URL(response.url || endpoint, pageRoot());
  const server = serverOf(from);
  const session = new Session(placeOf(response.headers.get('Location') ?? '', from, server), server);
  session.events = eventsUrl(response.headers, from, server);
  session.layer = layerUrl(response.headers, from, server);
  try {
    const sdp = await response.text();
    useIceServers(pc, parseLinks(response.headers.get('Link')));
    await pc.setLocalDescription(offer);
    await pc.setRemoteDescription({ type: 'answer', sdp });
  } catch (error) {
    session.end();
    throw new Problem('The browser cannot use the server’s answer', { detail: String(error?.message ?? error), status: 422 });
  }
  return session;
}

// The server's session for one offer.
class Session {
  // The URL for event streams, or null if the server has none.
  events = null;
  // The URL where the viewer chooses a layer, or null if there is no choice.
  layer = null;
  // Why the server ended the session: a Problem, once look() has found out.
  why = null;

  constructor(url, server) {
    this.url = url;
    // The root of the session's server.
    this.server = server;
  }

  // Restarts ICE: looks for a new path to the server, perhaps from another network, while media uses the old one. Throws a Problem if the server
  // refuses; the old path then stays. `amend` may change the offer's SDP.
  async restart(pc, amend = (sdp) => sdp) {
    const answer = pc.remoteDescription.sdp;
    const offer = await pc.createOffer({ iceRestart: true });
    await pc.setLocalDescription({ type: 'offer', sdp: amend(offer.sdp) });
    try {
      const response = await request(
        this.url,
        { method: 'PATCH', headers: { 'Content-Type': FRAGMENT, 'If-Match': '*' }, body: fragmentOf(pc.localDescription.sdp) },
        5000,
      );
      if (response.status !== 200) throw await Problem.fromResponse(response);
      await pc.setRemoteDescription({ type: 'answer', sdp: withIceOf(answer, await response.text()) });
    } catch (error) {
      await pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
      throw Problem.from(error);
    }
  }

  // Tells the server that we leave. Also works while the page is being closed.
  async end() {
    try {
      await request(this.url, { method: 'DELETE', keepalive: true }, 3000);
    } catch {
      // A server that is gone has forgotten the session already.
    }
  }

  // 'there', 'gone' (the server no longer knows it), 'ended' (by the server, see `why`) or 'unknown' (no response).
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

// The ICE part of an offer (RFC 8840): the credentials, and the m-line that carries the transport of all lines. The server needs no candidates.
export function fragmentOf(offer) {
  const first = (pattern) => offer.match(pattern)?.[0];
  const lines = [/^a=group:BUNDLE .*$/m, /^m=.*$/m, /^a=mid:.*$/m, /^a=ice-ufrag:.*$/m, /^a=ice-pwd:.*$/m].map(first);
  return lines.filter(Boolean).map((line) => `${line.trim()}\r\n`).join('');
}

// The previous answer with the credentials and candidates of a fragment.
export function withIceOf(answer, fragment) {
  const all = (name) => fragment.split(/\r?\n/).filter((line) => line.startsWith(name));
  const candidates = all('a=candidate:');
  const renewed = answer.split(/\r?\n/).flatMap((line) => {
    if (line.startsWith('a=ice-ufrag:')) return all('a=ice-ufrag:');
    if (line.startsWith('a=ice-pwd:')) return all('a=ice-pwd:');
    return line.startsWith('a=candidate:') ? candidates.splice(0) : [line];
  });
  return renewed.join('\r\n');
}

const FRAGMENT = 'application/trickle-ice-sdpfrag';

// The page does not automatically reopen a session that the server ended deliberately.
function finality(problem) {
  if (problem.kind.endsWith(':ended-by-takeover')) {
    return new Problem('Taken over by another device', {
      detail: 'The same token now publishes this stream from another place.',
      hint: 'To take it back, go live again here.',
      status: problem.status,
      kind: problem.kind,
    });
  }
  return problem.kind.includes(':ended-by-') ? problem : null;
}

// fetch with a time limit, which throws a Problem on failure.
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

// Asks for a layer of the video by its rid, or with null for the one that the connection carries. Throws a Problem.
export async function chooseLayer(url, rid) {
  const body = JSON.stringify(rid === null ? {} : { rid });
  const response = await request(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }, 5000);
  if (!response.ok) throw await Problem.fromResponse(response);
}

// The layer that the server sends, and why. Throws a Problem.
export async function sentLayer(url) {
  const response = await request(url, { cache: 'no-store' }, 3000);
  if (!response.ok) throw await Problem.fromResponse(response);
  return response.json();
}

// The list of streams of the server with this root. Throws a Problem.
export async function streams(server = pageRoot()) {
  const response = await request(new URL('api/streams', server), { cache: 'no-store' }, 5000);
  if (!response.ok) throw await Problem.fromResponse(response);
  const list = (await response.json())?.streams;
  return Array.isArray(list) ? list : [];
}
