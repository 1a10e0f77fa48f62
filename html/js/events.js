// What the server tells of a stream while it is watched: WHEP's server-sent events.

import { placeOf } from './urls.js';

const RELATION = 'urn:ietf:params:whep:ext:core:server-sent-events';
const NAMES = ['active', 'inactive', 'codec-missing', 'viewercount', 'reconnect'];

// Where event streams of a new session are opened, by its creation's `Link`; null when nowhere. `from` and `server` as in placeOf().
export function eventsUrl(headers, from, server) {
  const links = headers.get('Link')?.match(/<[^>]*>[^<]*/g) ?? [];
  const link = links.find((one) => one.includes(`rel="${RELATION}"`));
  return link ? placeOf(link.slice(1, link.indexOf('>')), from, server) : null;
}

// Calls `tell(name, data)` for each event of the server with this root, and `tell('silent')` when none can come for now. Returns a function that
// ends it.
// Without an event stream there is nothing but silence, and whoever calls has other means.
export async function follow(url, tell, server) {
  if (!url) return () => {};
  try {
    const headers = { 'Content-Type': 'application/json' };
    const opened = await fetch(url, { method: 'POST', headers, body: JSON.stringify(NAMES) });
    const place = opened.headers.get('Location');
    if (opened.status !== 201 || !place) return () => {};
    return listen(placeOf(place, new URL(opened.url || url), server), tell);
  } catch {
    return () => {};
  }
}

// Browsers give an origin six connections of HTTP/1.1, whatever the number of pages: one that nobody sees leaves its to the others.
function listen(place, tell) {
  let source = null;
  const end = () => {
    source?.close();
    source = null;
  };
  const follow = () => {
    end();
    if (document.hidden) return tell('silent');
    source = new EventSource(place);
    for (const name of NAMES) source.addEventListener(name, ({ data }) => tell(name, JSON.parse(data)));
    // It connects again by itself, and is then told the present state.
    source.onerror = () => tell('silent');
  };
  document.addEventListener('visibilitychange', follow);
  follow();
  return () => {
    document.removeEventListener('visibilitychange', follow);
    end();
  };
}
