// Resolves references: ours, which are relative to the page, and those from the server.
//
// A proxy may serve us below a path of its own (/rtc/ for the server's /). If it announces that path (X-Forwarded-Prefix), the server's references
// contain it. Otherwise they lack it, and placeOf() adds it.

// The root of this page's server, which is the folder of the page.
export function pageRoot() {
  return new URL('.', location.href);
}

// The root of the server with this endpoint (ROOT/whip/NAME or ROOT/whep/NAME).
export function serverOf(endpoint) {
  return new URL('..', endpoint);
}

// Resolves a reference that the server with the root `server` gave in the response to a request to `from`.
export function placeOf(reference, from, server) {
  const place = new URL(reference, from);
  const prefix = server.pathname.replace(/\/$/, '');
  const isPath = reference.startsWith('/') && !reference.startsWith('//');
  if (!isPath || !from.pathname.startsWith(server.pathname)) return place;
  const isBelow = (path) => `${place.pathname}/`.startsWith(`${path}/`);
  // The requested path as the server sees it: /whep/NAME. It resolves the ambiguity when the proxy's path is /whep too.
  const asked = from.pathname.slice(prefix.length).split('/').slice(0, 3).join('/');
  const isComplete = isBelow(prefix + asked) || (isBelow(prefix) && !isBelow(asked));
  return isComplete ? place : new URL(prefix + reference, from);
}
