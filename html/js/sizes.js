// The quality menu of the viewer page: the sizes in which the broadcaster sends its picture (layers), by their heights.
// A plain script: see paste.js.

'use strict';

// The menu. `choose` asks the server for a layer by its rid, or with null for the automatic choice; it throws a Problem.
class QualityMenu {
  #field;
  #select;
  #choose;
  #layers = [];
  // The layer that the server was asked for, by rid; null for the automatic choice.
  #chosen = null;
  // What the user wants: a height in lines, or null for automatic. It outlives the connection.
  #wanted;
  // The height of the picture that is shown.
  #shown = 0;

  onproblem = () => {};

  constructor(field, wanted, choose) {
    this.#field = field;
    this.#select = field.querySelector('select');
    this.#wanted = wanted;
    this.#choose = choose;
    this.#select.addEventListener('change', () => this.#changed());
  }

  // A new connection: the server knows nothing of an earlier choice.
  reset() {
    this.#layers = [];
    this.#chosen = null;
    this.#draw();
  }

  // The server's list. A choice that is not in force is asked for.
  async update(layers) {
    this.#layers = layers;
    const layer = layerOfHeight(layers, this.#wanted);
    this.#draw();
    if (layer && layer.rid !== this.#chosen) await this.#ask(layer.rid);
  }

  // The picture has another size.
  show(height) {
    if (height === this.#shown) return;
    this.#shown = height;
    this.#draw();
  }

  // The names of all layers, the largest first.
  get names() {
    return layerNames(this.#layers);
  }

  async #changed() {
    const layer = this.#layers.find(({ rid }) => rid === this.#select.value) ?? null;
    if (await this.#ask(layer?.rid ?? null)) this.#wanted = layer?.height ?? null;
  }

  async #ask(rid) {
    const before = this.#chosen;
    this.#chosen = rid;
    try {
      await this.#choose(rid);
      this.onproblem(null);
      return true;
    } catch (error) {
      this.#chosen = before;
      this.onproblem(Problem.from(error));
      return false;
    } finally {
      this.#draw();
    }
  }

  #draw() {
    const names = layerNames(this.#layers);
    this.#field.hidden = names.length < 2;
    const automatic = this.#chosen === null && this.#shown ? `Auto (${this.#shown}p)` : 'Auto';
    const options = [['', automatic], ...this.#layers.map(({ rid }, place) => [rid, names[place]])];
    const select = this.#select;
    if (select.options.length !== options.length) select.replaceChildren(...options.map(() => new Option()));
    options.forEach(([value, name], place) => {
      const option = select.options[place];
      if (option.value !== value) option.value = value;
      if (option.textContent !== name) option.textContent = name;
    });
    select.value = this.#chosen ?? '';
  }
}

// 720p, or 720p60 where the frame rate is high; layers of the same height have their bit rates, too.
function layerNames(layers) {
  const plain = layers.map(({ height, frameRate }) => {
    if (!height) return null;
    return `${height}p${frameRate > FRAME_RATE_USUAL ? Math.round(frameRate / 10) * 10 : ''}`;
  });
  return layers.map((layer, place) => {
    const name = plain[place];
    if (name === null) return layer.bitrate ? bitrate(layer.bitrate) : 'not sent';
    const isAmbiguous = plain.filter((other) => other === name).length > 1;
    return isAmbiguous && layer.bitrate ? `${name} (${bitrate(layer.bitrate)})` : name;
  });
}

// The largest layer of at most this height, else the smallest one; null for no height.
function layerOfHeight(layers, height) {
  if (height === null || !layers.length) return null;
  const known = layers.filter((layer) => layer.height);
  return known.find((layer) => layer.height <= height) ?? known.at(-1) ?? null;
}

// The height in ?quality=720p; null for automatic.
function heightOf(text) {
  const height = Number.parseInt(text, 10);
  return height > 0 ? height : null;
}

// Why the viewer is sent this size, from the server's word for it.
function whyThisSize(reason) {
  return {
    start: 'to begin with',
    path: 'your connection carries no more',
    recovered: 'your connection carries it',
    gone: 'the broadcaster has stopped sending the one before',
    limit: 'chosen',
  }[reason];
}

// Encoders seldom keep to 30 exactly.
const FRAME_RATE_USUAL = 45;
