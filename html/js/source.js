// Sources of video and sound. Each is { stream, problem, stop }; `problem` reports a missing microphone.
// A plain script: see paste.js.

'use strict';

// `height` is in lines, at 16:9. `ground` is the background colour of a test picture.
async function openSource(kind, { height, cameraId, microphoneId, withMicrophone, stream, ground }) {
  if (kind === 'canvas') return testPicture(height, stream, ground);
  return kind === 'screen' ? openScreen(height) : openCamera(height, cameraId, withMicrophone, microphoneId);
}

// The microphone alone. Throws a Problem.
async function openMicrophone(microphoneId) {
  if (!navigator.mediaDevices?.getUserMedia) throw insecurePage();
  try {
    return opened(await navigator.mediaDevices.getUserMedia({ audio: chosen(microphoneId) }));
  } catch (error) {
    throw mediaProblem(error, 'microphone');
  }
}

// The cameras, by name once the browser reveals names (after the first permission).
async function cameras() {
  return devices('videoinput', 'Camera');
}

// The microphones, likewise.
async function microphones() {
  return devices('audioinput', 'Microphone');
}

async function devices(kind, what) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return all
    .filter((device) => device.kind === kind && device.deviceId)
    .map(({ deviceId, label }, index) => ({ id: deviceId, label: label || `${what} ${index + 1}` }));
}

// Why this browser cannot open such a source on this page, in words; '' if it can.
function missing(kind) {
  if (kind === 'canvas') return '';
  if (!globalThis.isSecureContext || !navigator.mediaDevices) return 'needs https or localhost';
  if (kind === 'screen' && !navigator.mediaDevices.getDisplayMedia) return 'not in this browser';
  return '';
}

async function openCamera(height, cameraId, withMicrophone, microphoneId) {
  if (!navigator.mediaDevices?.getUserMedia) throw insecurePage();
  const video = {
    width: { ideal: (height * 16) / 9 },
    height: { ideal: height },
    frameRate: { ideal: 30 },
    ...(cameraId ? { deviceId: { exact: cameraId } } : {}),
  };
  let problem = null;
  if (withMicrophone) {
    try {
      // Ask for both permissions at once.
      return opened(await navigator.mediaDevices.getUserMedia({ video, audio: chosen(microphoneId) }));
    } catch (error) {
      // Trying the camera alone shows which of the two failed. Video without sound is better than nothing.
      problem = mediaProblem(error, 'microphone');
    }
  }
  try {
    return { ...opened(await navigator.mediaDevices.getUserMedia({ video })), problem };
  } catch (error) {
    throw mediaProblem(error, 'camera');
  }
}

async function openScreen(height) {
  if (!navigator.mediaDevices?.getDisplayMedia) throw insecurePage();
  try {
    const video = { height: { max: Math.max(height, 720) }, frameRate: { ideal: 30 } };
    return opened(await navigator.mediaDevices.getDisplayMedia({ video, audio: true }));
  } catch (error) {
    throw mediaProblem(error, 'screen');
  }
}

function chosen(deviceId) {
  return deviceId ? { deviceId: { exact: deviceId } } : true;
}

function opened(stream) {
  return {
    stream,
    problem: null,
    stop: () => stream.getTracks().forEach((track) => track.stop()),
  };
}
