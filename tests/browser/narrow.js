// Sends the viewer's media through a relay, and notes the time and the height of each frame.
const [from, to] = arguments;
const { setRemoteDescription } = RTCPeerConnection.prototype;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  return setRemoteDescription.call(this, { type, sdp: sdp.replaceAll(` ${from} typ `, ` ${to} typ `) });
};
window.shownFrames = [];
const video = document.querySelector('#video');
const shown = (now, { height }) => {
  window.shownFrames.push([now, height]);
  video.requestVideoFrameCallback(shown);
};
video.requestVideoFrameCallback(shown);
