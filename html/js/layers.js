// Layers: the sizes in which a broadcaster sends its picture at the same time (simulcast), so that the server can send each viewer the one
// that its connection carries.
// A plain script: see paste.js.

'use strict';

// The encodings for RTCPeerConnection.addTransceiver(): `count` sizes, each with half as many lines as the one before. The largest is the first,
// because a server without simulcast gets only the first, and because Chromium leaves out the last ones of a small picture. `codec` is '' where the
// browser chooses.
function encodings(count, codec, maxBitsPerSecond) {
  if (count === 1) return [{ maxBitrate: maxBitsPerSecond }];
  const scalabilityMode = SCALABILITY_MODES[codec || firstCodec()];
  return RIDS.slice(0, count).map((rid, place) => ({
    rid,
    scaleResolutionDownBy: 2 ** place,
    maxBitrate: maxOfLayer(place, maxBitsPerSecond),
    ...(scalabilityMode ? { scalabilityMode } : {}),
  }));
}

// How many sizes of such a picture are useful. The text of a screen is hard to read in any other size than its own.
function usefulLayers({ width, height, kind }) {
  return kind === 'screen' || Math.min(width, height) < 480 ? 1 : RIDS.length;
}

// Whether Chromium leaves out the layer at this place because the picture is too small.
function isLeftOut(place, { width, height }) {
  return width !== null && width * height < LEAST_PIXELS[place];
}

// Applies another limit or another number of sizes to what is sent, as far as it was negotiated.
async function limitLayers(sender, count, maxBitsPerSecond) {
  const parameters = sender?.getParameters();
  if (!parameters?.encodings?.length) return;
  parameters.encodings.forEach((encoding, place) => {
    encoding.active = place < count;
    encoding.maxBitrate = maxOfLayer(place, maxBitsPerSecond);
  });
  await sender.setParameters(parameters).catch(() => {});
}

// Most bits per second of the layer at this place, of which the first has `maxBitsPerSecond`.
function maxOfLayer(place, maxBitsPerSecond) {
  return Math.round(maxBitsPerSecond * SHARES[place]);
}

// The codec that this browser chooses.
function firstCodec() {
  return RTCRtpSender.getCapabilities?.('video')?.codecs[0]?.mimeType.split('/')[1].toUpperCase();
}

// Names, the largest first. They say nothing: the server ranks layers by the size of their pictures.
const RIDS = ['f', 'h', 'q'];
// Of the bit rate. Small pictures need more bits for each pixel.
const SHARES = [1, 1 / 4, 1 / 12];
// Pixels of the source from which on Chromium sends the layer at each place.
const LEAST_PIXELS = [0, 480 * 270, 960 * 540];
// Chromium sends VP9 and AV1 in several sizes only if the mode of each is given. The others choose one themselves.
const SCALABILITY_MODES = { VP9: 'L1T3', AV1: 'L1T3' };
