// What the browser does: one viewer that stays, the reference, and joiners one after the other, each compared with it.
'use strict';
(() => {
  const FRAMES = 900, SECOND = 30, CELLS = 16;
  const bench = (window.bench = { reference: null });
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

  // A viewer: WHEP by hand, a video that plays with sound, and a canvas for the time code.
  class Viewer {
    constructor(place) {
      this.t0 = performance.now();
      this.unreadable = 0;
      this.canvas = document.createElement('canvas');
      [this.canvas.width, this.canvas.height] = [CELLS * 10, 10];
      this.context = this.canvas.getContext('2d', { willReadFrequently: true });
      this.video = document.createElement('video');
      this.video.autoplay = this.video.playsInline = true;
      this.video.style.cssText = `position:fixed;z-index:9;width:600px;top:0;left:${place * 620}px`;
      document.body.append(this.video);
      this.first = new Promise((done) => {
        this.video.requestVideoFrameCallback(() => done(performance.now() - this.t0));
      });
      this.first.then((ms) => (this.firstMs = ms));
      this.pc = new RTCPeerConnection();
      this.pc.ontrack = (event) => {
        this.stream = event.streams[0] ?? this.stream ?? new MediaStream();
        if (!this.stream.getTracks().includes(event.track)) this.stream.addTrack(event.track);
        if (this.video.srcObject !== this.stream) this.video.srcObject = this.stream;
      };
    }

    async connect(endpoint) {
      this.pc.addTransceiver('video', { direction: 'recvonly' });
      this.pc.addTransceiver('audio', { direction: 'recvonly' });
      await this.pc.setLocalDescription();
      const posted = performance.now();
      const headers = { 'content-type': 'application/sdp' };
      const answer = await fetch(endpoint, { method: 'POST', headers, body: this.pc.localDescription.sdp });
      if (!answer.ok) throw new Error(`POST ${endpoint}: ${answer.status} ${await answer.text()}`);
      this.session = new URL(answer.headers.get('location'), answer.url).href;
      await this.pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
      this.postMs = performance.now() - posted;
    }

    // The number of the frame that is shown; null without a picture or when the code does not check.
    frame() {
      const { videoWidth: width, videoHeight: height } = this.video;
      if (!width || this.firstMs === undefined) return null;
      this.context.drawImage(this.video, 0, 0, width, height / 9, 0, 0, CELLS * 10, 10);
      const { data } = this.context.getImageData(0, 5, CELLS * 10, 1);
      const cells = Array.from({ length: CELLS }, (_, cell) => (data[4 * (cell * 10 + 5) + 1] > 127 ? 1 : 0));
      const number = cells.slice(2, 12).reduce((sum, bit) => sum * 2 + bit, 0);
      const check = cells[12] * 2 + cells[13];
      const guarded = cells[0] && !cells[1] && !cells[14] && cells[15];
      if (guarded && check === checksum(number) && number < FRAMES) return number;
      this.unreadable += 1;
      return null;
    }

    async inbound() {
      const found = {};
      for (const report of (await this.pc.getStats()).values()) {
        if (report.type === 'inbound-rtp') found[report.kind] = report;
      }
      return found;
    }

    async close() {
      this.sound?.disconnect();
      this.pc.close();
      this.video.srcObject = null;
      this.video.remove();
      if (this.session) await fetch(this.session, { method: 'DELETE' });
    }
  }

  function checksum(number) {
    let ones = 0;
    for (let bits = number; bits; bits >>= 1) ones += bits & 1;
    return ones % 4;
  }

  // By how many frames `second` is behind `first`, over the seam where the files begin again.
  function behind(first, second) {
    if (first === null || second === null) return null;
    return ((first - second + FRAMES * 1.5) % FRAMES) - FRAMES / 2;
  }

  // Tells the time at which a sound begins after at least 200 ms of silence.
  const LISTENER = `registerProcessor('listener', class extends AudioWorkletProcessor {
    process([[samples]]) {
      for (let at = 0; samples && at < samples.length; at++) {
        if (Math.abs(samples[at]) < 0.1) continue;
        const now = currentTime + at / sampleRate;
        if (now - (this.loud ?? -1) > 0.2) this.port.postMessage(now);
        this.loud = now;
      }
      return true;
    }
  });`;

  async function soundContext() {
    if (!bench.audio) {
      bench.audio = new AudioContext();
      const url = URL.createObjectURL(new Blob([LISTENER], { type: 'text/javascript' }));
      await bench.audio.audioWorklet.addModule(url);
    }
    return bench.audio;
  }

  // Collects when beeps are heard and flashes seen, until `end`; the differences in ms, positive for sound too late.
  async function lipSync(viewer, end) {
    const audio = await soundContext();
    const beeps = [], flashes = [];
    const listener = new AudioWorkletNode(audio, 'listener', { numberOfOutputs: 0 });
    viewer.sound = audio.createMediaStreamSource(viewer.stream);
    viewer.sound.connect(listener);
    listener.port.onmessage = ({ data }) => {
      const { contextTime, performanceTime } = audio.getOutputTimestamp();
      beeps.push(performanceTime + (data - contextTime) * 1000);
    };
    // A browser under load skips callbacks, so the frames right after the flash count as the flash too.
    const seen = (_, { expectedDisplayTime }) => {
      const frame = viewer.frame();
      const after = frame === null ? SECOND : frame % SECOND;
      const flash = expectedDisplayTime - (after * 1000) / SECOND;
      if (after < 10 && !(flash - flashes.at(-1) < 500)) flashes.push(flash);
      if (performance.now() < end) viewer.video.requestVideoFrameCallback(seen);
    };
    viewer.video.requestVideoFrameCallback(seen);
    await sleep(end - performance.now());
    viewer.sound.disconnect();
    const nearest = flashes.map((flash) => {
      return beeps.map((beep) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b))[0];
    });
    return nearest.filter((difference) => difference !== undefined && Math.abs(difference) < 500);
  }

  // Starts the viewer that stays.
  bench.stay = async (endpoint) => {
    bench.reference = new Viewer(0);
    await bench.reference.connect(endpoint);
    await bench.reference.first;
    await bench.reference.video.play();
    return (await soundContext()).state;
  };

  // Waits until the reference shows frame `phase` of a group of pictures.
  bench.waitForPhase = async (phase, group) => {
    for (let before = null; ; await sleep(10)) {
      const frame = bench.reference.frame();
      if (frame === null) continue;
      const passed = (frame - phase + group) % group;
      if (before !== null && passed < before) return frame % group;
      before = passed;
    }
  };

  // Lags every 100 ms, more often at first, until 8 s and at least 2 s after the first picture.
  async function watch(joiner, whole) {
    const samples = [];
    for (;;) {
      const at = performance.now() - joiner.t0;
      const lag = behind(bench.reference.frame(), joiner.frame());
      if (lag !== null) samples.push([at, lag]);
      const shown = joiner.firstMs !== undefined;
      if (at > 14000 || (at > whole && shown && at > joiner.firstMs + 2000)) return samples;
      await sleep(at < 2500 ? 33 : 100);
    }
  }

  async function inbounds(joiner) {
    const [joined, stayed] = await Promise.all([joiner.inbound(), bench.reference.inbound()]);
    return { joined, stayed };
  }

  function bufferMs(after, before) {
    const emitted = after?.jitterBufferEmittedCount - (before?.jitterBufferEmittedCount ?? 0);
    const delay = after?.jitterBufferDelay - (before?.jitterBufferDelay ?? 0);
    return emitted > 0 ? (delay / emitted) * 1000 : null;
  }

  function playoutMs({ audio, video }) {
    const [sound, picture] = [audio?.estimatedPlayoutTimestamp, video?.estimatedPlayoutTimestamp];
    return sound && picture ? sound - picture : null;
  }

  // One joiner from click to goodbye.
  bench.join = async (endpoint, whole) => {
    const joiner = new Viewer(1);
    await joiner.connect(endpoint);
    const watching = watch(joiner, whole);
    await Promise.race([joiner.first, watching]);
    await sleep(joiner.t0 + whole - 3000 - performance.now());
    const before = await inbounds(joiner);
    const end = joiner.t0 + whole;
    const lips = await Promise.all([lipSync(joiner, end), lipSync(bench.reference, end)]);
    const samples = await watching;
    const { joined, stayed } = await inbounds(joiner);
    await joiner.close();
    return {
      post_ms: joiner.postMs,
      first_ms: joiner.firstMs ?? null,
      samples,
      unreadable: joiner.unreadable,
      freezes: joined.video?.freezeCount ?? 0,
      frozen_ms: (joined.video?.totalFreezesDuration ?? 0) * 1000,
      dropped: joined.video?.framesDropped ?? 0,
      buffer_ms: [bufferMs(joined.video, before.joined.video), bufferMs(stayed.video, before.stayed.video)],
      playout_ms: [playoutMs(joined), playoutMs(stayed)],
      lips_ms: lips,
    };
  };
})();
