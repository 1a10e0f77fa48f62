// STUN and TURN servers: those that the server announces, and the results of using them.
//
// The server lists them in Link headers of the 201 response (in rooms: in the frame with the answer), so they need no extra request. A connection
// accepts servers only before it gathers candidates, and gathering begins with setLocalDescription, so that comes after the POST. The offer
// needs no candidates, because the server only answers checks.

// Observations about TURN servers, by connection.
const seenBy = new WeakMap();

// Configures these servers (see parseLinks()) on a connection that has no local description yet.
export function useIceServers(pc, iceServers) {
  const seen = { hasTurn: iceServers.some(({ urls }) => [urls].flat().some(isTurn)), relayed: false, failures: new Map() };
  seenBy.set(pc, seen);
  if (!iceServers.length) return;
  pc.addEventListener('icecandidate', ({ candidate }) => (seen.relayed ||= candidate?.type === 'relay'));
  pc.addEventListener('icecandidateerror', ({ url, errorCode, errorText }) => {
    // There is one error per network interface. An error response says more than silence.
    if (isTurn(url) && (seen.failures.get(url)?.code ?? SILENT) === SILENT) seen.failures.set(url, { code: errorCode, text: errorText });
  });
  try {
    pc.setConfiguration({ ...pc.getConfiguration(), iceServers });
  } catch (error) {
    // A server that this browser rejects must not lock out users who need none.
    console.warn('cannot use the ICE servers:', error);
  }
}

// Whether a connection may only use a relay and has found none.
export function lacksRelay(pc) {
  const seen = seenBy.get(pc);
  return Boolean(seen) && !seen.relayed && pc.iceGatheringState === 'complete' && pc.getConfiguration().iceTransportPolicy === 'relay';
}

// Why no TURN server helped a connection that failed, or null if TURN was not the reason.
export function turnProblem(pc) {
  const { hasTurn, relayed, failures } = seenBy.get(pc) ?? {};
  if (hasTurn === false && pc.getConfiguration().iceTransportPolicy === 'relay') {
    return new Problem('The server announces no TURN server', {
      detail: 'This page must use one (relay=1 in its address).',
      hint: 'Start the server with --ice-server turn:…, or open the page without relay=1.',
      kind: 'no-media-path',
    });
  }
  if (!hasTurn || relayed || failures.size === 0) return null;
  const [url, { code, text }] = [...failures].find(([, failure]) => failure.code !== SILENT) ?? [...failures][0];
  if (code === SILENT) {
    return new Problem(`The TURN server does not answer (${url})`, {
      detail: text,
      hint: 'It may not be running, or a firewall may block it too.',
      kind: 'no-media-path',
    });
  }
  return new Problem(`The TURN server refused this connection (${[code, text].filter(Boolean).join(' ')}, ${url})`, {
    hint: NO_ROOM.includes(code)
      ? 'It has no capacity for another client.'
      : 'Its secret or password differs from that of the onecast server, or the clocks of the two differ.',
    kind: 'no-media-path',
  });
}

// The RTCIceServers among the links (RFC 8288). fetch joins the header lines with commas.
export function parseLinks(header) {
  const links = [...(header ?? '').matchAll(LINK)].map(([, url, rest]) => {
    const parameters = [...rest.matchAll(PARAMETER)].map(([, name, quoted, token]) => {
      return [name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? token];
    });
    // The first parameter of each name counts.
    return { url, ...Object.fromEntries(parameters.reverse()) };
  });
  return links
    .filter(({ rel }) => rel?.toLowerCase().split(/\s+/).includes('ice-server'))
    .map(({ url, username, credential }) => (isTurn(url) ? { urls: url, username, credential } : { urls: url }));
}

function isTurn(url) {
  return /^turns?:/i.test(url ?? '');
}

// The browser's code for a server that cannot be reached.
const SILENT = 701;
// Allocation Quota Reached, Insufficient Capacity (RFC 8656 section 19).
const NO_ROOM = [486, 508];
const PARAMETER = /;\s*([^\s=;,"]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/g;
const LINK = /<([^>]*)>((?:\s*;\s*[^\s=;,"]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)/g;
