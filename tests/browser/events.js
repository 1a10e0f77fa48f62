// A player of its own, with nothing of the pages' code. play() asks for the server's offer and answers it; watch() makes one.
// follow() listens to the events of the session; heard is what was told, in order.
(() => {
  const SDP = { 'Content-Type': 'application/sdp' };
  const JSON_TYPE = { 'Content-Type': 'application/json' };
  window.heard = [];

  function connection() {
    const pc = new RTCPeerConnection();
    const video = document.createElement('video');
    video.muted = video.autoplay = true;
    document.body.append(video);
    pc.ontrack = ({ streams }) => (video.srcObject = streams[0]);
    Object.assign(window, { pc, video });
    return pc;
  }

  window.play = async (name) => {
    const pc = connection();
    const offered = await fetch(`/whep/${name}`, { method: 'POST' });
    await pc.setRemoteDescription({ type: 'offer', sdp: await offered.text() });
    await pc.setLocalDescription();
    window.answer = pc.localDescription.sdp;
    window.session = offered.headers.get('Location');
    const taken = await fetch(window.session, { method: 'PATCH', headers: SDP, body: window.answer });
    return [offered.status, offered.headers.get('Content-Type'), taken.status];
  };

  window.watch = async (name) => {
    const pc = connection();
    pc.addTransceiver('video', { direction: 'recvonly' });
    await pc.setLocalDescription();
    const answered = await fetch(`/whep/${name}`, { method: 'POST', headers: SDP, body: pc.localDescription.sdp });
    await pc.setRemoteDescription({ type: 'answer', sdp: await answered.text() });
    window.session = answered.headers.get('Location');
    return answered.headers.get('Link').match(/<([^>]*)>/)[1];
  };

  window.follow = async (url) => {
    const names = ['active', 'inactive', 'viewercount', 'reconnect', 'layers'];
    const opened = await fetch(url, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(names) });
    const source = new EventSource(opened.headers.get('Location'));
    for (const name of names) source.addEventListener(name, ({ data }) => heard.push(`${name} ${data}`));
    source.onerror = () => heard.push(source.readyState === EventSource.CLOSED ? 'closed' : 'interrupted');
  };
})();
