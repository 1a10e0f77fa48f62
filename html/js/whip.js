// Publishing: one video and one audio line, sent only (WHIP, RFC 9725).

import { transportPolicy } from './iceservers.js';
import { Link } from './link.js';

// A link that publishes what `media()` returns at the time of each connection:
// { video, audio, codec, maxBitsPerSecond }; tracks and codec may be null.
export function publisher(stream, media) {
  return new Link(`/whip/${encodeURIComponent(stream)}`, () => build(media()));
}

// The names of the video codecs that this browser can send, without helpers such as RTX.
export function sendableCodecs() {
  const codecs = globalThis.RTCRtpSender?.getCapabilities?.('video')?.codecs ?? [];
  const names = new Set(codecs.map((codec) => codec.mimeType.split('/')[1].toUpperCase()));
  return KNOWN.filter((name) => names.has(name));
}

// Whether the codec can be chosen at all.
export function canChooseCodec() {
  return 'setCodecPreferences' in (globalThis.RTCRtpTransceiver?.prototype ?? {});
}

function build({ video, audio, codec, maxBitsPerSecond }) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy: transportPolicy() });
  // Both lines are always there, so that another source can be chosen without a new offer.
  const sender = pc.addTransceiver(video ?? 'video', { direction: 'sendonly', sendEncodings: [{ maxBitrate: maxBitsPerSecond }] });
  pc.addTransceiver(audio ?? 'audio', { direction: 'sendonly' });
  if (codec && canChooseCodec()) sender.setCodecPreferences(preferences(codec));
  return pc;
}

// Only the chosen codec, with retransmission: then the server either takes it or says that it cannot.
function preferences(codec) {
  const wanted = [`VIDEO/${codec}`, 'VIDEO/RTX'];
  return RTCRtpSender.getCapabilities('video').codecs.filter((known) => wanted.includes(known.mimeType.toUpperCase()));
}

const KNOWN = ['VP8', 'VP9', 'H264', 'AV1', 'H265'];
