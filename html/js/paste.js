// Copy and paste: offers and answers as texts that the user takes to the server and back, and the resulting connection.
//
// A plain script. Browsers load no modules from disk (file:), and the pages must work there too, so everything that copy and paste needs is in
// plain scripts. A page loads them in order; later scripts and modules see their top-level names. Everything that needs the server is a module.

'use strict';

// A connection that is made once, because the user carries the texts. Link (link.js) extends it with WHIP, WHEP and reconnecting.
// States: idle, offered (waits for a pasted answer), connecting, connected, unsteady (no packets, may recover), failed (needs the user).
class PasteLink {
  state = 'idle';
  problem = null;
  pc = null;
  // Called after every state change.
  onchange = () => {};
  // The current attempt. Results of earlier ones are ignored.
  run = null;
  suspect = () => {};
  renewed = () => {};

  // `build` makes a new RTCPeerConnection with everything to offer; `amend` may change the offer's SDP.
  constructor(build, amend = (sdp) => sdp) {
    this.build = build;
    this.amend = amend;
  }

  // Makes an offer for copy and paste and returns its text.
  async offer() {
    this.stop();
    const run = (this.run = {});
    const [pc, offer] = await this.offering();
    await pc.setLocalDescription(offer);
    await gathered(pc);
    if (this.run === run) this.become('offered');
    return encode(pc.localDescription);
  }

  // Takes the pasted answer. Throws a Problem if the text is not an answer; the offer then stays valid.
  async answer(text) {
    const answer = decodeAnswer(text);
    const run = this.run;
    const pc = this.pc;
    try {
      await pc.setRemoteDescription(answer);
    } catch (error) {
      throw new Problem('The browser cannot use this answer', {
        detail: String(error?.message ?? error),
        hint: 'It belongs to another offer or is incomplete. Create a new offer.',
        kind: 'paste',
      });
    }
    this.become('connecting');
    let problem;
    try {
      await whenConnected(pc);
      problem = await this.untilLost(run, pc);
    } catch (error) {
      problem = Problem.from(error);
    }
    if (this.run !== run) return;
    this.drop();
    problem.detail = `${problem.detail} ${problem.hint}`.trim();
    problem.hint = 'A connection made by copy and paste cannot be restored automatically. Create a new offer.';
    this.become('failed', problem);
  }

  stop() {
    this.run = null;
    this.drop();
    if (this.state !== 'idle') this.become('idle');
  }

  // Asks the server whether the session still exists, because the caller has a reason to doubt it.
  check() {
    this.suspect();
  }

  // Restarts ICE if there is a session. Resolves with a Problem or null.
  async restart() {
    return null;
  }

  // Resolves with a Problem if the server or the session is gone, else null. A page from disk cannot ask.
  async probe() {
    return null;
  }

  // Why the server closed the connection.
  async whyEnded() {
    return ended();
  }

  // A new peer connection and its offer.
  async offering() {
    const pc = (this.pc = this.build());
    const { type, sdp } = await pc.createOffer();
    return [pc, { type, sdp: this.amend(sdp) }];
  }

  // Resolves with the reason when the connection is over.
  untilLost(run, pc) {
    if (this.run !== run) return null;
    this.become('connected');
    return new Promise((resolve) => {
      let asking = false;
      let silentSince = 0;
      const isSilent = () => pc.connectionState === 'disconnected';
      const ask = async () => {
        if (asking || this.run !== run) return;
        asking = true;
        let problem = await this.probe();
        const mayReturn = Date.now() - silentSince < RESTART_AFTER_MS;
        if (!problem && isSilent() && !mayReturn) problem = await this.restart();
        asking = false;
        if (this.pc !== pc) return;
        if (problem) resolve(problem);
        else if (isSilent()) setTimeout(ask, PROBE_EVERY_MS);
      };
      this.suspect = ask;
      this.renewed = () => resolve(RENEWED);
      pc.onconnectionstatechange = () => {
        if (this.run !== run) return resolve(null);
        if (pc.connectionState === 'failed') resolve(broken());
        if (isSilent()) {
          silentSince = Date.now();
          this.become('unsteady');
          ask();
        }
        if (pc.connectionState === 'connected') this.become('connected');
      };
      const transport = pc.getTransceivers()[0]?.sender.transport ?? pc.getTransceivers()[0]?.receiver.transport;
      transport?.addEventListener('statechange', () => {
        if (this.pc !== pc) return;
        // The server may know why it closed the connection.
        if (transport.state === 'closed' || transport.state === 'failed') resolve(this.whyEnded());
      });
    });
  }

  // Closes the connection.
  drop() {
    this.suspect = () => {};
    this.renewed = () => {};
    if (!this.pc) return;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  become(state, problem = null) {
    this.state = state;
    this.problem = problem;
    this.onchange(this);
  }
}

// Resolves when media can flow. `relay` reports about TURN servers: whether one is required but missing, and why none helped.
function whenConnected(pc, relay = { isLacking: () => false, problem: () => null }) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(relay.problem(pc) ?? unreachable(pc));
    const timer = setTimeout(fail, CONNECT_LIMIT_MS);
    const look = () => {
      const waits = pc.connectionState === 'new' || pc.connectionState === 'connecting';
      if (waits && !relay.isLacking(pc)) return;
      clearTimeout(timer);
      if (pc.connectionState === 'connected') resolve();
      else fail();
    };
    pc.onconnectionstatechange = look;
    pc.addEventListener('icegatheringstatechange', look);
    look();
  });
}

function unreachable(pc) {
  const lines = pc.remoteDescription?.sdp.match(/^a=candidate:.*$/gm) ?? [];
  const tried = [...new Set(lines.map((line) => line.split(' ')).map((part) => `${part[4]} port ${part[5]}`))];
  return new Problem('The server answered, but no media connection was established', {
    detail: tried.length ? `Tried over UDP: ${tried.join(', ')}.` : '',
    hint: 'A firewall may block it, or the server announces an address that cannot be reached from here (--public-ip).',
    kind: 'no-media-path',
  });
}

function broken() {
  return new Problem('The connection was lost', { kind: 'broken' });
}

function ended() {
  return new Problem('The server ended the connection', { kind: 'ended' });
}

// The peer connection of a broadcaster: { video, audio, codec, maxBitsPerSecond }; tracks and codec may be null.
function sendingPeer({ video, audio, codec, maxBitsPerSecond, layers }) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy: transportPolicy() });
  // Both lines always exist, so that the user can change the source without a new offer.
  const send = (count) => {
    return pc.addTransceiver(video ?? 'video', { direction: 'sendonly', sendEncodings: encodings(count, codec, maxBitsPerSecond) });
  };
  let sender;
  try {
    sender = send(layers);
  } catch {
    // A browser that cannot send these.
    sender = send(1);
  }
  pc.addTransceiver(audio ?? 'audio', { direction: 'sendonly' });
  if (codec && canChooseCodec()) sender.setCodecPreferences(preferences(codec));
  return pc;
}

// Only the chosen codec, with retransmission, so that the server either accepts it or says that it cannot.
function preferences(codec) {
  const wanted = [`VIDEO/${codec}`, 'VIDEO/RTX'];
  return RTCRtpSender.getCapabilities('video').codecs.filter((known) => wanted.includes(known.mimeType.toUpperCase()));
}

// The names of the video codecs that this browser can send, without auxiliary ones such as RTX.
function sendableCodecs() {
  const codecs = globalThis.RTCRtpSender?.getCapabilities?.('video')?.codecs ?? [];
  const names = new Set(codecs.map((codec) => codec.mimeType.split('/')[1].toUpperCase()));
  return KNOWN_CODECS.filter((name) => names.has(name));
}

// Whether this browser lets the page choose a codec.
function canChooseCodec() {
  return 'setCodecPreferences' in (globalThis.RTCRtpTransceiver?.prototype ?? {});
}

// The peer connection of a viewer. `ontracks` receives a new MediaStream with the incoming tracks.
function receivingPeer(ontracks) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy: transportPolicy() });
  const tracks = new MediaStream();
  pc.ontrack = ({ track }) => {
    tracks.addTrack(track);
    if (tracks.getTracks().length === 1) ontracks(tracks);
  };
  wantDescriptors(pc.addTransceiver('video', { direction: 'recvonly' }));
  pc.addTransceiver('audio', { direction: 'recvonly' });
  return pc;
}

// Offers dependency descriptors where the browser has them switched off: it cannot decode AV1 with spatial layers without them.
function wantDescriptors(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  if (!extensions) return;
  for (const extension of extensions) if (extension.uri.includes('dependency-descriptor')) extension.direction = 'sendrecv';
  try {
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  } catch {
    // It then gets the lowest layer.
  }
}

// Chromium plays Opus in mono unless the offer requests stereo.
function wantStereo(sdp) {
  const opus = sdp.match(/^a=rtpmap:(\d+) opus\//im)?.[1];
  return sdp.replace(new RegExp(`^(a=fmtp:${opus} (?!.*\\bstereo=).*?)(\\r?)$`, 'm'), '$1;stereo=1$2');
}

// ?relay=1 allows only paths through a TURN server, to test that server.
function transportPolicy() {
  return parameter('relay') === '1' ? 'relay' : 'all';
}

// The text to copy, broken into lines because a terminal in line mode accepts at most 4095 characters per line.
function encode({ type, sdp }) {
  const bytes = new TextEncoder().encode(JSON.stringify({ type, sdp }));
  const base64 = btoa(String.fromCharCode(...bytes));
  return base64.match(/.{1,76}/g).join('\n');
}

// The answer in a pasted text: base64 of JSON, bare JSON or bare SDP. Throws a Problem that says what the text is instead.
function decodeAnswer(pasted) {
  const given = pasted.trim();
  if (!given) throw new Problem('The answer is empty', { hint: 'Paste what the curl command printed.', kind: 'paste' });
  if (given.startsWith('v=0')) return { type: 'answer', sdp: `${given}\r\n` };
  const refused = given.match(/^(?<title>[^\n]+?) \((?<status>4\d\d|5\d\d)\): (?<detail>[^\n]*)\n?(?<hint>[\s\S]*)$/);
  if (refused) throw new Problem(refused.groups.title, { ...refused.groups, status: Number(refused.groups.status), kind: 'refused' });
  return checked(parse(given.startsWith('{') ? given : unbase64(given)));
}

// A shell command that posts the offer, with a token if there is one, and prints the answer or the error.
function curlLine(offer, url, token = '') {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const header = token ? ` -H ${quoted(`Authorization: Bearer ${token}`)}` : '';
  return `echo '${offer}' | curl -sS${header} --data-binary @- ${quoted(url)}`;
}

// Waits until the browser has gathered its own addresses, for at most a second: the server does not need them.
async function gathered(pc, limitMs = 1000) {
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
      hint: 'Paste exactly what the curl command printed. If it printed nothing, it did not reach the server.',
      kind: 'paste',
    });
  }
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    throw new Problem('This is not an answer', {
      detail: 'The base64 text does not contain JSON. Part of it may be missing.',
      hint: 'Copy the whole answer.',
      kind: 'paste',
    });
  }
}

function checked(value) {
  if (value?.type === 'offer') {
    throw new Problem('This is the offer, not the answer', {
      hint: 'Send the offer to the server with the curl command, and paste what it prints.',
      kind: 'paste',
    });
  }
  if (value?.type !== 'answer' || typeof value.sdp !== 'string') {
    throw new Problem('This is not an answer', { detail: 'It must be {"type": "answer", "sdp": ..}.', kind: 'paste' });
  }
  return { type: 'answer', sdp: value.sdp };
}

// Connects the section of the page to a link. `prepare` runs before an offer is made and returns false if that is impossible now. `server` has the
// URL and the token for the command; the event 'serverchange' announces that they changed.
function pasteBox(link, stream, prepare, server) {
  const message = $('paste-message');
  const command = () => curlLine(offer, server.url(`sdp/${encodeURIComponent(stream)}`), server.token());
  let offer = '';
  $('paste-make').addEventListener('click', async () => {
    if (!(await prepare())) return;
    try {
      offer = await link.offer();
      show();
      say(message, 'plain');
    } catch (error) {
      sayProblem(message, Problem.from(error));
    }
  });
  $('paste-start').addEventListener('click', async () => {
    say(message, 'plain');
    try {
      if (link.state !== 'offered') throw new Problem('There is no pending offer', { hint: 'Create a new offer first.' });
      await link.answer($('paste-answer').value);
    } catch (error) {
      sayProblem(message, Problem.from(error));
    }
  });
  copies($('paste-copy-offer'), () => $('paste-offer').value);
  copies($('paste-copy-command'), () => $('paste-command').value);
  for (const id of ['paste-offer', 'paste-command']) $(id).addEventListener('focus', () => $(id).select());
  addEventListener('serverchange', () => offer && ($('paste-command').value = command()));

  function show() {
    $('paste-offer').value = offer;
    $('paste-command').value = command();
    $('paste-answer').value = '';
    $('paste-make').textContent = 'Create a new offer';
    $('paste-steps').hidden = false;
  }
}

const KNOWN_CODECS = ['VP8', 'VP9', 'H264', 'AV1', 'H265'];
const CONNECT_LIMIT_MS = 15_000;
const PROBE_EVERY_MS = 1000;
// Shorter silences usually end without a restart.
const RESTART_AFTER_MS = 900;
// The end of a connection that a newer one replaced.
const RENEWED = new Problem('There is a newer connection', { kind: 'renewed' });
