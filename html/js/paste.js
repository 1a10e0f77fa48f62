// Copy and paste: descriptions as base64 of {"type": .., "sdp": ..}, for a person to carry to the server and back.

import { Problem } from './problem.js';

// Text to copy. Broken into lines because a terminal that reads a line itself takes at most 4095 characters of it.
export function encode({ type, sdp }) {
  const bytes = new TextEncoder().encode(JSON.stringify({ type, sdp }));
  const base64 = btoa(String.fromCharCode(...bytes));
  return base64.match(/.{1,76}/g).join('\n');
}

// The answer in a pasted text: base64 of JSON, bare JSON or bare SDP. Throws a Problem that says what it is instead.
export function decodeAnswer(pasted) {
  const given = pasted.trim();
  if (!given) throw new Problem('The answer is empty', { hint: 'Paste what the curl command printed.', kind: 'paste' });
  if (given.startsWith('v=0')) return { type: 'answer', sdp: `${given}\r\n` };
  const refused = given.match(/^(?<title>[^\n]+?) \((?<status>4\d\d|5\d\d)\): (?<detail>[^\n]*)\n?(?<hint>[\s\S]*)$/);
  if (refused) throw new Problem(refused.groups.title, { ...refused.groups, status: Number(refused.groups.status), kind: 'refused' });
  return checked(parse(given.startsWith('{') ? given : unbase64(given)));
}

// A line for a shell that hands in the offer, with a token if there is one, and prints the answer.
export function curlLine(offer, url, token = '') {
  const header = token ? ` -H 'Authorization: Bearer ${token.replaceAll("'", "'\\''")}'` : '';
  return `echo '${offer}' | curl -s${header} --data-binary @- '${url}'`;
}

// Waits until the browser has gathered its own addresses, or for a second: the server needs none of them.
export async function gathered(pc, limitMs = 1000) {
  if (pc.iceGatheringState === 'complete') return;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, limitMs);
    pc.addEventListener('icegatheringstatechange', () => {
      if (pc.iceGatheringState !== 'complete') return;
      clearTimeout(timer);
      resolve();
    });
  });
}

function unbase64(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replace(/\s+/g, '')), (char) => char.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Problem('This is not an answer', {
      detail: 'The text is not base64.',
      hint: 'Paste exactly what the curl command printed. When it printed nothing, the server was not reached.',
      kind: 'paste',
    });
  }
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    throw new Problem('This is not an answer', {
      detail: 'The text is base64, but not of JSON: a part of it may be missing.',
      hint: 'Copy the whole answer.',
      kind: 'paste',
    });
  }
}

function checked(value) {
  if (value?.type === 'offer') {
    throw new Problem('This is the offer, not the answer', {
      hint: 'Give the offer to the server with the curl command, and paste what that prints.',
      kind: 'paste',
    });
  }
  if (value?.type !== 'answer' || typeof value.sdp !== 'string') {
    throw new Problem('This is not an answer', { detail: 'It must be {"type": "answer", "sdp": ..}.', kind: 'paste' });
  }
  return { type: 'answer', sdp: value.sdp };
}
