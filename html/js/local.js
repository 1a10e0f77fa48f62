// The media that this page sends: a camera or the test picture with a microphone, and a screen. Opens them, switches them on and off, and passes
// them to the lines of the room.


export class Local {
  #settings;
  #send;
  // The source of each track, which has to be stopped with it.
  #from = { microphone: null, camera: null, screen: null };
  // The source of the video: 'camera', 'canvas' or null.
  kind = null;
  muted = false;
  // Tracks by the name of their line.
  tracks = { microphone: null, camera: null, screen: null, 'screen-sound': null };
  // Called with 'camera', 'microphone' or 'screen' when it ends by itself: unplugged or stopped in the browser.
  onended = () => {};

  // `settings()` returns the settings for new sources; `send(line, track)` sends.
  constructor(settings, send) {
    this.#settings = settings;
    this.#send = send;
  }

  // Opens a source: 'camera', 'canvas', 'sound' (a microphone only) or 'nothing'. Resolves with a Problem if part of it is unavailable; throws one
  // if all of it is.
  async open(kind) {
    if (kind === 'nothing') {
      this.close();
      return null;
    }
    const source = kind === 'sound' ? await openMicrophone(this.#settings().microphoneId) : await this.#openCamera(kind);
    const { problem } = source;
    await this.#use('camera', source);
    await this.#use('microphone', source);
    this.kind = this.tracks.camera ? kind : null;
    return problem;
  }

  // Releases the camera, so that its light goes out.
  async cameraOff() {
    await this.#use('camera', null);
  }

  async cameraOn(kind) {
    const source = await openSource(kind, { ...this.#settings(), withMicrophone: false });
    // The test picture brings its own sound.
    await this.#use('camera', source);
    this.kind = kind;
    if (kind === 'canvas' && !this.tracks.microphone) await this.#use('microphone', source);
  }

  async microphoneOn() {
    await this.#use('microphone', await openMicrophone(this.#settings().microphoneId));
  }

  mute(muted) {
    this.muted = muted;
    if (this.tracks.microphone) this.tracks.microphone.enabled = !muted;
  }

  // `kind` is 'screen', or 'canvas' if no screen is available.
  async share(kind) {
    const source = await openSource(kind, { ...this.#settings(), stream: 'shared', ground: SHARED });
    await this.#use('screen', source);
    await this.#give('screen-sound', trackOf(source, 'audio'));
  }

  async unshare() {
    await this.#use('screen', null);
    await this.#give('screen-sound', null);
  }

  // The server refused the line: closes what was opened for it.
  async refused(line) {
    if (line === 'screen') await this.unshare();
    if (line === 'camera' || line === 'microphone') await this.#use(line, null);
  }

  close() {
    for (const name of ['camera', 'microphone', 'screen']) this.#use(name, null);
    this.#give('screen-sound', null);
  }

  // Without a camera, the user can still join with a microphone.
  async #openCamera(kind) {
    const settings = { ...this.#settings(), withMicrophone: true };
    try {
      return await openSource(kind, settings);
    } catch (problem) {
      if (problem.kind !== 'no-device' && problem.kind !== 'device-busy') throw problem;
      const source = await openMicrophone(settings.microphoneId).catch(() => {
        throw problem;
      });
      return { ...source, problem };
    }
  }

  // Replaces a track by one of the given source, or removes it if null. A source is stopped with its last track.
  async #use(name, source) {
    const before = this.#from[name];
    const track = source && trackOf(source, name === 'microphone' ? 'audio' : 'video');
    this.#from[name] = track ? source : null;
    if (name === 'camera' && !track) this.kind = null;
    this.tracks[name]?.stop();
    if (before && !Object.values(this.#from).includes(before)) before.stop();
    if (track && name === 'microphone') track.enabled = !this.muted;
    track?.addEventListener('ended', () => this.tracks[name] === track && this.onended(name));
    await this.#give(name, track);
  }

  async #give(name, track) {
    if (this.tracks[name] === track) return;
    this.tracks[name] = track;
    await this.#send(name, track);
  }
}

function trackOf(source, kind) {
  return source.stream.getTracks().find((track) => track.kind === kind && track.readyState === 'live') ?? null;
}

const SHARED = '#5a5a5a';
