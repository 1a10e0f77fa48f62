// The token of this page: taken from its address or from the user, kept for this tab, and sent only to our own server and to servers that it
// redirects us to.

// The purpose of the page and its stream; the front page has no stream.
let role = 'list';
let stream = '';
// Origins of servers that may receive the token.
const trusted = new Set([location.origin]);
// For browsers without session storage.
const kept = new Map();

// Sets what the page's requests are for, and takes the token from its address. Links carry it behind `#`, which browsers never send.
export function useToken(forRole, forStream = '') {
  role = forRole;
  stream = forStream;
  fromAddress();
}

// The token, or ''.
export function token() {
  return read(`${role} ${stream}`) || read('last');
}

// Our own server redirects us to `url`, so that server may receive the token too.
export function trust(url) {
  trusted.add(new URL(url, location.href).origin);
}

// The header for a request to `url`, if that server may receive the token.
export function authorization(url) {
  const own = trusted.has(new URL(url, location.href).origin);
  return own && token() ? { Authorization: `Bearer ${token()}` } : {};
}

// Connects the form that asks for a token. `again` runs when the user entered one. Returns a function that shows or hides the form for a problem.
export function tokenForm(again) {
  const form = $('token-form');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const given = tokenIn($('token').value);
    if (!given) return;
    $('token').value = '';
    form.hidden = true;
    keep(given);
    again();
  });
  addEventListener('hashchange', () => fromAddress() && !form.hidden && again());
  return (problem) => {
    const wanted = wantsToken(problem);
    if (form.hidden !== wanted) return;
    form.hidden = !wanted;
    if (wanted) $('token').focus();
  };
}

// Whether a token, or a different one, would help.
export function wantsToken(problem) {
  return problem?.status === 401 || (problem?.status === 403 && !problem.kind.endsWith(':proxied'));
}

// The token in a text that is a token or a link.
export function tokenIn(text) {
  return text.trim().match(/[#?&]token=([^&#\s]+)/)?.[1] ?? text.trim();
}

// Returns true if there was one. Removes it from the address bar, where others could read it, and from the history.
function fromAddress() {
  if (!/^#token=./.test(location.hash)) return false;
  keep(decoded(location.hash.slice('#token='.length)));
  history.replaceState(history.state, '', location.pathname + location.search);
  return true;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function keep(value) {
  for (const key of [`${role} ${stream}`, 'last']) {
    kept.set(key, value);
    try {
      sessionStorage.setItem(`onecast token ${key}`, value);
    } catch {
      // Without storage it lasts as long as the page.
    }
  }
}

function read(key) {
  try {
    return sessionStorage.getItem(`onecast token ${key}`) ?? kept.get(key) ?? '';
  } catch {
    return kept.get(key) ?? '';
  }
}
