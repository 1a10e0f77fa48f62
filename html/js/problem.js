// Problems in words: of the server (problem+json, RFC 9457), the network and the browser.
// A plain script: see paste.js.

'use strict';

// A readable error: what happened, details, and what to do.
class Problem extends Error {
  constructor(title, { detail = '', hint = '', status = 0, retryAfterMs = null, kind = '' } = {}) {
    super(title);
    this.title = title;
    this.detail = detail;
    this.hint = hint;
    // HTTP status; 0 if there was no response.
    this.status = status;
    this.retryAfterMs = retryAfterMs;
    this.kind = kind;
  }

  // Whether the same request may succeed later without any change. A page does not wait for the place of another broadcaster, because it would
  // then go live at an unexpected time.
  get passing() {
    if (this.is('stream-taken')) return false;
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500 || this.retryAfterMs !== null;
  }

  // The problem in an HTTP response.
  static async fromResponse(response) {
    const body = await readJson(response);
    const words = byStatus(response.status);
    return new Problem(text(body?.title) || words.title, {
      detail: sentence(text(body?.detail)),
      // The server's hint explains to programs how to send a token; a person only needs to have one.
      hint: response.status === 401 ? words.hint : text(body?.hint) || (body ? '' : words.hint),
      status: response.status,
      retryAfterMs: retryAfterMs(response.headers.get('Retry-After')),
      kind: text(body?.type),
    });
  }

  // The problem in an `error` or `closed` frame of a conference room.
  static fromFrame(frame) {
    const status = Number.isInteger(frame?.status) ? frame.status : 0;
    const seconds = frame?.retry_after;
    return new Problem(text(frame?.title) || inRooms(text(frame?.problem), status), {
      detail: sentence(text(frame?.detail)),
      hint: status === 401 ? byStatus(401).hint : text(frame?.hint),
      status,
      retryAfterMs: typeof seconds === 'number' ? seconds * 1000 : null,
      kind: text(frame?.problem),
    });
  }

  // Whether it is of one of these kinds, compared by the last part of the name.
  is(...names) {
    return names.includes(this.kind.split(':').at(-1));
  }

  // Any error as a problem.
  static from(error) {
    if (error instanceof Problem) return error;
    return new Problem('Something unexpected happened', { detail: String(error?.message ?? error), kind: 'unexpected' });
  }

  // The problem of an HTTP request without a response.
  static noServer() {
    return new Problem('The server does not answer', {
      hint: 'It may have been stopped, or the network is down.',
      kind: 'no-server',
    });
  }
}

// Milliseconds to wait by a Retry-After header (seconds or a date), or null.
function retryAfterMs(value, nowMs = Date.now()) {
  if (!value) return null;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs);
}

// Why a camera, a microphone or a screen could not be opened.
function mediaProblem(error, what) {
  const otherwise = {
    camera: 'Or choose the test picture.',
    microphone: 'Until then the video is sent without sound.',
    screen: '',
  }[what];
  const [title, hint, kind] = mediaWords(error?.name, what) ?? [`The ${what} cannot be used`, '', 'device'];
  const detail = kind === 'device' ? sentence(error?.message ?? '') : '';
  return new Problem(title, { detail, hint: `${hint} ${otherwise}`.trim(), kind });
}

function mediaWords(name, what) {
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return what === 'screen'
        ? ['The screen was not shared', 'Choose a screen, a window or a tab in the browser’s dialog and allow sharing.', 'refused']
        : [`The browser is not allowed to use the ${what}`, 'Allow it with the icon in the address bar and in the system settings.', 'refused'];
    case 'NotFoundError':
      return [`No ${what} was found`, 'Plug one in and try again.', 'no-device'];
    case 'NotReadableError':
    case 'AbortError':
      return [`The ${what} cannot be opened`, 'Another program may be using it. Close that program and try again.', 'device-busy'];
    case 'OverconstrainedError':
      return [`The chosen ${what} is no longer available`, 'Choose another one.', 'no-device'];
    default:
      return null;
  }
}

// Browsers restrict cameras and screens to secure pages.
function insecurePage() {
  return new Problem('This page may not use cameras or screens', {
    detail: 'Browsers allow them only on https:// pages and on http://localhost.',
    hint: 'Open the page over HTTPS, or as localhost on the server’s own machine, or choose the test picture.',
    kind: 'insecure',
  });
}

// Titles for frames without one.
function inRooms(kind, status) {
  const name = kind.split(':').at(-1);
  const known = {
    'room-full': 'The room is full',
    'unknown-peer': 'The server no longer knows this member',
    'ended-by-operator': 'The operator removed you from the conference',
    'resumed-elsewhere': 'Another page has taken over your place',
    'shutting-down': 'The server is shutting down',
  }[name];
  return known ?? (status ? byStatus(status).title : 'The server ended the connection');
}

function byStatus(status) {
  return (
    {
      401: { title: 'A token is required', hint: 'The operator of the server can give you one, or a link that contains it.' },
      403: { title: 'This token is for another stream', hint: '' },
      404: { title: 'There is no such stream', hint: 'Check the name in the address.' },
      409: { title: 'The stream is taken', hint: 'Another broadcaster is live under this name. Choose another name.' },
      422: { title: 'The server does not support this format', hint: 'Choose another codec.' },
      429: { title: 'Too many requests', hint: '' },
      503: { title: 'The server is busy', hint: '' },
    }[status] ?? { title: `The server answered ${status}`, hint: '' }
  );
}

async function readJson(response) {
  if (!/\bjson\b/.test(response.headers.get('Content-Type') ?? '')) return null;
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function text(value) {
  return typeof value === 'string' ? value : '';
}

// Capitalizes the first letter and ends with a full stop.
function sentence(words) {
  const trimmed = words.trim();
  if (!trimmed) return '';
  const capital = trimmed[0].toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
