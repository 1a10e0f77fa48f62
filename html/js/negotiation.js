// Offers and answers of one member's peer connection, one at a time, in the order in which frames arrive. turns.js decides what to do.

import { Turns } from './turns.js';

export class Negotiation {
  #pc;
  #send;
  #does;
  #turns = new Turns();
  #queue = Promise.resolve();
  #answer = null;
  #timer = null;
  #closed = false;

  // `send` sends a frame. `does` is { labels(), settled(tracks or null), refused(problem), broken(problem) }: the labels of our lines, and callbacks
  // for the end of a negotiation (with the tracks on the lines if the server listed them), for a refused offer, and for a broken negotiation.
  constructor(pc, send, does) {
    this.#pc = pc;
    this.#send = send;
    this.#does = does;
  }

  // Our lines changed. One offer covers all changes until it is made.
  want() {
    this.#turns.wanted = true;
    this.#enqueue(() => this.#offer());
  }

  // Handles a frame of the server about offers and answers.
  take(frame) {
    const take = { offer: (one) => this.#takeOffer(one), answer: (one) => this.#takeAnswer(one), error: (one) => this.#takeError(one) }[frame.type];
    this.#enqueue(() => take(frame));
  }

  // A new socket replaced a broken one.
  resumed() {
    this.#enqueue(() => this.#turns.resumed() && this.#sendOffer());
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #enqueue(step) {
    this.#queue = this.#queue.then(async () => {
      if (this.#closed) return;
      try {
        await step();
        await this.#offer();
      } catch (error) {
        if (!this.#closed) this.#does.broken(unusable(error));
      }
    });
  }

  async #offer() {
    if (this.#closed || this.#timer || !this.#turns.due) return;
    this.#turns.offered();
    await this.#pc.setLocalDescription();
    this.#sendOffer();
  }

  #sendOffer() {
    this.#send({ type: 'offer', sdp: this.#pc.localDescription.sdp, labels: this.#does.labels() });
  }

  async #takeOffer({ sdp, offer: number, tracks = [] }) {
    const turn = this.#turns.theirOffer(number);
    if (turn === 'repeat') this.#send(this.#answer);
    if (turn === 'repeat' || turn === 'ignore') return;
    if (turn === 'yield') await this.#withdraw();
    this.#goOn();
    await this.#pc.setRemoteDescription({ type: 'offer', sdp });
    await this.#pc.setLocalDescription();
    this.#answer = { type: 'answer', sdp: this.#pc.localDescription.sdp, offer: number };
    this.#turns.answered(number);
    this.#send(this.#answer);
    this.#does.settled(tracks);
  }

  async #takeAnswer({ sdp }) {
    const turn = this.#turns.theirReply(true);
    if (turn === 'broken') return this.#does.broken(new Problem('The negotiation with the server is out of sync', { kind: 'out-of-step' }));
    await this.#pc.setRemoteDescription({ type: 'answer', sdp });
    this.#does.settled(null);
  }

  async #takeError(frame) {
    const problem = Problem.fromFrame(frame);
    if (frame.request === 'answer') {
      // The repeated answer had already arrived the first time.
      if (!problem.is('no-offer-pending', 'stale-answer')) this.#does.broken(problem);
      return;
    }
    if (this.#turns.theirReply(false) === 'ignore') return;
    await this.#withdraw();
    if (problem.is('join-anew', 'other-certificate', 'unknown-peer')) return this.#does.broken(problem);
    if (problem.is('offer-pending')) return this.#later(PENDING_MS);
    if (problem.status === 429) return this.#later(problem.retryAfterMs ?? SOON_MS);
    this.#turns.wanted = false;
    this.#does.refused(problem);
  }

  async #withdraw() {
    if (this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
    this.#turns.withdrawn();
  }

  // Offers again after a while, unless the server's offer arrives first.
  #later(waitMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#enqueue(() => {});
    }, waitMs);
  }

  #goOn() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function unusable(error) {
  if (error instanceof Problem) return error;
  return new Problem('The browser and the server could not negotiate', { detail: String(error?.message ?? error), kind: 'unusable' });
}

// The server repeats an offer that was not answered every 5 s.
const PENDING_MS = 6000;
const SOON_MS = 2000;
