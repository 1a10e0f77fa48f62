// The m-lines on which a member sends: microphone and camera form one stream, a screen and its sound another. A line is created when there is
// something to send for the first time; after that it is kept and reused.

export class Lines {
  #pc = null;
  #lines = new Map();

  constructor() {
    const [main, screen] = [new MediaStream(), new MediaStream()];
    this.#lines.set('microphone', { kind: 'audio', stream: main, label: null, track: null, transceiver: null });
    this.#lines.set('camera', { kind: 'video', stream: main, label: null, track: null, transceiver: null, bitsPerSecondMax: 1_500_000 });
    this.#lines.set('screen', { kind: 'video', stream: screen, label: 'screen', track: null, transceiver: null, bitsPerSecondMax: 2_500_000 });
    this.#lines.set('screen-sound', { kind: 'audio', stream: screen, label: 'screen', track: null, transceiver: null });
  }

  // Adds everything that is sent to a new connection; with nothing to send, lines on which the server may send.
  attach(pc) {
    this.#pc = pc;
    for (const line of this.#lines.values()) {
      line.transceiver = null;
      // A track that ended meanwhile would send nothing.
      if (line.track?.readyState === 'ended') line.track = null;
      if (line.track) this.#open(line);
    }
    if (pc.getTransceivers().length) return;
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addTransceiver('video', { direction: 'recvonly' });
  }

  detach() {
    this.#pc = null;
    for (const line of this.#lines.values()) line.transceiver = null;
  }

  // Whether the lines differ from what was negotiated.
  differ() {
    return [...this.#lines.values()].some(({ track, transceiver }) => {
      return transceiver ? transceiver.mid === null || transceiver.direction !== transceiver.currentDirection : Boolean(track);
    });
  }

  track(name) {
    return this.#lines.get(name).track;
  }

  // Sends a track, or nothing if null. Returns true if that needs an offer; replacing a track does not.
  async set(name, track) {
    const line = this.#lines.get(name);
    line.track = track;
    const { transceiver } = line;
    if (!this.#pc || (!transceiver && !track)) return false;
    if (!transceiver) return this.#open(line);
    const direction = track ? 'sendonly' : 'inactive';
    const changes = transceiver.direction !== direction;
    transceiver.direction = direction;
    await transceiver.sender.replaceTrack(track);
    return changes;
  }

  // The server refused the last offer: stops sending on lines that it does not receive, and returns their names.
  revert() {
    const reverted = [];
    for (const [name, line] of this.#lines) {
      const { transceiver } = line;
      if (!transceiver || transceiver.currentDirection === transceiver.direction) continue;
      if (transceiver.mid === null) {
        transceiver.stop();
        line.transceiver = null;
      } else {
        transceiver.direction = 'inactive';
      }
      if (line.track) reverted.push(name);
      line.track = null;
    }
    return reverted;
  }

  // The labels of the lines, by mid. Before the first offer is set, lines have no mids; they are then in the order of the offer's text.
  labels(firstOffer = '') {
    const mids = [...firstOffer.matchAll(/^a=mid:(\S+)/gm)].map(([, mid]) => mid);
    const all = this.#pc.getTransceivers();
    const named = [...this.#lines.values()].filter(({ label, transceiver, track }) => label && transceiver && track);
    const pairs = named.map(({ label, transceiver }) => [transceiver.mid ?? mids[all.indexOf(transceiver)], label]);
    return Object.fromEntries(pairs.filter(([mid]) => mid !== undefined));
  }

  #open(line) {
    const { kind, stream, track, bitsPerSecondMax } = line;
    const encodings = bitsPerSecondMax ? { sendEncodings: [{ maxBitrate: bitsPerSecondMax }] } : {};
    line.transceiver = this.#pc.addTransceiver(track ?? kind, { direction: 'sendonly', streams: [stream], ...encodings });
    return true;
  }
}
