// The choice of camera and microphone, in the lobby and during the call. A new device replaces the previous one without a gap for the others.


export class Devices {
  #local;
  #changed;
  #failed;

  // `changed()` is called after a device was changed, `failed(problem)` if that failed.
  constructor(local, changed, failed) {
    this.#local = local;
    this.#changed = changed;
    this.#failed = failed;
    $('camera').addEventListener('change', () => this.#take(local.tracks.camera, () => local.cameraOn('camera')));
    $('microphone').addEventListener('change', () => this.#take(local.tracks.microphone, () => local.microphoneOn()));
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.list());
  }

  // Fills the two lists with the available devices.
  async list() {
    const { camera, microphone } = this.#local.tracks;
    fill($('camera'), await cameras().catch(() => []), camera, 'No camera found yet');
    fill($('microphone'), await microphones().catch(() => []), microphone, 'No microphone found yet');
  }

  // A device that is off stays off; the choice applies when it is switched on.
  async #take(track, action) {
    if (!track) return;
    try {
      await action();
      await this.list();
    } catch (error) {
      this.#failed(Problem.from(error));
    }
    this.#changed();
  }
}

function fill(select, list, track, nothing) {
  const before = select.value;
  const current = track?.getSettings?.().deviceId ?? before;
  const options = list.map(({ id, label }) => new Option(label, id, false, id === current));
  select.replaceChildren(...(options.length ? options : [new Option(nothing, '')]));
  select.disabled = options.length === 0;
}
