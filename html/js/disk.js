// A page that was opened from disk (file:) has no server. Copy and paste works; for everything else the page shows the URL to open instead.
// It cannot know the server's address, so it starts with the default, which the user can change. A plain script: see paste.js.

'use strict';

// The root of the server, and a token for it.
let serverThere = { root: new URL('http://localhost:8080/'), token: '' };

if (onDisk) beginOnDisk();

function beginOnDisk() {
  const { page } = document.documentElement.dataset;
  for (const link of document.querySelectorAll('a[href="./"]')) link.href = 'index.html';
  const services = {
    chooseLayer: () => Promise.reject(needsServer()),
    follow: async () => () => {},
    sentLayer: () => Promise.reject(needsServer()),
    streams: () => Promise.reject(needsServer()),
    token: () => serverThere.token,
    tokenForm: () => () => {},
    trust() {},
    url: (path) => new URL(path, serverThere.root).href,
  };
  if (page === 'broadcast') broadcastPage(linkOnDisk(() => sendingPeer(offered())), services);
  else if (page === 'viewer') viewerPage(linkOnDisk(() => receivingPeer(attach), wantStereo), services);
  else document.querySelector('main').hidden = true;
  // Runs before the page's own listeners, so that "Go live" does not request the camera first.
  document.addEventListener('click', (event) => event.target.closest('#go, #watch') && refuse(event), { capture: true });
  showNotice(page === 'broadcast' || page === 'viewer');
}

function linkOnDisk(build, amend) {
  const made = new PasteLink(build, amend);
  made.start = () => made.become('failed', needsServer());
  return made;
}

// These buttons need the server. While media flows, "Watch" only starts playback.
function refuse(event) {
  if (link.state !== 'idle' && link.state !== 'failed') return;
  event.stopImmediatePropagation();
  link.start();
  $('message').scrollIntoView({ block: 'nearest' });
}

function needsServer() {
  return new Problem('This needs the server', {
    detail: `The page was opened from disk. Open ${addressThere()} instead.`,
    hint: 'Or create an offer and use copy and paste.',
    kind: 'on-disk',
  });
}

// The address of this page on the server.
function addressThere() {
  const file = location.pathname.split('/').at(-1);
  return new URL(file === 'index.html' ? './' : file, serverThere.root).href + location.search;
}

// Says what works here and where the rest is, and asks for the server's address.
function showNotice(pastes) {
  const there = make('a', { id: 'there' });
  const field = make('input', { id: 'server', inputMode: 'url', autocapitalize: 'none', autocomplete: 'off', spellcheck: false });
  field.value = readAddress() || serverThere.root.href;
  const notice = make(
    'aside',
    { className: 'message disk', ariaLabel: 'Opened from disk' },
    make('strong', {}, 'This page was opened from disk'),
    make('span', {}, pastes ? 'Copy and paste works here. For everything else open ' : 'It needs the server. Open ', there, ' instead.'),
    make('label', { className: 'field' }, 'Server address, or the complete link you received', field),
    make('span', {}, 'A page on disk cannot detect it. A server on this machine uses http://localhost:8080/ unless it was started with a different --http.'),
  );
  notice.dataset.tone = 'wait';
  document.querySelector('main').before(notice);
  field.addEventListener('input', () => takeAddress(field, there));
  takeAddress(field, there);
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Applies the address in the field to everything that depends on it.
function takeAddress(field, there) {
  const found = serverIn(field.value);
  field.setCustomValidity(found ? '' : 'This is not an address');
  if (!found) return;
  serverThere = found;
  keepAddress(found.root.href);
  there.textContent = addressThere();
  there.href = addressThere() + (found.token && `#token=${encodeURIComponent(found.token)}`);
  const viewers = $('viewer-link');
  if (viewers) viewers.href = new URL(`viewer.html?stream=${encodeURIComponent(streamName())}`, found.root);
  dispatchEvent(new Event('serverchange'));
}

// The root and the token in an address, which may lack the scheme or name a page. Null if it is not an address.
function serverIn(text) {
  const address = text.trim();
  try {
    const url = new URL(/^[a-z]+:\/\//i.test(address) ? address : `http://${address}`);
    if (!/^https?:$/.test(url.protocol)) return null;
    const token = url.href.match(/[#?&]token=([^&#\s]+)/)?.[1] ?? '';
    // A last segment that is not a page is a folder, with or without its slash.
    if (!/\/$|\.html$/.test(url.pathname)) url.pathname += '/';
    return { root: new URL('.', url), token: decodeURIComponent(token) };
  } catch {
    return null;
  }
}

function keepAddress(address) {
  try {
    localStorage.setItem('onecast server', address);
  } catch {
    // Without storage every page starts with the default.
  }
}

function readAddress() {
  try {
    return localStorage.getItem('onecast server');
  } catch {
    return null;
  }
}
