// Takes part in a conference room, and returns to it whenever the connection breaks, until leave().
//
// Two things can break. If only the socket breaks, a new one resumes for the same member, and media continues meanwhile. If media breaks, the page
// joins again, as a new member with the same name and the same camera.

import { useIceServers } from './iceservers.js';
import { Lines } from './lines.js';
import { backOffMs, connected, refusedMs } from './link.js';
import { Negotiation } from './negotiation.js';
import { Roster } from './roster.js';
import { token } from './token.js';
import { Wire } from './wire.js';

// States: idle, connecting, connected, unsteady (the socket or the media is away but may recover), lost (retries at `retryAt`), failed (needs
// the user).
export class Room {
  #run = null;
  #wire = null;
  #peer = null;
  #negotiation = null;
  #wake = () => {};
  #over = () => {};
  // What is broken while in the room: any of 'socket' and 'media'.
  #away = new Set();
  #muted = { audio_muted: false };

  state = 'idle';
  problem = null;
  // Date.now() of the next attempt while `lost`.
  retryAt = null;
  pc = null;
  lines = new Lines();
  // The members, and which of their tracks is on which line.
  roster = new Roster();
  // Called after every change of the state, the roster or the tracks.
  onchange = () => {};
  // Called with the names of lines that the server refused, and a Problem.
  onrefused = () => {};
  // Called when other members come and go: ('joined' or 'left', member).
  onnews = () => {};

  // Joins and rejoins until leave().
  join(room, name) {
    this.leave();
    this.#keep((this.#run = { room, name: name || undefined }));
  }

  // Also works while the page is being closed.
  leave() {
    this.#run = null;
    this.#wake();
    this.#drop();
    this.roster = new Roster();
    if (this.state !== 'idle') this.#become('idle');
  }

  // Sends a track on one of our lines, or nothing if null.
  async send(name, track) {
    const { pc } = this;
    if ((await this.lines.set(name, track)) && pc && this.pc === pc) this.#negotiation?.want();
  }

  // Tells the room whether our microphone is off.
  mute(muted) {
    this.#muted = { audio_muted: muted };
    this.#wire?.send({ type: 'change', ...this.#muted });
  }

  // Ends the wait between two attempts.
  retryNow() {
    this.#wake();
  }

  // The lines that carry media of others, as [transceiver, { mid, id, stream, kind, label }].
  incoming() {
    return (this.pc?.getTransceivers() ?? [])
      .filter(({ mid, currentDirection }) => this.roster.tracks.has(mid) && RECEIVES.includes(currentDirection))
      .map((transceiver) => [transceiver, this.roster.tracks.get(transceiver.mid)])
      .filter(([, line]) => this.roster.isSent(line));
  }

  // The tiles for the others and their streams.
  places() {
    return this.roster.places(this.incoming().map(([, line]) => line));
  }

  async #keep(run) {
    let failures = 0;
    let refusals = 0;
    while (this.#run === run) {
      let problem;
      let joinedAt = null;
      try {
        const end = new Promise((resolve) => (this.#over = resolve));
        await this.#join(run, end, failures);
        joinedAt = Date.now();
        refusals = 0;
        problem = await end;
      } catch (error) {
        problem = Problem.from(error);
      }
      if (this.#run !== run) return;
      this.#drop();
      if (joinedAt && Date.now() - joinedAt > STEADY_MS) failures = 0;
      if (problem.status === 503 || problem.status === 429) refusals += 1;
      if (!mayPass(problem) || refusals > REFUSALS_MAX) return this.#become('failed', problem);
      await this.#pause(problem, failures);
      failures += 1;
    }
  }

  async #join(run, end, failures) {
    if (failures === 0 && this.state !== 'lost') this.#become('connecting');
    const pc = (this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy: transportPolicy() }));
    this.roster.forgetTracks();
    this.lines.attach(pc);
    const offer = await pc.createOffer();
    const wire = await Wire.open('ws');
    if (this.#run !== run) return wire.close();
    this.#wire = wire;
    wire.send({ type: 'offer', sdp: offer.sdp, ...run, labels: this.lines.labels(offer.sdp), ...credential() });
    const answer = await wire.next();
    if (this.#run !== run) return;
    if (answer.type !== 'answer') throw Problem.fromFrame(answer);
    await this.#begin(pc, offer, answer);
    this.#adopt(wire);
    const ended = await Promise.race([connected(pc).then(() => null), end]);
    if (ended) throw ended;
    if (this.#run !== run) return;
    this.#watch(run, pc);
    this.#show();
  }

  async #begin(pc, offer, answer) {
    useIceServers(pc, answer.ice_servers ?? []);
    await pc.setLocalDescription(offer);
    await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    this.#peer = answer.peer_id;
    this.roster.own = answer.id;
    this.#negotiation = new Negotiation(pc, (frame) => this.#wire?.send(frame), {
      labels: () => this.lines.labels(),
      settled: (tracks) => this.#settled(tracks),
      refused: (problem) => this.onrefused(this.lines.revert(), problem),
      broken: (problem) => this.#over(problem),
    });
    // Tracks may have come or gone since the first offer was made.
    if (this.lines.differ()) this.#negotiation.want();
  }

  #settled(tracks) {
    if (tracks) this.roster.setTracks(tracks);
    this.onchange();
  }

  // Follows the room through this socket.
  #adopt(wire, resumes = false) {
    this.#wire = wire;
    this.#away.delete('socket');
    wire.onbreak = () => this.#resume(this.#run, wire);
    wire.each((frame) => this.#wire === wire && frame && this.#take(frame));
    // The microphone may have been switched while there was no socket.
    if (this.#muted.audio_muted || resumes) wire.send({ type: 'change', ...this.#muted });
    if (!wire.isOpen) wire.onbreak();
  }

  #take(frame) {
    const negotiates = frame.type === 'offer' || frame.type === 'answer' || (frame.type === 'error' && ['offer', 'answer'].includes(frame.request));
    if (negotiates) return this.#negotiation.take(frame);
    if (frame.type === 'closed') return this.#over(closed(frame));
    const news = this.roster.take(frame);
    if (news) this.onnews(...news);
    this.onchange();
  }

  // The socket broke. The server keeps our place for ten seconds.
  async #resume(run, broken) {
    if (this.#wire !== broken || this.#run !== run) return;
    this.#away.add('socket');
    this.#show();
    const until = Date.now() + RESUME_MS;
    const { pc } = this;
    for (let failures = 0; Date.now() < until; failures += 1) {
      await sleep(backOffMs(failures) / 2);
      if (this.#run !== run || this.pc !== pc) return;
      const reply = await this.#resumeOnce(run, pc).catch(() => null);
      if (this.#run !== run || this.pc !== pc || reply?.type === 'resumed') return;
      if (reply) return this.#over(passing(reply));
    }
    this.#over(Problem.noServer());
  }

  // The server's reply to one attempt.
  async #resumeOnce(run, pc) {
    const wire = await Wire.open('ws', 3000);
    try {
      wire.send({ type: 'resume', peer_id: this.#peer, ...credential() });
      const reply = await wire.next(3000);
      if (reply.type !== 'resumed' || this.#run !== run || this.pc !== pc) {
        wire.close();
        return reply;
      }
      this.#adopt(wire, true);
      this.#negotiation.resumed();
      this.#show();
      return reply;
    } catch (error) {
      wire.close();
      throw error;
    }
  }

  // Detects the loss of media.
  #watch(run, pc) {
    let timer = null;
    pc.onconnectionstatechange = () => {
      if (this.#run !== run || this.pc !== pc) return;
      clearTimeout(timer);
      if (pc.connectionState === 'failed') this.#over(lostMedia());
      if (pc.connectionState === 'disconnected') {
        this.#away.add('media');
        timer = setTimeout(() => this.pc === pc && this.#over(lostMedia()), SILENT_MS);
      }
      if (pc.connectionState === 'connected') this.#away.delete('media');
      this.#show();
    };
    const transport = pc.getTransceivers().map(({ sender }) => sender.transport).find(Boolean);
    transport?.addEventListener('statechange', async () => {
      if (transport.state !== 'closed' && transport.state !== 'failed') return;
      // The socket reports whether the server ended the session or is gone.
      await sleep(1000);
      if (this.pc === pc) this.#over(lostMedia());
    });
  }

  // Switches between the two states of a member that is in the room.
  #show() {
    if (!this.#run) return;
    this.#become(this.#away.size ? 'unsteady' : 'connected');
  }

  #drop() {
    const wire = this.#wire;
    this.#wire = null;
    this.#away.clear();
    this.#negotiation?.close();
    this.#negotiation = null;
    this.#peer = null;
    this.#over = () => {};
    wire?.send({ type: 'leave' });
    wire?.close();
    if (!this.pc) return;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
    this.pc = null;
    this.lines.detach();
  }

  async #pause(problem, failures) {
    const waitMs = problem.retryAfterMs === null ? backOffMs(failures) : refusedMs(problem.retryAfterMs);
    this.retryAt = Date.now() + waitMs;
    this.#become('lost', problem);
    await new Promise((resolve) => {
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
    this.onchange();
  }
}

// Whether joining again may help. The server would repeat a decision about this member.
function mayPass(problem) {
  return problem.passing && !FINAL.test(problem.kind);
}

function closed(frame) {
  const problem = Problem.fromFrame(frame);
  problem.hint ||= FINAL.test(problem.kind) ? '' : 'This page rejoins automatically.';
  return passing(problem);
}

// For a member that was in the room, and so can join again.
function passing(reply) {
  const problem = reply instanceof Problem ? reply : Problem.fromFrame(reply);
  if (problem.status < 500 && problem.status !== 429) problem.status = 0;
  return problem;
}

function lostMedia() {
  return new Problem('The connection was lost', { hint: 'This page rejoins automatically.', kind: 'broken' });
}

function credential() {
  return token() ? { token: token() } : {};
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const RECEIVES = ['recvonly', 'sendrecv'];
// The server ended the member's session deliberately.
const FINAL = /(^|:)(ended-by-|resumed-elsewhere)/;
const RESUME_MS = 10_000;
// Long enough for a change of the network; after that the page joins again.
const SILENT_MS = 5000;
// A member that stayed this long is not in a loop of joining and being removed.
const STEADY_MS = 10_000;
// Some minutes; then the user can decide whether to continue.
const REFUSALS_MAX = 20;
