// The viewer page: one button, and video that resumes automatically. On a server whep.js starts it; from disk, disk.js.
// A plain script: see paste.js.

'use strict';

const name = streamName();
const video = $('video');
// With a reading every half second, silence is noticed after two seconds.
const QUIET_MS = 1800;
// If no frame has arrived after this time, the page asks the server why. Usually frames arrive much sooner.
const NO_PICTURE_MS = 800;
// The connection, and what the server offers to the page: see viewerPage().
let link;
let server;
let askToken;
let menu;

// What is known about the media while connected: see freshMedia().
let media = null;
// Why the last choice of a size failed, or null.
let layerProblem = null;
// Whether a frame has been shown since "Watch" was pressed.
let seen = false;

// Starts the page, with a PasteLink or a Link. `services` is what the server offers to the page: { chooseLayer, follow, sentLayer, streams, token, tokenForm, trust, url }.
function viewerPage(made, services) {
  link = made;
  server = services;
  // For tests and the developer console.
  window.onecast = { get pc() { return link.pc; }, restart: () => link.restart() };
  keepStream(name);
  document.title = `${name} – onecast`;
  askToken = server.tokenForm(start);
  pasteBox(link, name, () => ((seen = false), true), server);
  link.onchange = changed;
  menu = new QualityMenu($('quality-field'), heightOf(parameter('quality')), (rid) => server.chooseLayer(link.layer, rid));
  menu.onproblem = (problem) => ((layerProblem = problem), show());
  video.addEventListener('resize', () => menu.show(video.videoHeight));
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

// Shows the tracks of a new connection. The last frame stays visible until there is a newer one.
function attach(tracks) {
  if (link.state === 'connected') keepStill();
  video.srcObject = tracks;
  play();
}

async function play() {
  try {
    await video.play();
  } catch (error) {
    // Phones that save power refuse to play without a click; the button over the video asks for one.
    if (error.name === 'NotAllowedError') show();
  }
}

function changed() {
  if (link.state === 'connected' && media?.pc !== link.pc) {
    media?.unfollow();
    layerProblem = null;
    menu.reset();
    listen((media = freshMedia(media)));
  }
  if (link.state === 'lost' || link.state === 'failed') keepStill();
  if (link.state !== 'connected' && link.state !== 'unsteady') {
    media?.unfollow();
    media = null;
    layerProblem = null;
    menu.reset();
  }
  show();
}

// Follows the server's events. Without them, the page infers from silence that the broadcaster left: see askWhy().
async function listen(current) {
  const unfollow = await server.follow(link.events, (name, data) => {
    if (media !== current) return;
    if (name === 'reconnect') return reconnect(current, data);
    current.hasEvents = name !== 'silent';
    if (name === 'viewercount') current.viewers = data.viewercount;
    if (name === 'layers') menu.update(Object.values(data)[0] ?? []);
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

// The server is about to stop and says when to connect again, perhaps to another server. It repeats the event to a page that becomes visible again.
function reconnect(current, { url, retry = 1000 }) {
  if (current.leavingFor === (url ?? '')) return;
  current.leavingFor = url ?? '';
  if (url) server.trust(url);
  link.renew(url, retry);
}

// The state of a new connection. If it replaces another one, the video continues.
function freshMedia(before = null) {
  return { pc: link.pc, picture: before?.picture, meter: new Meter(link.pc), numbers: null, packets: 0, frames: 0, lastPacketAt: null, since: Date.now(), live: null, silent: false, missing: [], stream: null, leavingFor: null, asked: 0, layer: null, layerAsked: 0, hasEvents: false, viewers: null, unfollow: () => {} };
}

async function tick() {
  if (link.state === 'lost') show();
  const current = media;
  if (!current) return;
  const numbers = await current.meter.read();
  if (media !== current) return;
  const now = Date.now();
  if (numbers.packets > current.packets) current.lastPacketAt = now;
  // Frames that were in flight when the broadcaster left, or changed its codec, do not mean that it is back.
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
  await askLayer(current, now);
  if (media !== current) return;
  showStats();
  show();
}

// Asks which size the server sends, and why, while the statistics show it.
async function askLayer(current, now) {
  if ($('stats').hidden || menu.names.length < 2 || now - current.layerAsked < 2000) return;
  current.layerAsked = now;
  current.layer = await server.sentLayer(link.layer).catch(() => current.layer);
}

// Nothing arrives: did the broadcaster leave, is the server gone, or is there no keyframe to start with?
async function askWhy(current, now) {
  if ((current.hasEvents && current.live === false) || now - current.asked < 2000) return;
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

// The server reported that this browser lacks the codec of the video.
function lacksVideo(current) {
  return current.missing.some(({ kind }) => kind === 'video');
}

// The server reported that there is no broadcaster. A silent broadcaster may send again at any moment.
function hasLeft(current) {
  return current.hasEvents && current.live === false && !current.silent;
}

// Updates everything on the page that depends on the state.
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
  else if (layerProblem) sayProblem($('message'), layerProblem);
  else if (link.state === 'unsteady') say($('message'), 'wait', 'The connection is unstable', '', 'Waiting for it to recover.');
  else say($('message'), 'plain');
  askToken(link.state === 'failed' ? link.problem : null);
}

// Returns [state, title, hint].
function situation() {
  switch (link.state) {
    case 'idle':
      return ['idle', '', ''];
    case 'connecting':
      return ['connecting', 'Connecting', ''];
    case 'offered':
      return ['offered', 'The offer is ready', 'Send it to the server, then paste the answer.'];
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
  if (media?.silent) return ['waiting', 'The broadcaster is connected but sends nothing', 'The video starts automatically.'];
  if (media?.live === false) {
    return seen
      ? ['left', 'The broadcaster left', 'The video resumes automatically.']
      : ['waiting', 'Waiting for the broadcaster', 'The video starts automatically.'];
  }
  if (media?.live && media.stream?.video && media.stream.start_cache?.ready === false) {
    return ['waiting', 'Waiting for a keyframe', keyframes(media.stream.keyframes)];
  }
  return ['waiting', 'Waiting for the video', ''];
}

// Advice about a codec that this browser lacks.
function otherCodec({ codec, offered }) {
  const own = offered.join(' or ');
  return `Its codec is ${codec}. Use another browser, or ask the broadcaster to send ${own || 'another codec'}.`;
}

// When to expect the next keyframe.
function keyframes({ interval_ms: interval, ignored } = {}) {
  if (interval) return `The encoder sends one every ${Math.round(interval / 100) / 10} s.`;
  return ignored ? 'The broadcaster ignores keyframe requests.' : 'The server has requested one.';
}

// Keeps the last frame visible while the connection changes.
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
  // iPhones allow full screen only for videos.
  else video.webkitEnterFullscreen?.();
}

// Which of the broadcaster's sizes is shown, and why.
function quality() {
  const why = media?.layer && menu.why(media.layer);
  const shown = media?.layer?.height ? `${media.layer.height}p` : null;
  const all = menu.names.join(', ');
  return [shown ? `${shown} of ${all}` : all, why].filter(Boolean).join(': ');
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
    ...(menu.names.length > 1 ? [['Quality', quality()]] : []),
    ['Frames per second', value((n) => framesPerSecond(n.fps))],
    ['Bitrate', value((n) => bitrate(n.videoBitsPerSecond === null ? null : n.videoBitsPerSecond + (n.audioBitsPerSecond ?? 0)))],
    ['Codec', value((n) => [n.video, n.audio].filter(Boolean).join(', ') || null)],
    ['Packet loss', value((n) => percent(n.lossPercent))],
    ['Jitter buffer', value((n) => milliseconds(n.jitterBufferMs))],
    ['Round-trip time', value((n) => milliseconds(n.roundTripMs))],
    ['Dropped frames', value((n) => n.framesDropped?.toString() ?? null)],
    ['Freezes', value((n) => n.freezes?.toString() ?? null)],
    ['Encryption', value((n) => n.srtpCipher)],
    ['Viewers', media?.viewers?.toString() ?? null],
  ]);
}
