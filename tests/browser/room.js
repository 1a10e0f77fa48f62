// Stands in for a conference room inside the page, with real media: each WebSocket ends here, at a second peer connection in the same page,
// so that what the page does with offers that cross, sockets that break and pictures that come and go can be seen without a server.
//
// Controls: double.refuse (a frame that every first offer gets), double.add(id, name, colour, label), double.remove(id, label),
// double.tell(frame), double.delayMs (of frames to the page), double.cut() (the socket breaks), double.forget() (and the member is gone),
// double.silence() (the media breaks), double.up. What the page sent is in double.sent.
(() => {
  const double = (window.double = { up: true, refuse: null, delayMs: 0, sent: [], joins: 0, resumes: 0, refused: 0, socket: null, pc: null });
  const others = new Map();
  let lines = [];
  let number = 0;
  let dirty = false;
  let peer = null;

  class Socket {
    static OPEN = 1;
    readyState = 0;

    constructor() {
      setTimeout(() => {
        if (!double.up) return this.end();
        this.readyState = 1;
        double.socket = this;
        this.onopen?.();
      }, 5);
    }

    send(text) {
      const frame = JSON.parse(text);
      double.sent.push(frame);
      queue = queue.then(() => take(this, frame)).catch((error) => console.error(error));
    }

    close() {
      this.readyState = 3;
    }

    end() {
      this.readyState = 3;
      this.onclose?.();
    }
  }
  let queue = Promise.resolve();
  window.WebSocket = Socket;

  // In order, whatever the delay.
  let toldMs = 0;
  function tell(frame, socket = double.socket) {
    toldMs = Math.max(toldMs, performance.now() + double.delayMs);
    const data = JSON.stringify(frame);
    setTimeout(() => socket?.readyState === 1 && socket.onmessage?.({ data }), toldMs - performance.now());
  }

  async function take(socket, frame) {
    if (frame.type === 'offer') await (peer ? offered(socket, frame) : joined(socket, frame));
    if (frame.type === 'resume') resumed(socket, frame);
    if (frame.type === 'leave') forget();
    if (frame.type === 'answer' && frame.offer === number && double.pc.signalingState === 'have-local-offer') {
      await double.pc.setRemoteDescription({ type: 'answer', sdp: frame.sdp });
      if (dirty) await offer();
    }
  }

  async function joined(socket, { sdp, name }) {
    if (double.refuse) return tell({ type: 'error', request: 'offer', ...double.refuse }, socket);
    double.pc = new RTCPeerConnection();
    lines = [];
    double.joins += 1;
    peer = `peer-${double.joins}`;
    double.name = name;
    const answer = await answered(sdp);
    tell({ type: 'answer', sdp: answer, peer_id: peer, id: double.joins, room: 'main', ice_servers: [] }, socket);
    tell({ type: 'roster', ...roster() }, socket);
    for (const other of others.values()) for (const one of other.streams) put(other, one);
    if (others.size) await offer();
  }

  async function offered(socket, { sdp }) {
    if (double.pc.signalingState !== 'stable') {
      double.refused += 1;
      return tell({ type: 'error', request: 'offer', status: 409, problem: 'offer-pending', title: 'Our offer waits' }, socket);
    }
    if (double.refuse) return tell({ type: 'error', request: 'offer', ...double.refuse }, socket);
    tell({ type: 'answer', sdp: await answered(sdp), peer_id: peer, id: double.joins, room: 'main' }, socket);
  }

  function resumed(socket, { peer_id: of }) {
    if (of !== peer) return tell({ type: 'error', request: 'resume', status: 404, problem: 'unknown-peer', title: 'There is no such member' }, socket);
    double.resumes += 1;
    tell({ type: 'resumed', id: double.joins, room: 'main' }, socket);
    tell({ type: 'roster', ...roster() }, socket);
    if (double.pc.signalingState === 'have-local-offer') pushed();
  }

  async function answered(sdp) {
    const { pc } = double;
    await pc.setRemoteDescription({ type: 'offer', sdp });
    await pc.setLocalDescription();
    while (pc.iceGatheringState !== 'complete') await new Promise((resolve) => setTimeout(resolve, 20));
    return pc.localDescription.sdp;
  }

  async function offer() {
    const { pc } = double;
    dirty = pc.signalingState !== 'stable';
    if (dirty) return;
    await pc.setLocalDescription();
    number += 1;
    pushed();
  }

  function pushed() {
    const tracks = lines.filter(({ on }) => on).map(({ transceiver, on }) => ({ mid: transceiver.mid, ...on }));
    tell({ type: 'offer', sdp: double.pc.localDescription.sdp, offer: number, tracks });
  }

  // One track on each line; those whose track has gone are used again.
  function put(other, { label, picture, stream }) {
    for (const track of picture.stream.getTracks()) {
      const on = { id: other.id, stream, kind: track.kind, ...(label ? { label } : {}) };
      const free = lines.find((line) => !line.on && line.kind === track.kind);
      if (!free) {
        lines.push({ kind: track.kind, on, transceiver: double.pc.addTransceiver(track, { direction: 'sendonly' }) });
        continue;
      }
      free.on = on;
      free.transceiver.direction = 'sendonly';
      free.transceiver.sender.replaceTrack(track);
    }
  }

  function member({ id, name, streams }) {
    const tracks = streams.flatMap(({ stream, label, picture }) =>
      picture.stream.getTracks().map(({ kind }) => ({ stream, kind, ...(label ? { label } : {}), muted: false })));
    return { id, name, broadcast: false, since: new Date().toISOString(), speaking: false, tracks };
  }

  function roster() {
    const own = { id: double.joins, name: double.name, streams: [] };
    return { room: 'main', speaker: null, members: [member(own), ...[...others.values()].map(member)] };
  }

  function forget() {
    double.pc?.close();
    peer = null;
    number = 0;
  }

  // Two offers of the page's and the room's may cross.
  const soon = (step) => (queue = queue.then(step));

  double.add = async (id, name, colour, label = null) => {
    const isNew = !others.has(id);
    if (isNew) others.set(id, { id, name, streams: [] });
    const other = others.get(id);
    const one = { label, stream: `m${id}.${label ? 1 : 0}`, picture: testPicture(180, name, colour) };
    other.streams.push(one);
    tell({ type: isNew ? 'joined' : 'changed', member: member(other) });
    if (peer) await soon(() => (put(other, one), offer()));
  };

  double.remove = async (id, label = null) => {
    const other = others.get(id);
    const gone = other.streams.filter((one) => label === null || one.label === label);
    other.streams = other.streams.filter((one) => !gone.includes(one));
    for (const { stream, picture } of gone) {
      picture.stop();
      for (const line of lines.filter(({ on }) => on?.stream === stream)) {
        line.on = null;
        line.transceiver.direction = 'inactive';
        line.transceiver.sender.replaceTrack(null);
      }
    }
    if (label === null) others.delete(id);
    tell(label === null ? { type: 'left', id } : { type: 'changed', member: member(other) });
    await soon(offer);
  };

  double.tell = tell;
  double.mute = (id, muted) => {
    const told = member(others.get(id));
    for (const track of told.tracks) track.muted = muted && track.kind === 'audio';
    tell({ type: 'changed', member: told });
  };
  double.cut = () => double.socket.end();
  double.forget = () => {
    forget();
    double.socket.end();
  };
  double.silence = () => double.pc.close();
  // What the server receives: the number of lines on which the page sends.
  double.received = () => double.pc.getTransceivers().filter(({ currentDirection }) => currentDirection === 'recvonly').length;
})();
