// The grid of tiles. A tile is kept while its view exists, so that its video does not flicker when others come and go.

import { places } from './grid.js';
import { initials } from './roster.js';

export class Tiles {
  #list;
  #tiles = new Map();
  // The number of screens, which are the first tiles.
  #screens = 0;
  // Whether the browser blocks sound. Meanwhile all tiles are muted, so that at least the video plays.
  #silent = false;
  onsilenced = () => {};

  constructor(list) {
    this.#list = list;
    new ResizeObserver(() => this.#place()).observe(list);
  }

  // Shows these views in this order: { key, member, name, words, own, screen, mirrored, video, audio, muted, speaking, speaker, quality }, where
  // video and audio are tracks or null. All tiles release their old tracks before any tile gets a new one, because a track may move between tiles.
  show(views) {
    const wanted = new Map(views.map((view) => [view.key, view]));
    for (const [key, tile] of this.#tiles) {
      if (!wanted.has(key)) this.#remove(key, tile);
      else tile.letGo(wanted.get(key));
    }
    views.forEach((view, index) => {
      const tile = this.#tiles.get(view.key) ?? this.#add(view.key);
      tile.show(view, this.#silent);
      if (this.#list.children[index] !== tile.element) this.#list.insertBefore(tile.element, this.#list.children[index] ?? null);
    });
    this.#screens = views.filter(({ screen }) => screen).length;
    this.#place();
  }

  // Hides video that has stopped.
  tick() {
    for (const tile of this.#tiles.values()) tile.tick();
  }

  // Turns sound on; the browser allows it after a tap.
  sound() {
    this.#silent = false;
    for (const tile of this.#tiles.values()) tile.play(false);
  }

  #place() {
    const { children, clientWidth, clientHeight } = this.#list;
    places(children.length, this.#screens, clientWidth, clientHeight).forEach(({ x, y, width, height }, index) => {
      Object.assign(children[index].style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
    });
  }

  #add(key) {
    const tile = new Tile(key, () => {
      this.#silent = true;
      for (const other of this.#tiles.values()) other.play(true);
      this.onsilenced();
    });
    this.#tiles.set(key, tile);
    return tile;
  }

  #remove(key, tile) {
    tile.end();
    tile.element.remove();
    this.#tiles.delete(key);
  }
}

class Tile {
  #tracks = [];
  #frameAt = null;
  #view = null;
  #request = null;
  #refused;

  constructor(key, refused) {
    this.#refused = refused;
    this.element = document.createElement('li');
    this.element.className = 'tile';
    this.element.dataset.key = key;
    this.video = document.createElement('video');
    Object.assign(this.video, { autoplay: true, playsInline: true, muted: true });
    this.initials = part('span', 'initials');
    this.initials.setAttribute('aria-hidden', 'true');
    this.who = part('span', 'who');
    this.mark = part('span', 'mark');
    this.quality = part('span', 'quality');
    const plate = part('div', 'plate');
    plate.append(this.who, this.mark, this.quality);
    this.element.append(this.video, this.initials, plate);
    if (!this.video.requestVideoFrameCallback) this.video.addEventListener('timeupdate', () => this.video.videoWidth && this.#frameCame());
  }

  // Releases tracks that no longer belong to this tile.
  letGo({ video, audio }) {
    if (this.#tracks.every((track) => track === video || track === audio)) return;
    this.#tracks = [];
    this.video.srcObject = null;
    this.#frameAt = null;
  }

  show(view, silent) {
    this.#view = view;
    const tracks = [view.video, view.audio].filter(Boolean);
    if (tracks.length !== this.#tracks.length || tracks.some((track) => !this.#tracks.includes(track))) {
      if (!tracks.includes(this.#tracks.find(({ kind }) => kind === 'video'))) this.#frameAt = null;
      this.#tracks = tracks;
      this.video.srcObject = tracks.length ? new MediaStream(tracks) : null;
      this.#followFrames();
      this.play(silent);
    }
    this.video.classList.toggle('mirrored', view.mirrored);
    write(this.initials, initials(view.name));
    write(this.who, view.own ? `${view.name} (you)` : view.name);
    write(this.mark, view.muted ? 'Muted' : '');
    write(this.quality, view.quality ? QUALITIES[view.quality] : '');
    const { dataset } = this.element;
    const marks = { member: view.member, own: view.own, screen: view.screen, muted: view.muted, speaking: view.speaking, speaker: view.speaker };
    for (const [name, value] of Object.entries({ ...marks, quality: view.quality ?? '' })) dataset[name] = String(value);
    label(this.element, this.#words());
    label(this.video, view.screen ? `Screen of ${view.name}` : `Video of ${view.name}`);
    this.#showPicture();
  }

  // The own tile is always muted.
  async play(silent) {
    const { video } = this;
    video.muted = silent || this.#view?.own === true;
    if (!video.srcObject) return;
    try {
      await video.play();
    } catch (error) {
      if (error.name === 'NotAllowedError' && !video.muted) this.#refused();
    }
  }

  tick() {
    this.#showPicture();
  }

  end() {
    this.#view = null;
    this.video.srcObject = null;
  }

  // Shows the video when its first frame has arrived and hides it when frames stop. A screen may stand still.
  #showPicture() {
    if (!this.#view) return;
    const { video, screen } = this.#view;
    const comes = this.#frameAt !== null && (screen || document.hidden || performance.now() - this.#frameAt < STILL_MS);
    this.element.dataset.video = video && comes ? 'on' : 'off';
  }

  // Starts again for each source: a callback that waits for a frame of a removed source may wait for ever.
  #followFrames() {
    const { video } = this;
    if (!video.requestVideoFrameCallback) return;
    const next = () => {
      this.#frameCame();
      this.#request = video.requestVideoFrameCallback(next);
    };
    if (this.#request !== null) video.cancelVideoFrameCallback(this.#request);
    this.#request = video.requestVideoFrameCallback(next);
  }

  #frameCame() {
    if (!this.video.srcObject) return;
    const isFirst = this.#frameAt === null;
    this.#frameAt = performance.now();
    if (isFirst || this.element.dataset.video === 'off') this.#showPicture();
  }

  #words() {
    const { name, own, screen, muted, speaking, quality } = this.#view;
    const who = screen ? `Screen of ${name}` : name;
    return [who, own && 'you', muted && 'muted', speaking && 'speaking', quality && `connection ${quality}`].filter(Boolean).join(', ');
  }
}

function part(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
  element.hidden = words === '';
}

function label(element, words) {
  if (element.getAttribute('aria-label') !== words) element.setAttribute('aria-label', words);
}

const QUALITIES = { good: 'Good', poor: 'Poor', none: 'No signal' };
const STILL_MS = 4000;
