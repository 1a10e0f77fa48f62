// Stands in for the server inside the page, with real media: requests are answered by a second peer connection in the
// same page, so that what the page does when media comes, stops and returns can be seen without a server.
// Controls: double.facts (more facts about the stream), double.silent (live, but nothing is sent), double.leave(), double.back(), double.die(), double.revive(), double.paste(offer).
(() => {
  const server = (window.double = { up: true, live: true, since: new Date().toISOString(), peers: new Map() });
  const picture = (async () => {
    // The broadcaster's page has it already.
    if (!globalThis.testPicture) {
      const script = Object.assign(document.createElement('script'), { src: 'js/testpicture.js' });
      await new Promise((resolve) => {
        script.onload = resolve;
        document.head.append(script);
      });
    }
    return testPicture(360, 'from the double').stream;
  })();

  async function answer(offer, sends) {
    const pc = new RTCPeerConnection();
    await pc.setRemoteDescription(offer);
    if (sends) {
      const tracks = (await picture).getTracks();
      for (const transceiver of pc.getTransceivers()) {
        transceiver.direction = 'sendonly';
        transceiver.kept = tracks.find((track) => track.kind === transceiver.receiver.track.kind);
        await transceiver.sender.replaceTrack(server.live && !server.silent ? transceiver.kept : null);
      }
    }
    await pc.setLocalDescription(await pc.createAnswer());
    while (pc.iceGatheringState !== 'complete') await new Promise((resolve) => setTimeout(resolve, 20));
    const id = `${server.peers.size + 1}`;
    server.peers.set(id, pc);
    return { id, sdp: pc.localDescription.sdp };
  }

  async function each(track) {
    for (const pc of server.peers.values()) {
      for (const transceiver of pc.getTransceivers()) await transceiver.sender.replaceTrack(track(transceiver));
    }
  }

  server.leave = async () => {
    server.live = false;
    await each(() => null);
  };
  server.back = async () => {
    server.live = true;
    await each((transceiver) => transceiver.kept);
  };
  server.die = () => {
    server.up = false;
    server.peers.forEach((pc) => pc.close());
    server.peers.clear();
  };
  server.revive = () => (server.up = true);
  server.paste = async (offer) => {
    const { sdp } = await answer(JSON.parse(atob(offer)), true);
    return btoa(JSON.stringify({ type: 'answer', sdp }));
  };

  const real = window.fetch;
  window.fetch = async (input, options = {}) => {
    const path = new URL(input, location.href).pathname;
    const [, kind, stream, id] = path.split('/');
    if (!['whip', 'whep', 'api'].includes(kind)) return real(input, options);
    if (!server.up) throw new TypeError('Failed to fetch');
    if (kind === 'api') {
      const row = { name: 'live', live: server.live, since: server.since, viewers: 3, video: 'VP8', audio: 'Opus', ...server.facts };
      return Response.json({ streams: server.live ? [row] : [] });
    }
    if (options.method === 'POST') {
      const made = await answer({ type: 'offer', sdp: options.body }, kind === 'whep');
      return new Response(made.sdp, { status: 201, headers: { Location: `/${kind}/${stream}/${made.id}` } });
    }
    const pc = server.peers.get(id);
    if (options.method === 'DELETE' && pc) {
      pc.close();
      server.peers.delete(id);
    }
    return new Response(null, { status: pc ? (options.method === 'DELETE' ? 200 : 204) : 404 });
  };
})();
