// The conference page: join a room, see and hear the others, be seen and heard.

import { Devices } from './devices.js';
import { Local } from './local.js';
import { Quality } from './quality.js';
import { Room } from './room.js';
import { isMuted, nameOf } from './roster.js';
import { Tiles } from './tiles.js';
import { tokenForm, useToken } from './token.js';

const room = new Room();
const local = new Local(settings, (line, track) => room.send(line, track));
const tiles = new Tiles($('grid'));
const devices = new Devices(local, show, (problem) => showProblem(problem));
// The last problem of camera, microphone or screen. It stays until the next action on one of them.
let localProblem = null;
// What the browser is asking permission for: 'camera', 'microphone', 'screen' or null.
let asking = null;
let silenced = false;
let quality = null;
let qualities = new Map();
let wakeLock = null;
// Whether a connection has been lost since "Join" was pressed.
let wasLost = false;
// For tests and the developer console.
window.onecast = { room, local, get pc() { return room.pc; }, get wasLost() { return wasLost; }, view: () => views() };

$('room').value = parameter('room').trim() || 'main';
$('name').value = parameter('name') || kept('name');
for (const place of document.querySelectorAll('[data-missing]')) place.textContent = missing(place.dataset.missing);
useToken('conference', roomName());
const askToken = tokenForm(join);
copies($('copy-link'), () => $('room-link').href);
room.onchange = changed;
room.onnews = (what, member) => ($('news').textContent = `${nameOf(member)} ${what === 'joined' ? 'joined' : 'left'}`);
room.onrefused = refused;
local.onended = ended;
tiles.onsilenced = () => {
  silenced = true;
  show();
};
$('lobby').addEventListener('submit', (event) => {
  event.preventDefault();
  join();
});
$('room').addEventListener('input', show);
$('name').addEventListener('input', show);
for (const radio of radios()) radio.addEventListener('click', () => open(radio.value));
$('mute').addEventListener('click', toggleMicrophone);
$('camera-toggle').addEventListener('click', toggleCamera);
$('share').addEventListener('click', toggleShare);
$('sound').addEventListener('click', sound);
$('show-devices').addEventListener('click', toggleDevices);
$('leave').addEventListener('click', leave);
addEventListener('pagehide', () => room.leave());
addEventListener('online', () => room.retryNow());
document.addEventListener('visibilitychange', stayAwake);
setInterval(everySecond, 1000);
show();
if (radios().some(({ value }) => value === parameter('source'))) radios().find(({ value }) => value === parameter('source')).checked = true;
if (!onDisk && parameter('autoplay') === '1') join();

function settings() {
  return {
    height: Number(parameter('quality')) || 720,
    cameraId: $('camera').value,
    microphoneId: $('microphone').value,
    stream: ownName(),
    ground: groundOf(ownName()),
  };
}

function roomName() {
  return $('room').value.trim() || 'main';
}

function ownName() {
  return $('name').value.trim() || 'Guest';
}

function radios() {
  return [...document.querySelectorAll('input[name=source]')];
}

function chosen() {
  return radios().find(({ checked }) => checked)?.value ?? 'camera';
}

async function join() {
  if (!$('lobby').reportValidity() || isIn() || asking) return;
  useToken('conference', roomName());
  keep('name', $('name').value.trim());
  history.replaceState(history.state, '', addressOf(roomName()));
  document.title = `${roomName()} – onecast`;
  wasLost = false;
  const isOpen = Object.values(local.tracks).some(Boolean);
  if (!isOpen && !(await open(chosen()))) return;
  room.join(roomName(), $('name').value.trim());
  room.mute(isSilent());
  // The form disappears; keyboard users continue at the buttons.
  [$('mute'), $('leave')].find((button) => !button.hidden)?.focus();
}

function leave() {
  room.leave();
  local.close();
  show();
  $('join').focus();
}

// Opens the chosen source. Returns true if there is something to join with.
async function open(kind) {
  const opens = { camera: 'camera', screen: 'screen', canvas: null, sound: 'microphone', nothing: null }[kind];
  return attempt(opens, async () => {
    await local.unshare();
    if (kind !== 'screen') return local.open(kind);
    await local.share(sharing());
    return local.open('sound').catch((problem) => problem);
  });
}

// Performs an action on a device and shows what the browser asks for and what went wrong. Returns true if it worked.
async function attempt(what, action) {
  asking = what;
  localProblem = null;
  show();
  let done = true;
  try {
    localProblem = (await action()) ?? null;
  } catch (error) {
    localProblem = Problem.from(error);
    done = false;
  }
  asking = null;
  await devices.list();
  show();
  return done;
}

async function toggleMicrophone() {
  if (!local.tracks.microphone) {
    local.mute(false);
    await attempt('microphone', () => local.microphoneOn());
  } else {
    local.mute(!local.muted);
  }
  room.mute(isSilent());
  show();
}

function isSilent() {
  return local.muted || !local.tracks.microphone;
}

function toggleCamera() {
  if (local.tracks.camera) return attempt(null, () => local.cameraOff());
  const canvas = chosen() === 'canvas';
  return attempt(canvas ? null : 'camera', () => local.cameraOn(canvas ? 'canvas' : 'camera'));
}

function toggleShare() {
  return local.tracks.screen ? attempt(null, () => local.unshare()) : attempt('screen', () => local.share(sharing()));
}

// ?share=canvas shares the test picture, for machines without a screen.
function sharing() {
  return parameter('share') === 'canvas' ? 'canvas' : 'screen';
}

// A source ended by itself: it was unplugged, or stopped with the browser's own button.
async function ended(what) {
  if (what === 'screen') return attempt(null, () => local.unshare());
  const title = what === 'camera' ? 'The camera was disconnected' : 'The microphone was disconnected';
  await attempt(null, () => local.refused(what));
  room.mute(isSilent());
  showProblem(new Problem(title, { hint: 'Plug it in again or choose another one.', kind: 'no-device' }));
}

async function refused(lines, problem) {
  for (const line of lines) await local.refused(line);
  showProblem(problem);
}

function showProblem(problem) {
  localProblem = problem;
  show();
}

function sound() {
  silenced = false;
  tiles.sound();
  show();
}

async function toggleDevices() {
  $('devices').hidden = !$('devices').hidden;
  $('show-devices').setAttribute('aria-expanded', String(!$('devices').hidden));
  await devices.list();
}

function changed() {
  if (room.state === 'lost') wasLost = true;
  if (quality?.pc !== room.pc) {
    quality = room.pc && new Quality(room.pc);
    qualities = new Map();
  }
  show();
}

function isIn() {
  return room.state !== 'idle' && room.state !== 'failed';
}

async function everySecond() {
  tiles.tick();
  if (room.state === 'lost') show();
  const reading = quality;
  if (!reading || room.state === 'connecting') return;
  const places = room.places().map(({ key, tracks }) => ({ key, mids: Object.values(tracks).map(({ mid }) => mid) }));
  const read = await reading.read(places).catch(() => null);
  if (!read || quality !== reading) return;
  qualities = read;
  show();
}

// Updates everything on the page that depends on the state.
function show() {
  setState(pageState());
  const inside = isIn();
  const alone = pageState() === 'alone';
  $('lobby').hidden = inside;
  $('main').classList.toggle('columns', !inside);
  document.body.classList.toggle('call', inside);
  $('room-name').textContent = roomName();
  $('room-link').href = absolute(`conference.html?room=${encodeURIComponent(roomName())}`);
  $('room-link').textContent = $('room-link').href;
  $('alone').hidden = !alone;
  showButtons(inside);
  showMessage();
  tiles.show(views());
  askToken(room.state === 'failed' ? room.problem : null);
  stayAwake();
}

function pageState() {
  if (room.state === 'failed') return 'error';
  if (room.state !== 'connected') return room.state;
  return room.roster.others.length ? 'together' : 'alone';
}

function showButtons(inside) {
  const { microphone, camera, screen } = local.tracks;
  $('mute').textContent = isSilent() ? 'Unmute' : 'Mute';
  $('camera-toggle').textContent = camera ? 'Camera off' : 'Camera on';
  $('share').textContent = screen ? 'Stop sharing' : 'Share screen';
  const maySend = inside && room.problem?.status !== 403;
  const canShare = sharing() === 'canvas' || !missing('screen');
  buttons(
    [$('mute'), Boolean(microphone) || maySend],
    [$('camera-toggle'), Boolean(camera) || maySend],
    [$('share'), Boolean(screen) || (maySend && canShare)],
    [$('leave'), inside],
  );
  for (const id of ['mute', 'camera-toggle', 'share']) $(id).disabled = asking !== null;
  $('join').disabled = asking !== null;
  $('sound').hidden = !silenced;
}

function showMessage() {
  const box = $('message');
  const { state, problem } = room;
  if (asking) return say(box, 'wait', ASKING[asking]);
  if (state === 'failed') return say(box, 'bad', problem.title, problem.detail, [problem.hint, mayWatch(problem)].filter(Boolean).join(' '));
  if (state === 'lost') return say(box, 'wait', problem.title, [problem.detail, problem.hint].filter(Boolean).join(' '), tryingAgain(room.retryAt));
  if (state === 'unsteady') return say(box, 'wait', 'The connection is unstable', '', 'Waiting for it to recover.');
  if (localProblem) return sayProblem(box, localProblem);
  if (state === 'connecting') return say(box, 'wait', 'Joining the room');
  if (state === 'connected' && wasLost) return say(box, 'good', 'You are back in the room', 'The connection was lost and has been restored.');
  say(box, 'plain');
}

// A member that may not send may be allowed to watch.
function mayWatch({ status }) {
  return status === 403 && Object.values(local.tracks).some(Boolean) ? 'Or choose “Nothing, just watch”.' : '';
}

// The tiles in their order: screens first, our own last.
function views() {
  const lines = new Map(room.incoming().map(([transceiver, line]) => [line.mid, transceiver.receiver.track]));
  const { roster } = room;
  const others = room.places().map(({ key, member, label, tracks, stream }) => ({
    key,
    member: member.id,
    name: nameOf(member),
    own: false,
    screen: label !== null,
    mirrored: false,
    video: lines.get(tracks.video?.mid) ?? null,
    audio: lines.get(tracks.audio?.mid) ?? null,
    muted: label === null && isMuted(member, stream),
    speaking: label === null && member.speaking === true,
    speaker: label === null && roster.speaker === member.id,
    quality: qualities.get(key)?.quality ?? null,
  }));
  return [...others, ...ownViews()].sort((a, b) => Number(b.screen) - Number(a.screen));
}

function ownViews() {
  const { roster } = room;
  const { camera, screen } = local.tracks;
  const me = { member: roster.own, name: ownName(), own: true, audio: null };
  const mine = {
    ...me,
    key: 'own',
    screen: false,
    mirrored: local.kind === 'camera',
    video: camera,
    muted: isIn() && isSilent(),
    speaking: roster.members.get(roster.own)?.speaking === true,
    speaker: roster.own !== null && roster.speaker === roster.own,
    quality: isIn() ? (qualities.get('own')?.quality ?? null) : null,
  };
  const shown = { ...me, key: 'own/screen', screen: true, mirrored: false, video: screen, muted: false, speaking: false, speaker: false, quality: null };
  return [mine, ...(screen ? [shown] : [])];
}

function addressOf(name) {
  const address = new URLSearchParams(location.search);
  for (const once of ['name', 'autoplay', 'source']) address.delete(once);
  address.set('room', name);
  return `${location.pathname}?${address}`;
}

// A phone that goes to sleep drops out. The browser releases the lock whenever the page is hidden.
function stayAwake() {
  if (!isIn()) {
    wakeLock?.release?.().catch(() => {});
    wakeLock = null;
  } else if (!document.hidden && !(wakeLock && !wakeLock.released)) {
    wakeLock = { released: false };
    navigator.wakeLock?.request('screen').then((lock) => (wakeLock = lock), () => {});
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`onecast ${name}`, value);
  } catch {
    // Without storage the page asks every time.
  }
}

function kept(name) {
  try {
    return localStorage.getItem(`onecast ${name}`) ?? '';
  } catch {
    return '';
  }
}

// Members' test pictures differ in their background.
function groundOf(name) {
  const number = [...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 65_521, 7);
  return GROUNDS[number % GROUNDS.length];
}

const GROUNDS = ['#5a1414', '#145a14', '#14145a', '#5a5a14', '#5a145a', '#145a5a'];
const ASKING = { camera: 'Waiting for permission to use the camera', microphone: 'Waiting for permission to use the microphone', screen: 'Choose what to share' };
