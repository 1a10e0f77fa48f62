// Publishes a test picture by WHIP with these encodings.
window.publish = async (path, codec, sendEncodings) => {
  const { stream } = testPicture(360, 'live');
  const pc = (window.publishing = new RTCPeerConnection());
  const transceiver = pc.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly', sendEncodings });
  const wanted = [`VIDEO/${codec}`, 'VIDEO/RTX'];
  transceiver.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(({ mimeType }) => wanted.includes(mimeType.toUpperCase())));
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp });
  if (!answer.ok) throw new Error(await answer.text());
  await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
};
