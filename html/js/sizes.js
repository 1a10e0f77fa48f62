// The quality menu of the viewer page: the sizes in which the broadcaster sends its picture (layers), by their heights.
// A plain script: see paste.js.

'use strict';

// The menu. `choose` asks the server for a layer by its rid, or with null for the automatic choice; it throws a Problem.
class QualityMenu {
  #field;
  #select;
  #choose;
  #layers = [];
  // The layer that the server was asked for last, and the one that it has confirmed, by rid; null for the automatic choice.
  #chosen = null;
  #confirmed = null;
  // Answers of the server that are about an earlier connection or choice come too late.
  #connection = {};
  #attempt = {};
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

  // There is no connection, or a new one whose server knows nothing of an earlier choice.
  reset() {
    this.#connection = {};
    this.#layers = [];
    this.#chosen = null;
    this.#confirmed = null;
    this.#draw();
  }

  // The server's list. A choice that is not in force is asked for.
  async update(layers) {
    this.#layers = layers;
    const wanted = layerOfHeight(layers, this.#wanted);
    // Which of several layers of the same height is up to the user.
    const isInForce = wanted && layers.some(({ rid, height }) => rid === this.#chosen && height === wanted.height);
    this.#draw();
    if (wanted && !isInForce) await this.#ask(wanted.rid);
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

  // Why the server sends this layer: see whyThisSize().
  why(sent) {
    return whyThisSize(sent, this.#layers);
  }

  async #changed() {
    const layer = this.#layers.find(({ rid }) => rid === this.#select.value) ?? null;
    const before = this.#wanted;
    this.#wanted = layer?.height ?? null;
    if (!(await this.#ask(layer?.rid ?? null))) this.#wanted = before;
  }

  // Resolves with false if the server refuses.
  async #ask(rid) {
    const connection = this.#connection;
    const attempt = (this.#attempt = {});
    this.#chosen = rid;
    const problem = await this.#choose(rid).then(() => null, choiceProblem);
    if (this.#connection !== connection) return true;
    if (!problem) this.#confirmed = rid;
    if (this.#attempt !== attempt) return true;
    if (problem) this.#chosen = this.#confirmed;
    this.onproblem(problem);
    this.#draw();
    return !problem;
  }

  #draw() {
    const names = layerNames(this.#layers);
    this.#field.hidden = names.length < 2;
    // A layer that has vanished binds nothing.
    const chosen = this.#layers.some(({ rid }) => rid === this.#chosen) ? this.#chosen : null;
    const automatic = chosen === null && this.#shown ? `Auto (${this.#shown}p)` : 'Auto';
    const options = [['', automatic], ...this.#layers.map(({ rid }, place) => [rid, names[place]])];
    const select = this.#select;
    if (select.options.length !== options.length) select.replaceChildren(...options.map(([value, name]) => new Option(name, value)));
    options.forEach(([value, name], place) => {
      const option = select.options[place];
      if (option.value !== value) option.value = value;
      if (option.textContent !== name) option.textContent = name;
    });
    select.value = chosen ?? '';
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

// Why the viewer is sent this layer, of these, from the server's description of it.
function whyThisSize({ rid, reason, limit }, layers) {
  if (limit?.rid && limit.rid === rid) return 'chosen';
  const largest = layers.find(({ bitrate }) => bitrate > 0);
  if (largest && largest.rid === rid && reason !== 'gone') return 'the broadcaster sends no larger one';
  return {
    start: 'to begin with',
    path: 'your connection carries no more',
    recovered: 'your connection carries it',
    gone: 'the broadcaster has stopped sending the one before',
    limit: 'the server sends no larger one',
  }[reason];
}

// What the server says about a refused choice is for programs.
function choiceProblem(error) {
  const problem = Problem.from(error);
  if (problem.is('unknown-layer')) {
    return new Problem('This quality is not available any more', { detail: 'The broadcaster has stopped sending it.', hint: 'Choose another one.', status: problem.status, kind: problem.kind });
  }
  if (problem.is('too-many-layer-changes')) {
    return new Problem('The quality was changed too often', { hint: 'Wait a moment, then choose again.', status: problem.status, kind: problem.kind });
  }
  return problem;
}

// Encoders seldom keep to 30 exactly.
const FRAME_RATE_USUAL = 45;
