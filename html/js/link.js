// One connection to the server that is kept alive: by WHIP or WHEP it is made again whenever it breaks, until stop().
// By copy and paste it is made once, because a person has to carry the texts.

import { lacksRelay, turnProblem } from './iceservers.js';
import { open, streams } from './session.js';
import { decodeAnswer, encode, gathered } from './paste.js';
import { Problem } from './problem.js';

// States: idle, connecting, offered (waits for a pasted answer), connected, unsteady (no packets, may recover),
// lost (will be tried again at `retryAt`), failed (nothing more happens by itself).
export class Link {
  // The server that this page is of, and in front of it another that it has sent us to.
  #endpoints;
  #build;
  #amend;
  #run = null;
  #session = null;
  #wake = () => {};
  #suspect = () => {};
  #renewed = () => {};
  #renewing = null;
  #restarting = false;
  #restartedAt = 0;

  state = 'idle';
  problem = null;
  // Date.now() of the next try while `lost`.
  retryAt = null;
  pc = null;
  // Called after every change of the state.
  onchange = () => {};

  // `build` makes a new RTCPeerConnection with everything that is to be offered; `amend` may change the offer's SDP.
  constructor(endpoint, build, amend = (sdp) => sdp) {
    this.#endpoints = [endpoint];
    this.#build = build;
    this.#amend = amend;
    globalThis.addEventListener?.('online', () => this.#moved());
    const network = globalThis.navigator?.connection;
    let kind = network?.type;
    // It changes for estimates of the speed, too.
    network?.addEventListener?.('change', () => {
      if (network.type !== kind) this.#moved();
      kind = network.type;
    });
  }

  // Where event streams of the session are opened; null when nowhere.
  get events() {
    return this.#session?.events ?? null;
  }

  // Any URL of the server that we are with.
  get server() {
    return this.#session?.url ?? new URL(this.#endpoints[0], location.href);
  }

  // Connects, and connects again, until stop().
  start() {
    this.stop();
    this.#keep((this.#run = {}));
  }

  // Makes an offer for copy and paste and returns its text.
  async offer() {
    this.stop();
    const run = (this.#run = {});
    const [pc, offer] = await this.#offering();
    await pc.setLocalDescription(offer);
    await gathered(pc);
    if (this.#run === run) this.#become('offered');
    return encode(pc.localDescription);
  }

  // Takes the answer that a person pasted. Throws a Problem when the text is none; the offer then stays good.
  async answer(text) {
    const answer = decodeAnswer(text);
    const run = this.#run;
    const pc = this.pc;
    try {
      await pc.setRemoteDescription(answer);
    } catch (error) {
      throw new Problem('The browser cannot use this answer', {
        detail: String(error?.message ?? error),
        hint: 'It belongs to another offer, or a part is missing. Create a new offer.',
        kind: 'paste',
      });
    }
    this.#become('connecting');
    let problem;
    try {
      await connected(pc);
      problem = await this.#untilLost(run, pc);
    } catch (error) {
      problem = Problem.from(error);
    }
    if (this.#run !== run) return;
    this.#drop();
    problem.detail = `${problem.detail} ${problem.hint}`.trim();
    problem.hint = 'What was made by copy and paste cannot be made again by itself: create a new offer.';
    this.#become('failed', problem);
  }

  // Leaves, and tells the server. Works while the page is being closed, too.
  stop() {
    this.#run = null;
    this.#wake();
    this.#drop();
    if (this.state !== 'idle') this.#become('idle');
  }

  // Ends the waiting between two tries.
  retryNow() {
    this.#wake();
  }

  // Asks the server whether it still knows us; the caller has a reason for doubt.
  check() {
    this.#suspect();
  }

  // Looks for another way to the server while media goes on (ICE restart). Resolves with a Problem when the server does not take part,
  // else null; whether a way was found, the state tells.
  async restart() {
    const [session, pc] = [this.#session, this.pc];
    if (!session || this.#restarting || Date.now() - this.#restartedAt < RESTART_EVERY_MS) return null;
    this.#restarting = true;
    this.#restartedAt = Date.now();
    try {
      await session.restart(pc, this.#amend);
      return null;
    } catch (error) {
      const problem = Problem.from(error);
      return problem.status === 429 ? null : problem;
    } finally {
      this.#restarting = false;
    }
  }

  // The server is about to stop: connects anew after `afterMs`, to it or to `endpoint` of another. Media goes on the old way until the new
  // one is there; when that one ends before, it is lost like any other.
  async renew(endpoint, afterMs) {
    const [run, old] = [this.#run, this.pc];
    const renewing = (this.#renewing = {});
    const isWanted = () => this.#run === run && this.pc === old && this.#renewing === renewing;
    const home = this.#endpoints.at(-1);
    if (endpoint) this.#endpoints = [endpoint, home];
    for (let failures = 0, waitMs = afterMs; ; failures += 1) {
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (!isWanted()) return;
      const problem = await this.#replace(isWanted);
      if (!problem?.passing) return;
      waitMs = problem.retryAfterMs === null ? backOffMs(failures + 2) : refusedMs(problem.retryAfterMs);
    }
  }

  // Makes another connection and gives the present one up for it. Returns a Problem when nothing comes of it.
  async #replace(isWanted) {
    const pc = this.#build();
    const { ontrack } = pc;
    const tracks = [];
    pc.ontrack = (event) => tracks.push(event);
    let session = null;
    try {
      const { type, sdp } = await pc.createOffer();
      session = await open(this.#endpoints[0], pc, { type, sdp: this.#amend(sdp) });
      await connected(pc);
    } catch (error) {
      pc.close();
      session?.end();
      return Problem.from(error);
    }
    if (!isWanted()) {
      pc.close();
      session.end();
      return null;
    }
    pc.ontrack = ontrack;
    const renewed = this.#renewed;
    this.#drop();
    this.#session = session;
    this.pc = pc;
    for (const event of tracks) pc.ontrack?.(event);
    renewed();
    return null;
  }

  // The network is another one, or is back.
  async #moved() {
    this.retryNow();
    if (this.state !== 'connected' && this.state !== 'unsteady') return;
    const problem = await this.restart();
    if (problem) this.check();
  }

  async #keep(run) {
    let failures = 0;
    let refusals = 0;
    let lostAt = null;
    while (this.#run === run) {
      let problem;
      try {
        await this.#connect(run, lostAt === null && failures === 0, this.#endpoint(failures));
        failures = 0;
        refusals = 0;
        do problem = await this.#untilLost(run, this.pc);
        while (problem === RENEWED);
        lostAt = Date.now();
      } catch (error) {
        problem = Problem.from(error);
      }
      if (this.#run !== run) return;
      await this.#drop();
      if (this.#run !== run) return;
      if (problem.status === 503 || problem.status === 429) refusals += 1;
      if (!mayPass(problem, lostAt) || refusals > REFUSALS_MAX) return this.#become('failed', problem);
      const waitMs = problem.retryAfterMs === null ? backOffMs(failures) : refusedMs(problem.retryAfterMs);
      failures += 1;
      this.retryAt = Date.now() + waitMs;
      this.#become('lost', problem);
      await this.#pause(waitMs);
    }
  }

  // When the server that we were sent to is not there, the first is tried in turns with it.
  #endpoint(failures) {
    return this.#endpoints[Math.max(failures - 1, 0) % this.#endpoints.length];
  }

  async #connect(run, first, endpoint) {
    if (first) this.#become('connecting');
    const [pc, offer] = await this.#offering();
    const session = await open(endpoint, pc, offer);
    if (this.#run !== run) {
      session.end();
      return;
    }
    this.#session = session;
    await connected(pc);
  }

  // A new peer connection, and the offer that it has made.
  async #offering() {
    const pc = (this.pc = this.#build());
    const { type, sdp } = await pc.createOffer();
    return [pc, { type, sdp: this.#amend(sdp) }];
  }

  // Resolves with the reason when the connection is over.
  #untilLost(run, pc) {
    if (this.#run !== run) return null;
    this.#become('connected');
    return new Promise((resolve) => {
      let asking = false;
      let silentSince = 0;
      const isSilent = () => pc.connectionState === 'disconnected';
      const ask = async () => {
        if (asking || this.#run !== run) return;
        asking = true;
        let problem = await this.#probe();
        const mayReturn = Date.now() - silentSince < RESTART_AFTER_MS;
        if (!problem && isSilent() && !mayReturn) problem = await this.restart();
        asking = false;
        if (this.pc !== pc) return;
        if (problem) resolve(problem);
        else if (isSilent()) setTimeout(ask, PROBE_EVERY_MS);
      };
      this.#suspect = ask;
      this.#renewed = () => resolve(RENEWED);
      pc.onconnectionstatechange = () => {
        if (this.#run !== run) return resolve(null);
        if (pc.connectionState === 'failed') resolve(broken());
        if (isSilent()) {
          silentSince = Date.now();
          this.#become('unsteady');
          ask();
        }
        if (pc.connectionState === 'connected') this.#become('connected');
      };
      const transport = pc.getTransceivers()[0]?.sender.transport ?? pc.getTransceivers()[0]?.receiver.transport;
      transport?.addEventListener('statechange', () => {
        if (this.pc !== pc) return;
        // The server may say why it closed.
        if (transport.state === 'closed' || transport.state === 'failed') resolve(this.#whyEnded());
      });
    });
  }

  // The server has closed the connection: it may say why.
  async #whyEnded() {
    const session = this.#session;
    return (await session?.look()) === 'ended' ? session.why : ended();
  }

  // A Problem when the server is gone or has forgotten us, else null.
  async #probe() {
    if (!this.#session) {
      return streams().then(
        () => null,
        (problem) => (problem.kind === 'no-server' ? problem : null),
      );
    }
    const session = this.#session;
    const seen = await session.look();
    if (seen === 'ended') return session.why;
    if (seen === 'unknown') return Problem.noServer();
    return seen === 'there' ? null : ended();
  }

  // Closes what there is; resolves when the server knows, or cannot be told.
  #drop() {
    const session = this.#session;
    this.#session = null;
    this.#suspect = () => {};
    this.#renewed = () => {};
    if (this.pc) {
      this.pc.onconnectionstatechange = null;
      this.pc.close();
    }
    return session?.end();
  }

  #pause(waitMs) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #become(state, problem = null) {
    this.state = state;
    this.problem = problem;
    if (state !== 'lost') this.retryAt = null;
    this.onchange(this);
  }
}

// 0.5, 1, 2, 4, 8, 10, 10 .. s, each up to a quarter longer at random so that many do not come at once.
export function backOffMs(failures) {
  return Math.min(500 * 2 ** failures, 10_000) * (1 + Math.random() / 4);
}

// As long as the server said, but not for ever, and up to a second more: it speaks in whole seconds, and to many at once.
export function refusedMs(retryAfterMs) {
  return Math.min(retryAfterMs, WAIT_MAX_MS) + Math.random() * 1000;
}

// Resolves when media can flow.
export function connected(pc) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(unreachable(pc)), CONNECT_LIMIT_MS);
    const look = () => {
      const waits = pc.connectionState === 'new' || pc.connectionState === 'connecting';
      if (waits && !lacksRelay(pc)) return;
      clearTimeout(timer);
      if (pc.connectionState === 'connected') resolve();
      else reject(unreachable(pc));
    };
    pc.onconnectionstatechange = look;
    pc.addEventListener('icegatheringstatechange', look);
    look();
  });
}

// After a loss the server may take us for another one until it misses our old connection (30 s of consent).
function mayPass(problem, lostAt) {
  const ghost = problem.status === 409 && lostAt !== null && Date.now() - lostAt < GHOST_MS;
  return problem.passing || ghost;
}

function unreachable(pc) {
  const turn = turnProblem(pc);
  if (turn) return turn;
  const lines = pc.remoteDescription?.sdp.match(/^a=candidate:.*$/gm) ?? [];
  const tried = [...new Set(lines.map((line) => line.split(' ')).map((part) => `${part[4]} port ${part[5]}`))];
  return new Problem('The server answered, but no media connection came about', {
    detail: tried.length ? `Tried by UDP: ${tried.join(', ')}.` : '',
    hint: 'A firewall may be in the way, or the server announces an address that cannot be reached from here (--public-ip).',
    kind: 'no-media-path',
  });
}

function broken() {
  return new Problem('The connection broke', { kind: 'broken' });
}

function ended() {
  return new Problem('The server ended the connection', { kind: 'ended' });
}

// How a connection ends that another has taken the place of.
const RENEWED = new Problem('There is a newer connection', { kind: 'renewed' });
const CONNECT_LIMIT_MS = 15_000;
const PROBE_EVERY_MS = 1000;
// A short silence passes by itself.
const RESTART_AFTER_MS = 900;
// The server takes one a second, and a new path needs a moment to be found.
const RESTART_EVERY_MS = 3000;
const GHOST_MS = 40_000;
const WAIT_MAX_MS = 60_000;
// Some minutes; then a person may decide whether to go on.
const REFUSALS_MAX = 20;
