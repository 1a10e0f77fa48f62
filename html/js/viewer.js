// The viewer's page: one button, and a picture that comes back by itself. On a server whep.js begins it; from disk, disk.js.
// A plain script: see paste.js.

'use strict';

const name = streamName();
const video = $('video');
// With the reading every half second: silence is noticed after two seconds.
const QUIET_MS = 1800;
// A picture that is not there after this is asked about: they come within a fraction of it.
const NO_PICTURE_MS = 800;
// The connection, and what the page has of its server: see viewerPage().
let link;
let server;
let askToken;

// What is known of the media while connected: see watchMedia().
let media = null;
// Whether a picture was ever seen since "Watch" was pressed.
let seen = false;

// Begins the page, with a PasteLink or a Link. `services` are what the page has of its server: { follow, streams, token, tokenForm, trust, url }.
function viewerPage(made, services) {
  link = made;
  server = services;
  // For tests and for people with a console.
  window.onecast = { get pc() { return link.pc; }, restart: () => link.restart() };
  keepStream(name);
  document.title = `${name} – onecast`;
  askToken = server.tokenForm(start);
  pasteBox(link, name, () => ((seen = false), true), server);
  link.onchange = changed;
  $('watch').addEventListener('click', () => (video.paused && video.srcObject && media ? play() : start()));
  $('stop').addEventListener('click', stop);
  $('mute').addEventListener('click', () => mute(true));
  $('unmute').addEventListener('click', () => mute(false));
  $('fullscreen').addEventListener('click', fullScreen);
  $('show-stats').addEventListener('click', toggleStats);
  addEventListener('pagehide', () => link.stop());
  setInterval(tick, 500);
  show();
  if (parameter('autoplay') === '1') start();
}

function start() {
  seen = false;
  link.start();
}

function stop() {
  link.stop();
  video.srcObject = null;
  $('still').hidden = true;
}

// The tracks of a new connection. What was last seen stays until there is something newer.
function attach(tracks) {
  if (link.state === 'connected') keepStill();
  video.srcObject = tracks;
  play();
}

async function play() {
  try {
    await video.play();
  } catch (error) {
    // Refused without a click (power saving of phones); the button over the picture asks for one.
    if (error.name === 'NotAllowedError') show();
  }
}

function changed() {
  if (link.state === 'connected' && media?.pc !== link.pc) {
    media?.unfollow();
    listen((media = freshMedia(media)));
  }
  if (link.state === 'lost' || link.state === 'failed') keepStill();
  if (link.state !== 'connected' && link.state !== 'unsteady') {
    media?.unfollow();
    media = null;
  }
  show();
}

// The server tells who comes and leaves. Where it does not, silence has to: see askWhy().
async function listen(current) {
  const unfollow = await server.follow(link.events, (name, data) => {
    if (media !== current) return;
    if (name === 'reconnect') return reconnect(current, data);
    current.told = name !== 'silent';
    if (name === 'viewercount') current.viewers = data.viewercount;
    if (name === 'active' || name === 'inactive') {
      current.live = name === 'active';
      current.silent = data.silent === true;
    }
    if (name === 'codec-missing') current.missing = data.missing;
    if (name === 'inactive' || lacksVideo(current)) current.picture = false;
    showStats();
    show();
  }, link.server);
  if (media === current) current.unfollow = unfollow;
  else unfollow();
}

// The server is about to stop, and says when to connect anew, perhaps to another. It says so again to a page that comes into view again.
function reconnect(current, { url, retry = 1000 }) {
  if (current.leavingFor === (url ?? '')) return;
  current.leavingFor = url ?? '';
  if (url) server.trust(url);
  link.renew(url, retry);
}

// Of a connection that takes the place of another; the picture goes on.
function freshMedia(before = null) {
  return { pc: link.pc, picture: before?.picture, meter: new Meter(link.pc), numbers: null, packets: 0, frames: 0, lastPacketAt: null, since: Date.now(), live: null, silent: false, missing: [], stream: null, leavingFor: null, asked: 0, told: false, viewers: null, unfollow: () => {} };
}

async function tick() {
  if (link.state === 'lost') show();
  const current = media;
  if (!current) return;
  const numbers = await current.meter.read();
  if (media !== current) return;
  const now = Date.now();
  if (numbers.packets > current.packets) current.lastPacketAt = now;
  // Pictures that were on their way when the broadcaster left, or changed its codec, do not bring it back.
  if (numbers.frames > current.frames && !hasLeft(current) && !lacksVideo(current)) {
    seen = true;
    current.picture = true;
    dropStill();
  }
  Object.assign(current, { numbers, packets: numbers.packets, frames: numbers.frames });
  if (now - (current.lastPacketAt ?? current.since) > QUIET_MS) {
    current.picture = false;
    askWhy(current, now);
  } else if (!current.picture && numbers.frames === 0 && now - current.since > NO_PICTURE_MS) {
    askWhy(current, now);
  }
  showStats();
  show();
}

// Nothing arrives: has the broadcaster left, have we lost the server, or is there no keyframe to start with?
async function askWhy(current, now) {
  if ((current.told && current.live === false) || now - current.asked < 2000) return;
  current.asked = now;
  try {
    const found = (await server.streams(link.server)).find((one) => one.name === name);
    current.live = found?.live === true;
    current.silent = found?.state === 'connected';
    current.stream = found ?? null;
    if (current.live) link.check();
  } catch {
    link.check();
  }
  if (media === current) show();
}

// The server said that the video is sent in a codec that this browser lacks.
function lacksVideo(current) {
  return current.missing.some(({ kind }) => kind === 'video');
}

// The server itself said that nobody is live. A broadcaster that is only silent may send at any moment.
function hasLeft(current) {
  return current.told && current.live === false && !current.silent;
}

// Everything on the page that depends on the state.
function show() {
  const [state, title, hint] = situation();
  setState(state);
  const watching = state === 'watching';
  const refused = watching && video.paused && video.srcObject !== null;
  const idle = state === 'idle' || state === 'error';
  $('watch').textContent = refused ? 'Play' : state === 'error' ? 'Try again' : 'Watch';
  buttons([$('stop'), !idle && state !== 'offered'], [$('watch'), idle || refused]);
  buttons([$('unmute'), watching && video.muted], [$('mute'), !video.muted]);
  $('veil').hidden = watching && !refused;
  say($('words'), 'plain', title, '', hint);
  $('badge').hidden = !watching;
  $('badge').dataset.tone = 'live';
  $('badge').textContent = 'Live';
  if (link.state === 'failed') sayProblem($('message'), link.problem);
  else if (link.state === 'unsteady') say($('message'), 'wait', 'The connection is unsteady', '', 'Waiting for it to recover.');
  else say($('message'), 'plain');
  askToken(link.state === 'failed' ? link.problem : null);
}

// [state, what it is, what happens next]
function situation() {
  switch (link.state) {
    case 'idle':
      return ['idle', '', ''];
    case 'connecting':
      return ['connecting', 'Connecting', ''];
    case 'offered':
      return ['offered', 'The offer is ready', 'Give it to the server and paste the answer.'];
    case 'lost':
      return ['lost', link.problem.title, tryingAgain(link.retryAt)];
    case 'failed':
      return ['error', '', ''];
    default:
      return whileConnected();
  }
}

function whileConnected() {
  if (media?.picture) return ['watching', '', ''];
  const missing = media?.missing.find(({ kind }) => kind === 'video') ?? media?.missing[0];
  if (missing) return ['waiting', `This browser cannot play the ${missing.kind}`, otherCodec(missing)];
  if (media?.silent) return ['waiting', 'The broadcaster is connected and sends nothing', 'The picture comes by itself.'];
  if (media?.live === false) {
    return seen
      ? ['left', 'The broadcaster left', 'The picture returns by itself.']
      : ['waiting', 'Waiting for the broadcaster', 'The picture comes by itself.'];
  }
  if (media?.live && media.stream?.video && media.stream.start_cache?.ready === false) {
    return ['waiting', 'Waiting for a keyframe', keyframes(media.stream.keyframes)];
  }
  return ['waiting', 'Waiting for the picture', ''];
}

// What to do about a codec that this browser lacks.
function otherCodec({ codec, offered }) {
  const own = offered.join(' or ');
  return `It is sent in ${codec}. Watch with another browser, or ask the broadcaster to send ${own || 'something else'}.`;
}

// When the next keyframe can be expected.
function keyframes({ interval_ms: interval, ignored } = {}) {
  if (interval) return `The encoder’s interval is ${Math.round(interval / 100) / 10} s.`;
  return ignored ? 'The broadcaster does not answer requests for one.' : 'The broadcaster was asked for one.';
}

// Keeps the last picture over the video while connections change under it.
function keepStill() {
  const still = $('still');
  if (!video.videoWidth || !seen || !still.hidden) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext('2d').drawImage(video, 0, 0);
  still.hidden = false;
}

function dropStill() {
  $('still').hidden = true;
}

function mute(muted) {
  video.muted = muted;
  if (!muted) play();
  show();
}

function fullScreen() {
  const screen = $('screen');
  if (document.fullscreenElement) document.exitFullscreen();
  else if (screen.requestFullscreen) screen.requestFullscreen().catch(() => {});
  // iPhones give it to videos only.
  else video.webkitEnterFullscreen?.();
}

function toggleStats() {
  const list = $('stats');
  list.hidden = !list.hidden;
  $('show-stats').setAttribute('aria-expanded', String(!list.hidden));
  showStats();
}

function showStats() {
  if ($('stats').hidden) return;
  const now = media?.numbers;
  const value = (pick) => (now ? pick(now) : null);
  facts($('stats'), [
    ['Resolution', value(resolution)],
    ['Pictures per second', value((n) => framesPerSecond(n.fps))],
    ['Bitrate', value((n) => bitrate(n.videoBitsPerSecond === null ? null : n.videoBitsPerSecond + (n.audioBitsPerSecond ?? 0)))],
    ['Codec', value((n) => [n.video, n.audio].filter(Boolean).join(', ') || null)],
    ['Packet loss', value((n) => percent(n.lossPercent))],
    ['Jitter buffer', value((n) => milliseconds(n.jitterBufferMs))],
    ['Round trip', value((n) => milliseconds(n.roundTripMs))],
    ['Pictures dropped', value((n) => n.framesDropped?.toString() ?? null)],
    ['Freezes', value((n) => n.freezes?.toString() ?? null)],
    ['Encryption', value((n) => n.srtpCipher)],
    ['Viewers', media?.viewers?.toString() ?? null],
  ]);
}
