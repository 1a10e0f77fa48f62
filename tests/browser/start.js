// Watches a stream more than once in one page, and reads the number that the test card carries in its picture.
// watch(name) starts a viewer; shown() tells what each of them shows at this moment.
(() => {
  const viewers = [];

  window.watch = async (name) => {
    const video = document.createElement('video');
    video.muted = video.autoplay = true;
    document.body.append(video);
    const pc = new RTCPeerConnection();
    const viewer = { video, pc, first: null };
    viewers.push(viewer);
    video.requestVideoFrameCallback(() => (viewer.first = number(video)));
    pc.ontrack = ({ streams }) => (video.srcObject = streams[0]);
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio', { direction: 'recvonly' });
    await pc.setLocalDescription();
    const body = pc.localDescription.sdp;
    const answer = await fetch(`/whep/${name}`, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body });
    await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  };

  window.shown = () => viewers.map(({ video, first }) => ({ first, now: video.videoWidth ? number(video) : null }));

  window.freezes = async () => {
    const of = async ({ pc }) => [...(await pc.getStats()).values()].find((one) => one.type === 'inbound-rtp' && one.kind === 'video');
    return Promise.all(viewers.map(async (viewer) => (await of(viewer))?.freezeCount ?? 0));
  };

  // 32 squares of 16 pixels, highest bit first, in the twentieth row from the fourth column on.
  function number(video) {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [640, 360];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, 640, 360);
    const row = context.getImageData(0, 328, 640, 1).data;
    let value = 0;
    for (let bit = 0; bit < 32; bit += 1) value = value * 2 + (row[4 * (16 * (4 + bit) + 8)] > 128 ? 1 : 0);
    return value;
  }
})();
