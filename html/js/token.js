// The token of this page: taken out of its address or from a person, kept for this tab, and sent to our own server only, and to
// those that it sends us to.

// What the page does, and with which stream; the front page has no stream.
let role = 'list';
let stream = '';
// Origins of servers that may see it.
const trusted = new Set([location.origin]);
// For browsers that keep nothing.
const kept = new Map();

// Says what the page's requests are for, and takes the token out of its address: a link has it behind `#`, which is never sent.
export function useToken(forRole, forStream = '') {
  role = forRole;
  stream = forStream;
  fromAddress();
}

// The token, or ''.
export function token() {
  return read(`${role} ${stream}`) || read('last');
}

// Our own server sends us to `url`: the token is for that one, too.
export function trust(url) {
  trusted.add(new URL(url, location.href).origin);
}

// The header for a request to `url`, if it is to a server that may see the token.
export function authorization(url) {
  const own = trusted.has(new URL(url, location.href).origin);
  return own && token() ? { Authorization: `Bearer ${token()}` } : {};
}

// Wires the form that asks for a token. `again` runs when one was given. What is returned shows or hides the form for a problem.
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

// Whether a token, or another one, would help.
export function wantsToken(problem) {
  return problem?.status === 401 || (problem?.status === 403 && !problem.kind.endsWith(':proxied'));
}

// A token as it is, or in a whole link.
export function tokenIn(text) {
  return text.trim().match(/[#?&]token=([^&#\s]+)/)?.[1] ?? text.trim();
}

// True when there was one. The address bar shall not show it to who looks over a shoulder, or keep it in the history.
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
      // Then it lasts as long as the page.
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
