// The broadcast page: choose a source, preview it, go live, watch the statistics. On a server whip.js starts it; from disk, disk.js.
// A plain script: see paste.js.

'use strict';

const name = streamName();
// The connection, and what the server offers to the page: see broadcastPage().
let link;
let server;
let askToken;
// The source that is shown and sent: { kind, stream, problem, stop }, or null.
let source = null;
// The message about the source stays until another source is chosen.
let sourceProblem = null;
let liveSince = null;
let viewers = null;
// How long the server has received no media, in seconds; null while it receives some.
let silentSeconds = null;
let wakeLock = null;
let meter = null;

// Starts the page, with a PasteLink or a Link. `services` is what the server offers to the page: { streams, token, tokenForm, url }.
function broadcastPage(made, services) {
  link = made;
  server = services;
  // For tests and the developer console.
  window.onecast = { get pc() { return link.pc; }, restart: () => link.restart() };
  keepStream(name);
  document.title = `Broadcast ${name} – onecast`;
  fillChoices();
  copies($('copy-link'), () => absolute($('viewer-link').href));
  askToken = server.tokenForm(async () => (await ready()) && link.start());
  pasteBox(link, name, ready, server);
  link.onchange = show;
  $('go').addEventListener('click', async () => (await ready()) && link.start());
  $('stop').addEventListener('click', () => link.stop());
  $('sound').addEventListener('change', soundChanged);
  $('quality').addEventListener('change', () => source && (source.kind === 'screen' ? limitBitrate() : choose(source.kind)));
  $('camera').addEventListener('change', () => choose('camera'));
  for (const radio of radios()) radio.addEventListener('click', () => choose(radio.value));
  addEventListener('pagehide', () => link.stop());
  document.addEventListener('visibilitychange', stayAwake);
  setInterval(everySecond, 1000);
  show();
  if (parameter('source')) choose(parameter('source'));
}

function offered() {
  return { video: track('video'), audio: track('audio'), codec: $('codec').value, maxBitsPerSecond: maxBitsPerSecond(), layers: layers() };
}

// How many sizes to send: ?layers=3 in the page's address sends three of any source.
function layers() {
  if ($('layers').value) return Number($('layers').value);
  if (parameter('layers') === '3') return 3;
  const { width, height } = track('video')?.getSettings() ?? {};
  return usefulLayers({ width: width ?? 0, height: height ?? 0, kind: source?.kind });
}

function track(kind) {
  return source?.stream.getTracks().find((one) => one.kind === kind && one.readyState === 'live') ?? null;
}

function maxBitsPerSecond() {
  return { 360: 800_000, 480: 1_200_000, 720: 2_500_000, 1080: 5_000_000 }[$('quality').value];
}

function radios() {
  return document.querySelectorAll('input[name=source]');
}

function fillChoices() {
  for (const codec of sendableCodecs()) $('codec').append(new Option(codec, codec));
  if (!canChooseCodec()) {
    $('codec').disabled = true;
    $('codec').title = 'This browser chooses the codec';
  }
  const wanted = [['codec', parameter('codec').toUpperCase()], ['quality', parameter('quality')], ['layers', parameter('layers')]];
  for (const [id, value] of wanted) {
    if ([...$(id).options].some((option) => option.value === value)) $(id).value = value;
  }
  for (const place of document.querySelectorAll('[data-missing]')) {
    place.textContent = missing(place.dataset.missing);
  }
}

// Whether there is something to send. Opens the camera if no source has been chosen.
async function ready() {
  return source !== null || choose([...radios()].find((radio) => radio.checked)?.value ?? 'camera');
}

// Opens a source and, when live, sends it instead of the previous one. Returns true if it worked.
async function choose(kind) {
  const radio = [...radios()].find((one) => one.value === kind);
  if (!radio) return false;
  radio.checked = true;
  if (kind !== 'canvas') say($('message'), 'wait', kind === 'screen' ? 'Choose what to share' : 'Waiting for permission to use the camera');
  const settings = {
    height: Number($('quality').value),
    cameraId: $('camera').value,
    withMicrophone: $('sound').checked,
    stream: name,
  };
  try {
    await use({ kind, ...(await openSource(kind, settings)) });
    sourceProblem = source.problem;
  } catch (error) {
    sourceProblem = Problem.from(error);
    radio.checked = false;
    if (source) [...radios()].find((one) => one.value === source.kind).checked = true;
  }
  show();
  return sourceProblem === null || sourceProblem === source?.problem;
}

async function use(next) {
  source?.stop();
  source = next;
  $('preview').srcObject = next.stream;
  $('preview').classList.toggle('mirrored', next.kind === 'camera');
  soundChanged();
  for (const one of next.stream.getVideoTracks()) one.addEventListener('ended', () => sourceEnded(next));
  if (next.kind === 'camera') await listCameras();
  const [video, audio] = link.pc?.getSenders() ?? [];
  if (link.state === 'idle' || link.state === 'failed' || !video) return;
  await video.replaceTrack(track('video'));
  await audio.replaceTrack(track('audio'));
  await limitBitrate();
}

function sourceEnded(ended) {
  if (source !== ended) return;
  source.stop();
  source = null;
  sourceProblem = new Problem(ended.kind === 'screen' ? 'Screen sharing has ended' : 'The camera was disconnected', {
    hint: 'Choose a source.',
  });
  $('preview').srcObject = null;
  for (const radio of radios()) radio.checked = false;
  show();
}

async function listCameras() {
  const list = await cameras();
  const current = track('video')?.getSettings().deviceId;
  $('camera').replaceChildren(...list.map(({ id, label }) => new Option(label, id, false, id === current)));
  $('camera-field').hidden = list.length < 2;
}

function soundChanged() {
  const on = $('sound').checked;
  for (const one of source?.stream.getAudioTracks() ?? []) one.enabled = on;
  if (on && source?.kind === 'camera' && !track('audio') && !source.problem) choose('camera');
}

function limitBitrate() {
  return limitLayers(link.pc?.getSenders()[0], layers(), maxBitsPerSecond());
}

// Updates everything on the page that depends on the state.
function show() {
  const { state } = link;
  const live = state === 'connected' || state === 'unsteady';
  if (live && liveSince === null) went(true);
  if (state === 'idle' || state === 'failed') went(false);
  setState({ connected: 'live', failed: 'error' }[state] ?? state);
  const on = state !== 'idle' && state !== 'failed';
  buttons([$('go'), !on || state === 'offered'], [$('stop'), on && state !== 'offered']);
  $('codec').disabled = (on && state !== 'offered') || !canChooseCodec();
  $('layers').disabled = on && state !== 'offered';
  $('veil').hidden = source !== null;
  $('stats').hidden = !live;
  showBadge();
  showMessage();
  askToken(state === 'failed' ? link.problem : null);
}

function went(live) {
  liveSince = live ? Date.now() : null;
  viewers = null;
  silentSeconds = null;
  stayAwake();
}

// A phone that goes to sleep stops sending. The browser releases the lock whenever the page is hidden.
function stayAwake() {
  if (liveSince === null) {
    wakeLock?.release().catch(() => {});
    wakeLock = null;
  } else if (!document.hidden) {
    navigator.wakeLock?.request('screen').then((lock) => (wakeLock = lock), () => {});
  }
}

function showBadge() {
  const badge = {
    connected: silentSeconds === null ? ['Live', 'live'] : ['Connected', 'wait'],
    unsteady: ['Unstable', 'wait'],
    connecting: ['Connecting', 'wait'],
    offered: ['Off air', 'off'],
    lost: ['Off air', 'wait'],
  }[link.state] ?? ['Off air', 'off'];
  const since = liveSince !== null && badge[1] === 'live' ? ` ${duration(Date.now() - liveSince)}` : '';
  $('badge').textContent = badge[0] + since;
  $('badge').dataset.tone = badge[1];
}

function showMessage() {
  const box = $('message');
  const { state, problem } = link;
  if (state === 'failed') return sayProblem(box, problem);
  if (state === 'lost') return say(box, 'wait', problem.title, problem.detail, tryingAgain(link.retryAt));
  if (state === 'unsteady') return say(box, 'wait', 'The server has stopped responding', '', 'Waiting for the connection to recover.');
  if (sourceProblem) return sayProblem(box, sourceProblem);
  if (state === 'connecting') return say(box, 'wait', 'Connecting to the server');
  if (state === 'connected' && silentSeconds !== null) {
    return say(box, 'wait', 'Connected, but not sending', `The server has received no media for ${silentSeconds} s.`, 'Choose another source, or check this one.');
  }
  if (state === 'offered') return say(box, 'wait', 'The offer is ready', '', 'Send it to the server, then paste the answer.');
  say(box, 'plain');
}

async function everySecond() {
  if (link.state === 'lost') showMessage();
  if (link.state !== 'connected' && link.state !== 'unsteady') return;
  showBadge();
  if (meter?.pc !== link.pc) meter = new Meter(link.pc);
  const now = await meter.read();
  facts($('stats'), rows(now));
  if (Math.floor((Date.now() - (liveSince ?? 0)) / 1000) % 3 === 0) countViewers();
}

function rows(now) {
  const total = now.videoBitsPerSecond === null ? null : now.videoBitsPerSecond + (now.audioBitsPerSecond ?? 0);
  return [
    ['Bitrate', bitrate(total)],
    ['Codec', [now.video, now.audio].filter(Boolean).join(', ') || null],
    ['Resolution', resolution(now)],
    ['Frames per second', framesPerSecond(now.fps)],
    ...now.layers.map((layer, index) => [`Size ${index + 1}`, describeLayer(layer, index, now)]),
    ['Round-trip time', milliseconds(now.roundTripMs)],
    ['Packet loss', percent(now.lossPercent)],
    ['Limited by', limitedBy(now.limitation)],
    ['Viewers', viewers === null ? null : String(viewers)],
  ];
}

function describeLayer(layer, place, picture) {
  const limit = ['cpu', 'bandwidth'].includes(layer.limitation) ? `limited by ${limitedBy(layer.limitation)}` : null;
  if (!layer.isSent) return ['not sent', whyNotSent(layer, place, picture) ?? limit].filter(Boolean).join(', ');
  const rate = layer.fps === null ? null : `${framesPerSecond(layer.fps)} frames/s`;
  return [resolution(layer), rate, bitrate(layer.bitsPerSecond), limit].filter(Boolean).join(', ');
}

function whyNotSent(layer, place, picture) {
  if (!layer.isWanted) return 'not useful for this source';
  return isLeftOut(place, picture) ? 'the picture is too small' : null;
}

function limitedBy(limitation) {
  return { none: 'nothing', cpu: 'this machine', bandwidth: 'the network' }[limitation] ?? limitation;
}

async function countViewers() {
  try {
    const found = (await server.streams(link.server)).find((one) => one.name === name);
    viewers = found?.viewers ?? viewers;
    // A broadcaster that has just connected is about to send.
    silentSeconds = found?.state === 'connected' && found.silent_s >= SILENT_AFTER_S ? found.silent_s : null;
    showBadge();
    showMessage();
  } catch {
    link.check();
  }
}

// The server reports a broadcaster as silent after this time.
const SILENT_AFTER_S = 5;
