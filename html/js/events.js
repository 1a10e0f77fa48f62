// The server's events about a stream that is being watched: WHEP's server-sent events.

import { placeOf } from './urls.js';

const EVENTS = 'urn:ietf:params:whep:ext:core:server-sent-events';
const LAYER = 'urn:ietf:params:whep:ext:core:layer';
const NAMES = ['active', 'inactive', 'codec-missing', 'viewercount', 'layers', 'reconnect'];

// The URL for event streams of a new session, from the `Link` header of its creation, or null. `from` and `server` as in placeOf().
export function eventsUrl(headers, from, server) {
  return linked(headers, EVENTS, from, server);
}

// The URL where the viewer chooses a layer, likewise.
export function layerUrl(headers, from, server) {
  return linked(headers, LAYER, from, server);
}

function linked(headers, relation, from, server) {
  const links = headers.get('Link')?.match(/<[^>]*>[^<]*/g) ?? [];
  const link = links.find((one) => one.includes(`rel="${relation}"`));
  return link ? placeOf(link.slice(1, link.indexOf('>')), from, server) : null;
}

// Calls `report(name, data)` for each event of the server with this root, and `report('silent')` while no events can arrive. Returns a
// function that ends it. If the server has no event streams, there are no calls, and the caller polls instead.
export async function follow(url, report, server) {
  if (!url) return () => {};
  try {
    const headers = { 'Content-Type': 'application/json' };
    const opened = await fetch(url, { method: 'POST', headers, body: JSON.stringify(NAMES) });
    const place = opened.headers.get('Location');
    if (opened.status !== 201 || !place) return () => {};
    return listen(placeOf(place, new URL(opened.url || url), server), report);
  } catch {
    return () => {};
  }
}

// Browsers allow an origin six HTTP/1.1 connections for all of its pages, so a hidden page leaves its connection to the others.
function listen(place, report) {
  let source = null;
  const end = () => {
    source?.close();
    source = null;
  };
  const follow = () => {
    end();
    if (document.hidden) return report('silent');
    source = new EventSource(place);
    for (const name of NAMES) source.addEventListener(name, ({ data }) => report(name, JSON.parse(data)));
    // It reconnects by itself, and the server then repeats the current state.
    source.onerror = () => report('silent');
  };
  document.addEventListener('visibilitychange', follow);
  follow();
  return () => {
    document.removeEventListener('visibilitychange', follow);
    end();
  };
}
