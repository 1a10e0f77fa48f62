// Where references lead: ours, which are relative to the page, and those that the server gives.
//
// A proxy may serve us below a path of its own (/rtc/ for what is / at the server). If it says so (X-Forwarded-Prefix), the server's references
// contain that path. If not, they lack it, and placeOf() adds it.

// The root of the server that this page is of: the folder of the page.
export function pageRoot() {
  return new URL('.', location.href);
}

// The root of the server with this endpoint, ROOT/whip/NAME or ROOT/whep/NAME.
export function serverOf(endpoint) {
  return new URL('..', endpoint);
}

// Where a reference leads that the server with the root `server` gave, in the answer to a request to `from`.
export function placeOf(reference, from, server) {
  const place = new URL(reference, from);
  const prefix = server.pathname.replace(/\/$/, '');
  const isPath = reference.startsWith('/') && !reference.startsWith('//');
  if (!isPath || !from.pathname.startsWith(server.pathname)) return place;
  const isBelow = (path) => `${place.pathname}/`.startsWith(`${path}/`);
  // What was asked for, as the server sees it: /whep/NAME. It tells the two apart when the proxy's path is /whep, too.
  const asked = from.pathname.slice(prefix.length).split('/').slice(0, 3).join('/');
  const isComplete = isBelow(prefix + asked) || (isBelow(prefix) && !isBelow(asked));
  return isComplete ? place : new URL(prefix + reference, from);
}
