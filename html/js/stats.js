// Statistics of a connection, read about once a second. Rates are changes since the last reading.
// A plain script: see paste.js.

'use strict';

// Reads one RTCPeerConnection repeatedly.
class Meter {
  #before = null;

  constructor(pc) {
    this.pc = pc;
  }

  // The current numbers; null where the browser has none. Rates need a second reading.
  async read() {
    const report = await this.pc.getStats();
    const all = [...report.values()];
    const now = snapshot(all, report, sentRids(this.pc));
    const before = this.#before;
    this.#before = now;
    return describe(now, before);
  }
}

// The names of the layers that the server takes: the statistics also list those that it refused. A single one may have no name.
function sentRids(pc) {
  return pc.getSenders().flatMap((sender) => sender.getParameters().encodings ?? []).map(({ rid }) => rid);
}

// The same shape for both directions: a page either sends or receives.
function snapshot(all, report, rids) {
  const rtp = (kind) => all.find((s) => (s.type === 'outbound-rtp' || s.type === 'inbound-rtp') && s.kind === kind);
  const isLayer = (s) => s.type === 'outbound-rtp' && s.kind === 'video' && rids.includes(s.rid);
  const layers = all.filter(isLayer).sort((one, other) => rank(one) - rank(other));
  const video = layers.length ? together(layers) : rtp('video');
  const audio = rtp('audio');
  const transport = all.find((s) => s.type === 'transport');
  const pair = report.get(transport?.selectedCandidatePairId) ?? all.find((s) => s.type === 'candidate-pair' && (s.selected || (s.nominated && s.state === 'succeeded')));
  return {
    video,
    layers,
    audio,
    transport,
    pair,
    videoCodec: report.get(video?.codecId),
    audioCodec: report.get(audio?.codecId),
    remoteVideo: report.get(video?.remoteId),
    remoteAudio: report.get(audio?.remoteId),
  };
}

// The broadcast page lists the largest layer first. Browsers that do not report the place of a layer report its size.
function rank({ encodingIndex, frameWidth }) {
  return encodingIndex ?? -(frameWidth ?? 0);
}

// All layers of a video as one: the largest that is sent, with the bytes and packets of all.
function together(layers) {
  const sum = (name) => layers.reduce((all, layer) => all + (layer[name] ?? 0), 0);
  // A layer that is not sent has no size.
  const largest = layers.find(({ frameWidth }) => frameWidth) ?? layers[0];
  return { ...largest, bytesSent: sum('bytesSent'), packetsSent: sum('packetsSent') };
}

// What is sent of each of several layers, the largest first.
function describeLayers(now, before) {
  if (now.layers.length < 2) return [];
  return now.layers.map((layer) => {
    const earlier = before?.layers.find(({ id }) => id === layer.id);
    const bitsPerSecond = perSecond(layer.bytesSent, earlier?.bytesSent, layer, earlier, 8);
    return {
      width: layer.frameWidth ?? null,
      height: layer.frameHeight ?? null,
      fps: layer.framesPerSecond ?? null,
      bitsPerSecond,
      limitation: layer.qualityLimitationReason ?? null,
      // Whether the page wants it to be sent.
      isWanted: layer.active !== false,
      // Padding alone is no picture.
      isSent: layer.active !== false && (layer.framesEncoded ?? 0) > (earlier?.framesEncoded ?? 0),
    };
  });
}

function describe(now, before) {
  const rate = (pick, scale = 1) => perSecond(pick(now), before && pick(before), now.video ?? now.audio, before && (before.video ?? before.audio), scale);
  const bytes = (s) => s && (s.bytesSent ?? s.bytesReceived);
  const { video, audio, remoteVideo, remoteAudio, pair } = now;
  return {
    video: codecName(now.videoCodec),
    audio: codecName(now.audioCodec),
    width: video?.frameWidth ?? null,
    height: video?.frameHeight ?? null,
    fps: video?.framesPerSecond ?? rate((s) => s.video?.framesEncoded ?? s.video?.framesDecoded),
    videoBitsPerSecond: rate((s) => bytes(s.video), 8),
    audioBitsPerSecond: rate((s) => bytes(s.audio), 8),
    frames: video?.framesEncoded ?? video?.framesDecoded ?? 0,
    packets: packetCount(video) + packetCount(audio),
    videoPackets: packetCount(video),
    roundTripMs: inMilliseconds(remoteVideo?.roundTripTime ?? remoteAudio?.roundTripTime ?? pair?.currentRoundTripTime),
    lossPercent: lossPercent(now, before),
    jitterBufferMs: jitterBufferMs(video, before?.video),
    framesDropped: video?.framesDropped ?? null,
    freezes: video?.freezeCount ?? null,
    limitation: video?.qualityLimitationReason ?? null,
    layers: describeLayers(now, before),
    // Some browsers write SRTP_ before the registered name.
    srtpCipher: now.transport?.srtpCipher?.replace(/^SRTP_/, '') ?? null,
  };
}

function packetCount(rtp) {
  return rtp?.packetsSent ?? rtp?.packetsReceived ?? 0;
}

function codecName(codec) {
  const name = codec?.mimeType?.split('/')[1] ?? null;
  return name === 'opus' ? 'Opus' : name;
}

function inMilliseconds(seconds) {
  return typeof seconds === 'number' ? seconds * 1000 : null;
}

function perSecond(now, before, at, atBefore, scale) {
  const elapsedMs = (at?.timestamp ?? 0) - (atBefore?.timestamp ?? 0);
  if (typeof now !== 'number' || typeof before !== 'number' || elapsedMs <= 0 || now < before) return null;
  return ((now - before) * scale * 1000) / elapsedMs;
}

// For a sender, the server's last report; for a receiver, the loss since the last reading.
function lossPercent(now, before) {
  if (typeof now.remoteVideo?.fractionLost === 'number') return now.remoteVideo.fractionLost * 100;
  if (typeof now.video?.packetsLost !== 'number' || typeof before?.video?.packetsLost !== 'number') return null;
  const lost = Math.max(0, now.video.packetsLost - before.video.packetsLost);
  const received = now.video.packetsReceived - before.video.packetsReceived;
  return lost + received > 0 ? (100 * lost) / (lost + received) : 0;
}

function jitterBufferMs(video, before) {
  const emitted = (video?.jitterBufferEmittedCount ?? 0) - (before?.jitterBufferEmittedCount ?? 0);
  if (!before || emitted <= 0) return null;
  return ((video.jitterBufferDelay - before.jitterBufferDelay) * 1000) / emitted;
}
