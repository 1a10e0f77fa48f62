// The front page: live streams, a form for a new stream, and addresses for other programs.

import { streams } from './session.js';
import { tokenForm, useToken } from './token.js';

const STREAM = 'live';

let timer;

useToken('list');
const askToken = tokenForm(poll);
lines();
$('new').addEventListener('submit', (event) => {
  event.preventDefault();
  const to = event.submitter?.value ?? 'broadcast';
  location.href = `${to}.html?${to === 'conference' ? 'room' : 'stream'}=${encodeURIComponent($('name').value)}`;
});
if (!onDisk) poll();

async function poll() {
  clearTimeout(timer);
  try {
    show(await streams());
    say($('message'), 'plain');
    askToken(null);
  } catch (error) {
    setState('lost');
    const problem = Problem.from(error);
    $('empty').hidden = true;
    $('streams').replaceChildren();
    sayProblem($('message'), problem);
    askToken(problem);
  }
  clearTimeout(timer);
  timer = setTimeout(poll, document.hidden ? 10_000 : 2000);
}

function show(all) {
  // Live streams first, then those with a connected broadcaster, then those with waiting viewers only.
  const sorted = [...all].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  setState(sorted.some((one) => one.live) ? 'live' : 'empty');
  $('empty').hidden = sorted.length > 0;
  const list = $('streams');
  const focused = document.activeElement?.dataset.key;
  list.replaceChildren(...sorted.map(item));
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function rank({ live, state }) {
  return live ? 0 : state === 'connected' ? 1 : 2;
}

function item(stream) {
  const row = document.createElement('li');
  row.dataset.live = String(stream.live);
  row.dataset.stream = stream.name;
  const [words, tone] = [['Live', 'live'], ['Connected', 'off'], ['Waiting', 'off']][rank(stream)];
  const isThere = rank(stream) < 2;
  const title = element('strong', stream.name);
  const about = element('span', description(stream), 'about');
  const badge = element('span', words, 'badge inline');
  badge.dataset.tone = tone;
  const text = document.createElement('div');
  const heading = document.createElement('p');
  heading.append(title, badge);
  text.append(heading, about);
  const actions = element('div', '', 'actions');
  actions.append(isThere ? go('viewer', 'Watch', stream.name, 'main') : go('broadcast', 'Broadcast', stream.name, ''));
  row.append(text, actions);
  return row;
}

function description({ live, since, silent_s: silent, viewers, video, audio }) {
  const count = viewers ?? 0;
  const started = live && since ? Date.parse(since) : NaN;
  return [
    Number.isNaN(started) ? '' : `for ${duration(Date.now() - started)}`,
    typeof silent === 'number' ? `silent for ${duration(silent * 1000)}` : '',
    count === 1 ? '1 viewer' : `${count} viewers`,
    [video, audio].filter(Boolean).join(', '),
  ]
    .filter(Boolean)
    .join(' · ');
}

function go(page, words, name, look) {
  const link = element('a', words, `button ${look}`);
  link.href = `${page}.html?stream=${encodeURIComponent(name)}${page === 'viewer' ? '&autoplay=1' : ''}`;
  link.dataset.key = `${page} ${name}`;
  link.setAttribute('aria-label', `${words}: ${name}`);
  return link;
}

function lines() {
  const rows = [
    ['Post an offer, get the answer', `curl -s --data-binary @offer.txt ${absolute(`sdp/${STREAM}`)}`],
    ['List live streams', `curl -s ${absolute('api/streams')}`],
    ['Publish from OBS or FFmpeg (WHIP)', absolute(`whip/${STREAM}`)],
    ['Watch in a player (WHEP)', absolute(`whep/${STREAM}`)],
  ];
  for (const [words, line] of rows) {
    const group = document.createElement('div');
    const value = document.createElement('dd');
    const button = element('button', 'Copy', 'small');
    button.type = 'button';
    button.setAttribute('aria-label', `Copy: ${words}`);
    copies(button, () => line);
    value.append(element('code', line), button);
    group.append(element('dt', words), value);
    $('lines').append(group);
  }
}

function element(tag, words, className = '') {
  const made = document.createElement(tag);
  made.textContent = words;
  if (className) made.className = className;
  return made;
}
