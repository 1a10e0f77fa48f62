// Functions that the pages share: finding elements, showing messages, copying texts, formatting numbers.
// A plain script: see paste.js.

'use strict';

const $ = (id) => document.getElementById(id);

// Whether the page was opened from disk. Some browsers can be configured to load modules from there; the modules then do nothing.
const onDisk = location.protocol === 'file:';

// The stream of the page, from its address.
function streamName() {
  return new URLSearchParams(location.search).get('stream')?.trim() || 'live';
}

// A parameter of the page's address, or ''.
function parameter(name) {
  return new URLSearchParams(location.search).get(name) ?? '';
}

// The state of the page in one word, for the stylesheet and for tests.
function setState(state) {
  document.documentElement.dataset.state = state;
}

// The absolute URL of a path on the page's server. `path` is relative to the page, which may be below a path of a proxy.
function absolute(path) {
  return new URL(path, location.href).href;
}

// Adds the stream to the links between the pages.
function keepStream(stream) {
  for (const link of document.querySelectorAll('a[data-keep-stream]')) {
    link.href = `${link.getAttribute('href').split('?')[0]}?stream=${encodeURIComponent(stream)}`;
  }
  for (const place of document.querySelectorAll('[data-stream-name]')) place.textContent = stream;
}

// Shows a message, or hides it if it is empty. Tones: plain, good, wait, bad.
function say(box, tone, title = '', detail = '', hint = '') {
  const parts = [
    ['strong', title],
    ['span', detail],
    ['span', hint],
  ].filter(([, words]) => words);
  const same = box.dataset.tone === tone && box.dataset.words === JSON.stringify(parts);
  if (same) return;
  box.dataset.tone = tone;
  box.dataset.words = JSON.stringify(parts);
  box.hidden = parts.length === 0;
  box.replaceChildren(
    ...parts.map(([tag, words]) => {
      const element = document.createElement(tag);
      element.textContent = words;
      return element;
    }),
  );
}

// Shows a Problem.
function sayProblem(box, problem) {
  say(box, 'bad', problem.title, problem.detail, problem.hint);
}

// Shows or hides buttons by [element, shown]. If the focused button disappears, the first visible one gets the focus.
function buttons(...pairs) {
  const left = pairs.some(([element, shown]) => !shown && element === document.activeElement);
  for (const [element, shown] of pairs) element.hidden = !shown;
  if (left) pairs.find(([, shown]) => shown)?.[0].focus();
}

// Makes a button copy what `text` returns.
function copies(button, text) {
  const label = button.textContent;
  let timer;
  button.addEventListener('click', async () => {
    button.textContent = (await copy(text())) ? 'Copied' : 'Select and copy it manually';
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), 2000);
  });
}

// Fills a definition list with [name, value] pairs; null is shown as "–".
function facts(list, rows) {
  if (list.children.length !== rows.length) {
    list.replaceChildren(
      ...rows.map(() => {
        const group = document.createElement('div');
        group.append(document.createElement('dt'), document.createElement('dd'));
        return group;
      }),
    );
  }
  rows.forEach(([name, value], index) => {
    const [term, description] = list.children[index].children;
    if (term.textContent !== name) term.textContent = name;
    const words = value ?? '–';
    if (description.textContent !== words) description.textContent = words;
  });
}

function bitrate(bitsPerSecond) {
  if (bitsPerSecond === null) return null;
  return bitsPerSecond >= 1e6 ? `${(bitsPerSecond / 1e6).toFixed(2)} Mbit/s` : `${Math.round(bitsPerSecond / 1000)} kbit/s`;
}

function milliseconds(value) {
  return value === null ? null : `${Math.round(value)} ms`;
}

function percent(value) {
  return value === null ? null : `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

function resolution({ width, height }) {
  return width && height ? `${width} × ${height}` : null;
}

function framesPerSecond(value) {
  return value === null ? null : `${Math.round(value)}`;
}

// 3:07, 1:03:07 or 4 days.
function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)} days`;
  const two = (number) => String(number).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// "Trying again in 3 s."
function tryingAgain(retryAt) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  return seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again now.';
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyTheOldWay(text);
  }
}

// Insecure pages have no clipboard API.
function copyTheOldWay(text) {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'offscreen';
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}
