// STUN and TURN servers: which the server tells of, and what became of the attempt to use them.
//
// They stand in Link lines of the 201 (in rooms: in the frame with the answer), so they cost no request of their own. A connection takes new servers only before it
// gathers; gathering begins with setLocalDescription; so that comes after the POST. Without candidates in the offer nothing is
// lost: the server answers checks and sends none itself.

// What was seen of the TURN servers, by connection.
const seenBy = new WeakMap();

// Gives a connection without a local description these servers: see parseLinks().
export function useIceServers(pc, iceServers) {
  const seen = { told: iceServers.some(({ urls }) => [urls].flat().some(isTurn)), relayed: false, failures: new Map() };
  seenBy.set(pc, seen);
  if (!iceServers.length) return;
  pc.addEventListener('icecandidate', ({ candidate }) => (seen.relayed ||= candidate?.type === 'relay'));
  pc.addEventListener('icecandidateerror', ({ url, errorCode, errorText }) => {
    // One for each network interface; an answer says more than silence.
    if (isTurn(url) && (seen.failures.get(url)?.code ?? SILENT) === SILENT) seen.failures.set(url, { code: errorCode, text: errorText });
  });
  try {
    pc.setConfiguration({ ...pc.getConfiguration(), iceServers });
  } catch (error) {
    // A server that this browser does not take must not keep out those who need none.
    console.warn('the ICE servers cannot be used:', error);
  }
}

// Whether a connection may go through a relay only, and has found none.
export function lacksRelay(pc) {
  const seen = seenBy.get(pc);
  return Boolean(seen) && !seen.relayed && pc.iceGatheringState === 'complete' && pc.getConfiguration().iceTransportPolicy === 'relay';
}

// Why no TURN server could help a connection that did not come about; null when that was not the reason.
export function turnProblem(pc) {
  const { told, relayed, failures } = seenBy.get(pc) ?? {};
  if (told === false && pc.getConfiguration().iceTransportPolicy === 'relay') {
    return new Problem('The server tells of no TURN server', {
      detail: 'This page is to use nothing else (relay=1 in its address).',
      hint: 'Start the server with --ice-server turn:…, or open the page without relay=1.',
      kind: 'no-media-path',
    });
  }
  if (!told || relayed || failures.size === 0) return null;
  const [url, { code, text }] = [...failures].find(([, failure]) => failure.code !== SILENT) ?? [...failures][0];
  if (code === SILENT) {
    return new Problem(`The TURN server does not answer (${url})`, {
      detail: text,
      hint: 'It may not be running, or a firewall is in the way of it too.',
      kind: 'no-media-path',
    });
  }
  return new Problem(`The TURN server refused this connection (${[code, text].filter(Boolean).join(' ')}, ${url})`, {
    hint: NO_ROOM.includes(code)
      ? 'It has no room left for another client.'
      : 'Its secret or password is not the one that the onecast server has, or the clocks of the two are apart.',
    kind: 'no-media-path',
  });
}

// The RTCIceServers among the links (RFC 8288); fetch joins the lines with commas.
export function parseLinks(header) {
  const links = [...(header ?? '').matchAll(LINK)].map(([, url, rest]) => {
    const parameters = [...rest.matchAll(PARAMETER)].map(([, name, quoted, token]) => {
      return [name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? token];
    });
    // The first of a name counts.
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
