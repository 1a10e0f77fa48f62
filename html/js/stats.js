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
    const now = snapshot(all, report);
    const before = this.#before;
    this.#before = now;
    return describe(now, before);
  }
}

// The same shape for both directions: a page either sends or receives.
function snapshot(all, report) {
  const rtp = (kind) => all.find((s) => (s.type === 'outbound-rtp' || s.type === 'inbound-rtp') && s.kind === kind);
  const video = rtp('video');
  const audio = rtp('audio');
  const transport = all.find((s) => s.type === 'transport');
  const pair = report.get(transport?.selectedCandidatePairId) ?? all.find((s) => s.type === 'candidate-pair' && (s.selected || (s.nominated && s.state === 'succeeded')));
  return {
    video,
    audio,
    transport,
    pair,
    videoCodec: report.get(video?.codecId),
    audioCodec: report.get(audio?.codecId),
    remoteVideo: report.get(video?.remoteId),
    remoteAudio: report.get(audio?.remoteId),
  };
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
