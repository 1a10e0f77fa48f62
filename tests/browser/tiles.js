// What can be seen in the conference page, tile by tile: window.seen() returns { key: { name, own, screen, words, frames, colour, .. } }.
(() => {
  const counts = new Map();

  function follow(video) {
    const count = { frames: 0 };
    counts.set(video, count);
    const next = () => {
      count.frames += 1;
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
    video.addEventListener('loadedmetadata', () => video.requestVideoFrameCallback(next));
    return count;
  }

  // The ground of a test picture, near its upper left corner: the colour that is strongest, by three bits.
  function colour(video) {
    if (!video.videoWidth) return null;
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0);
    const at = Math.round(canvas.height * 0.05);
    const [red, green, blue] = context.getImageData(at, at, 1, 1).data;
    return [red, green, blue].map((one) => (one > 55 ? '1' : '0')).join('');
  }

  window.seen = () =>
    Object.fromEntries(
      [...document.querySelectorAll('.tile')].map((tile) => {
        const video = tile.querySelector('video');
        const { frames } = counts.get(video) ?? follow(video);
        const { key, own, screen, muted, speaking, speaker, quality } = tile.dataset;
        const on = tile.dataset.video === 'on';
        const name = tile.querySelector('.who').textContent;
        return [key, { name, own: own === 'true', screen: screen === 'true', muted, speaking, speaker, quality, on, frames, colour: on ? colour(video) : null }];
      }),
    );

  // The tiles of others, as 'name colour' (a screen: 'name screen colour'), in alphabetical order; without a picture: 'name -'.
  window.others = () =>
    Object.values(seen())
      .filter(({ own }) => !own)
      .map(({ name, screen, colour }) => `${name} ${screen ? 'screen ' : ''}${colour ?? '-'}`)
      .sort();

  // Whether frames go on in every tile that has a picture, and sound comes, from one call to the next.
  let before = null;
  window.goesOn = async () => {
    const report = [...(await onecast.pc.getStats()).values()].filter(({ type }) => type === 'inbound-rtp');
    const now = { tiles: seen(), sound: report.filter(({ kind }) => kind === 'audio').reduce((sum, one) => sum + (one.totalAudioEnergy ?? 0), 0) };
    const last = before;
    before = before ?? now;
    if (!last) return false;
    const grow = Object.entries(now.tiles).every(([key, tile]) => !tile.on || tile.frames > (last.tiles[key]?.frames ?? 0) + 5);
    const done = grow && now.sound > last.sound;
    if (done) before = null;
    return done;
  };

  // What is not as it should be: tiles that are out of sight or covered, and a page that has to be scrolled.
  window.misplaced = () => {
    const tiles = [...document.querySelectorAll('.tile')].map((tile) => tile.getBoundingClientRect());
    const toolbar = document.querySelector('#controls').getBoundingClientRect();
    const isSeen = (box) => box.left >= 0 && box.top >= 0 && box.right <= innerWidth + 0.5 && box.bottom <= innerHeight + 0.5;
    const meet = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
    const faults = tiles.flatMap((tile, index) => [
      !isSeen(tile) && `tile ${index} is out of sight`,
      tile.width < 60 && `tile ${index} is ${tile.width} wide`,
      meet(tile, toolbar) && `tile ${index} is under the toolbar`,
      tiles.some((other, at) => at > index && meet(tile, other)) && `tile ${index} is covered`,
    ]);
    const { scrollWidth, scrollHeight } = document.documentElement;
    const scrolls = (scrollWidth > innerWidth || scrollHeight > innerHeight) && `the page is ${scrollWidth} by ${scrollHeight}`;
    return [...faults, !isSeen(toolbar) && 'the toolbar is out of sight', scrolls].filter(Boolean);
  };

  window.mLines = () => onecast.pc.localDescription.sdp.match(/^m=/gm).length;
})();
