// Watching: one video and one audio line, received only (WHEP).

import { transportPolicy } from './iceservers.js';
import { Link } from './link.js';

// A link that watches a stream. `ontracks` gets a new MediaStream for each connection that is made.
export function viewer(stream, ontracks) {
  return new Link(`/whep/${encodeURIComponent(stream)}`, () => build(ontracks), wantStereo);
}

// Chromium plays Opus in one channel unless the offer says that two are wanted.
function wantStereo(sdp) {
  const opus = sdp.match(/^a=rtpmap:(\d+) opus\//im)?.[1];
  return sdp.replace(new RegExp(`^(a=fmtp:${opus} (?!.*\\bstereo=).*?)(\\r?)$`, 'm'), '$1;stereo=1$2');
}

function build(ontracks) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy: transportPolicy() });
  const tracks = new MediaStream();
  pc.ontrack = ({ track }) => {
    tracks.addTrack(track);
    if (tracks.getTracks().length === 1) ontracks(tracks);
  };
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  return pc;
}
