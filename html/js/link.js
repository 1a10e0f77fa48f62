// A connection to the server that is kept alive: by WHIP or WHEP it reconnects whenever it breaks, until stop().
// By copy and paste it is made once, because the user carries the texts.

import { lacksRelay, turnProblem } from './iceservers.js';
import { open, streams } from './session.js';
import { pageRoot, serverOf } from './urls.js';

// States in addition to those of copy and paste: lost (retries at `retryAt`).
export class Link extends PasteLink {
  // The endpoint on this page's server, preceded by one on another server if this one redirected us.
  #endpoints;
  #session = null;
  #wake = () => {};
  #renewing = null;
  #restarting = false;
  #restartedAt = 0;

  // Date.now() of the next attempt while `lost`.
  retryAt = null;

  // `build` and `amend` as in PasteLink. The endpoint is relative to the page.
  constructor(endpoint, build, amend) {
    super(build, amend);
    this.#endpoints = [endpoint];
    globalThis.addEventListener?.('online', () => this.#moved());
    const network = globalThis.navigator?.connection;
    let kind = network?.type;
    // The event also fires for new estimates of the speed.
    network?.addEventListener?.('change', () => {
      if (network.type !== kind) this.#moved();
      kind = network.type;
    });
  }

  // The URL for event streams of the session, or null.
  get events() {
    return this.#session?.events ?? null;
  }

  // The URL where the viewer chooses a layer, or null.
  get layer() {
    return this.#session?.layer ?? null;
  }

  // The root of the current server: see urls.js.
  get server() {
    return this.#session?.server ?? serverOf(new URL(this.#endpoints[0], pageRoot()));
  }

  // Connects and reconnects until stop().
  start() {
    this.stop();
    this.#keep((this.run = {}));
  }

  // Leaves and ends the session on the server. Also works while the page is being closed.
  stop() {
    this.run = null;
    this.#wake();
    super.stop();
  }

  // Ends the wait between two attempts.
  retryNow() {
    this.#wake();
  }

  // Looks for another path to the server while media continues (ICE restart). Resolves with a Problem if the server refuses, else null. The
  // state shows whether a path was found.
  async restart() {
    const [session, pc] = [this.#session, this.pc];
    if (!session || this.#restarting || Date.now() - this.#restartedAt < RESTART_EVERY_MS) return null;
    this.#restarting = true;
    this.#restartedAt = Date.now();
    try {
      await session.restart(pc, this.amend);
      return null;
    } catch (error) {
      const problem = Problem.from(error);
      return problem.status === 429 ? null : problem;
    } finally {
      this.#restarting = false;
    }
  }

  // The server is about to stop: connects again after `afterMs`, to it or to `endpoint` on another server. Media uses the old connection until the
  // new one works. If the old one ends before that, it is lost like any other.
  async renew(endpoint, afterMs) {
    const [run, old] = [this.run, this.pc];
    const renewing = (this.#renewing = {});
    const isWanted = () => this.run === run && this.pc === old && this.#renewing === renewing;
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

  // Makes another connection and closes the current one in favour of it. Returns a Problem if that fails.
  async #replace(isWanted) {
    const pc = this.build();
    const { ontrack } = pc;
    const tracks = [];
    pc.ontrack = (event) => tracks.push(event);
    let session = null;
    try {
      const { type, sdp } = await pc.createOffer();
      session = await open(this.#endpoints[0], pc, { type, sdp: this.amend(sdp) });
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
    const renewed = this.renewed;
    this.drop();
    this.#session = session;
    this.pc = pc;
    for (const event of tracks) pc.ontrack?.(event);
    renewed();
    return null;
  }

  // The network changed or is back.
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
    while (this.run === run) {
      let problem;
      try {
        await this.#connect(run, lostAt === null && failures === 0, this.#endpoint(failures));
        failures = 0;
        refusals = 0;
        do problem = await this.untilLost(run, this.pc);
        while (problem === RENEWED);
        lostAt = Date.now();
      } catch (error) {
        problem = Problem.from(error);
      }
      if (this.run !== run) return;
      await this.drop();
      if (this.run !== run) return;
      if (problem.status === 503 || problem.status === 429) refusals += 1;
      if (!mayPass(problem, lostAt) || refusals > REFUSALS_MAX) return this.become('failed', problem);
      const waitMs = problem.retryAfterMs === null ? backOffMs(failures) : refusedMs(problem.retryAfterMs);
      failures += 1;
      this.retryAt = Date.now() + waitMs;
      this.become('lost', problem);
      await this.#pause(waitMs);
    }
  }

  // If the server that we were redirected to does not answer, alternate between it and the original one.
  #endpoint(failures) {
    return this.#endpoints[Math.max(failures - 1, 0) % this.#endpoints.length];
  }

  async #connect(run, first, endpoint) {
    if (first) this.become('connecting');
    const [pc, offer] = await this.offering();
    const session = await open(endpoint, pc, offer);
    if (this.run !== run) {
      session.end();
      return;
    }
    this.#session = session;
    await connected(pc);
  }

  // The server closed the connection and may say why.
  async whyEnded() {
    const session = this.#session;
    return (await session?.look()) === 'ended' ? session.why : ended();
  }

  // Resolves with a Problem if the server or the session is gone, else null.
  async probe() {
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

  // Closes the connection. Resolves when the server knows or cannot be reached.
  drop() {
    const session = this.#session;
    this.#session = null;
    super.drop();
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

  become(state, problem = null) {
    if (state !== 'lost') this.retryAt = null;
    super.become(state, problem);
  }
}

// 0.5, 1, 2, 4, 8, 10, 10 .. s, each up to a quarter longer at random, so that clients do not return all at once.
export function backOffMs(failures) {
  return Math.min(500 * 2 ** failures, 10_000) * (1 + Math.random() / 4);
}

// As long as the server said, up to a limit, plus up to a second at random: Retry-After has whole seconds and goes to many clients at once.
export function refusedMs(retryAfterMs) {
  return Math.min(retryAfterMs, WAIT_MAX_MS) + Math.random() * 1000;
}

// Resolves when media can flow.
export function connected(pc) {
  return whenConnected(pc, { isLacking: lacksRelay, problem: turnProblem });
}

// After a loss, the server may refuse us as a second publisher until it notices that our old connection is gone (30 s of consent).
function mayPass(problem, lostAt) {
  const ghost = problem.status === 409 && lostAt !== null && Date.now() - lostAt < GHOST_MS;
  return problem.passing || ghost;
}

// The server accepts one restart per second, and finding a new path takes a moment.
const RESTART_EVERY_MS = 3000;
const GHOST_MS = 40_000;
const WAIT_MAX_MS = 60_000;
// Some minutes; then the user can decide whether to continue.
const REFUSALS_MAX = 20;
