// Where picture and sound come from. Each is { stream, problem, stop }; `problem` tells of a missing microphone.
// A plain script: see paste.js.

'use strict';

// `height` in lines; 16:9. `ground` is the colour behind a test picture.
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

// The cameras, by name as soon as the browser tells (after the first permission).
async function cameras() {
  return devices('videoinput', 'Camera');
}

// The microphones, in the same way.
async function microphones() {
  return devices('audioinput', 'Microphone');
}

async function devices(kind, what) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return all
    .filter((device) => device.kind === kind && device.deviceId)
    .map(({ deviceId, label }, index) => ({ id: deviceId, label: label || `${what} ${index + 1}` }));
}

// Whether this browser, on this page, has such a source; if not, why, in words.
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
      // One question for both.
      return opened(await navigator.mediaDevices.getUserMedia({ video, audio: chosen(microphoneId) }));
    } catch (error) {
      // Which of the two it was, the camera alone will tell. A picture without sound is better than nothing.
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
