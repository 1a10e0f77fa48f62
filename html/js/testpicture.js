// Video and sound for machines without a camera: a running clock, a moving dial, and a beep each second at the moment when the bar at the bottom
// is full. It shows delay and synchronization.
// A plain script: see paste.js.

'use strict';

// 16:9 with `height` lines, 30 frames a second, on any dark background colour.
function testPicture(height, name, ground = '#10161d') {
  const canvas = document.createElement('canvas');
  canvas.height = height;
  canvas.width = Math.round((height * 16) / 9 / 2) * 2;
  const context = canvas.getContext('2d', { alpha: false });
  const sound = beeper();
  const startedMs = Date.now();
  let second = Math.floor(startedMs / 1000);
  const draw = () => {
    const nowMs = Date.now();
    paint(context, nowMs, nowMs - startedMs, name, ground);
    if (Math.floor(nowMs / 1000) === second) return;
    second = Math.floor(nowMs / 1000);
    sound.beep();
  };
  draw();
  const endTicks = ticks(1000 / FRAMES_PER_SECOND, draw);
  const stream = canvas.captureStream(FRAMES_PER_SECOND);
  sound.tracks.forEach((track) => stream.addTrack(track));
  const stop = () => {
    endTicks();
    sound.close();
    stream.getTracks().forEach((track) => track.stop());
  };
  return { stream, problem: null, stop };
}

// Calls `tick` evenly even while the page is in the background. Browsers slow down the timers of such pages but not of workers. The worker's script is
// a blob, because browsers accept no file from disk for it. Returns a function that ends it.
function ticks(everyMs, tick) {
  const url = URL.createObjectURL(new Blob([`setInterval(() => postMessage(0), ${everyMs})`], { type: 'text/javascript' }));
  const worker = new Worker(url);
  worker.onmessage = tick;
  return () => {
    worker.terminate();
    URL.revokeObjectURL(url);
  };
}

function paint(context, nowMs, runningMs, name, ground) {
  const { width, height } = context.canvas;
  const unit = height / 100;
  const phase = (nowMs % 1000) / 1000;
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height);
  grid(context, width, height, unit);
  orbit(context, width * 0.8, height * 0.44, unit, nowMs);
  clock(context, unit, nowMs, runningMs, name);
  bars(context, width, height, unit, phase);
}

function grid(context, width, height, unit) {
  context.strokeStyle = '#1c2631';
  context.lineWidth = Math.max(1, unit / 5);
  context.beginPath();
  for (let x = 10 * unit; x < width; x += 10 * unit) {
    context.moveTo(x, 0);
    context.lineTo(x, height);
  }
  for (let y = 10 * unit; y < height; y += 10 * unit) {
    context.moveTo(0, y);
    context.lineTo(width, y);
  }
  context.stroke();
}

// A dial with a disc that turns once in four seconds and an arc that follows it.
function orbit(context, x, y, unit, nowMs) {
  const angle = ((nowMs % 4000) / 4000) * 2 * Math.PI - Math.PI / 2;
  const radius = 19 * unit;
  context.lineWidth = unit * 0.7;
  context.strokeStyle = '#2c3a49';
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
  context.strokeStyle = '#4cb8a4';
  context.beginPath();
  context.arc(x, y, radius, -Math.PI / 2, angle);
  context.stroke();
  context.fillStyle = '#eef3f7';
  context.beginPath();
  context.arc(x + radius * Math.cos(angle), y + radius * Math.sin(angle), 2.6 * unit, 0, 2 * Math.PI);
  context.fill();
}

function clock(context, unit, nowMs, runningMs, name) {
  const at = new Date(nowMs);
  const two = (number) => String(number).padStart(2, '0');
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const thousandths = String(at.getMilliseconds()).padStart(3, '0');
  const mono = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
  context.textBaseline = 'alphabetic';
  context.fillStyle = '#8fa3b5';
  context.font = `${5 * unit}px system-ui, sans-serif`;
  context.fillText(name, 12 * unit, 27 * unit);
  context.fillStyle = '#eef3f7';
  context.font = `600 ${17 * unit}px ${mono}`;
  context.fillText(time, 11 * unit, 47 * unit);
  context.fillStyle = '#4cb8a4';
  context.font = `600 ${9 * unit}px ${mono}`;
  context.fillText(`.${thousandths}`, 11 * unit, 60 * unit);
  context.fillStyle = '#8fa3b5';
  context.font = `${5 * unit}px ${mono}`;
  context.fillText(`frame ${Math.floor((runningMs * FRAMES_PER_SECOND) / 1000)}`, 37 * unit, 60 * unit);
}

function bars(context, width, height, unit, phase) {
  const top = height - 22 * unit;
  COLOURS.forEach((colour, index) => {
    context.fillStyle = colour;
    context.fillRect((width * index) / COLOURS.length, top, width / COLOURS.length + 1, 16 * unit);
  });
  context.fillStyle = '#1c2631';
  context.fillRect(0, top + 16 * unit, width, 6 * unit);
  context.fillStyle = '#eef3f7';
  context.fillRect(0, top + 16 * unit, width * phase, 6 * unit);
}

// A tone of 60 ms. It is silent on the page itself and goes only into the stream.
function beeper() {
  const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
  if (!Context) return { tracks: [], beep() {}, close() {} };
  const audio = new Context();
  const out = audio.createMediaStreamDestination();
  const volume = audio.createGain();
  const tone = audio.createOscillator();
  tone.frequency.value = 880;
  volume.gain.value = 0;
  tone.connect(volume).connect(out);
  tone.start();
  const wake = () => audio.resume();
  // Without a click or key press the browser keeps audio contexts suspended.
  document.addEventListener('pointerdown', wake);
  document.addEventListener('keydown', wake);
  wake();
  return {
    tracks: out.stream.getAudioTracks(),
    beep() {
      const now = audio.currentTime;
      volume.gain.setValueAtTime(0, now);
      volume.gain.linearRampToValueAtTime(0.25, now + 0.005);
      volume.gain.setValueAtTime(0.25, now + 0.055);
      volume.gain.linearRampToValueAtTime(0, now + 0.06);
    },
    close() {
      document.removeEventListener('pointerdown', wake);
      document.removeEventListener('keydown', wake);
      audio.close();
    },
  };
}

const FRAMES_PER_SECOND = 30;
const COLOURS = ['#b9c0c7', '#b8ad3c', '#3fa8a6', '#3f9c53', '#9c4f9a', '#a8433f', '#3b4ea3'];
