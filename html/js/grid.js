// The layout of conference tiles, so that everyone is visible without scrolling. No side effects; lengths are in CSS pixels.

// The largest `count` equal tiles that fit a box: { columns, rows, width, height }, the last two of one tile.
export function grid(count, width, height) {
  let best = { columns: 1, rows: count, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const inWidth = (width - GAP * (columns - 1)) / columns;
    const inHeight = (height - GAP * (rows - 1)) / rows;
    const tile = Math.floor(Math.min(inWidth, inHeight * ASPECT));
    // Among equal sizes, prefer fewer columns: the last row is then fuller.
    if (tile > best.width) best = { columns, rows, width: tile, height: tile / ASPECT };
  }
  return best;
}

// The places of all tiles in a box, as { x, y, width, height }. The first `screens` of them are screens, which get more space. People are placed
// beside or below them, whichever leaves the screens larger.
export function places(count, screens, width, height) {
  if (screens === 0 || screens === count) return centred(count, { x: 0, y: 0, width, height });
  const tries = SHARES.map((share) => shared(screens, count - screens, width, height, share));
  return tries.find((all) => all.at(-1).width >= FACE_MIN) ?? tries.at(-1);
}

function shared(screens, people, width, height, share) {
  const [beside, below] = [grid(screens, width * share, height), grid(screens, width, height * share)];
  if (beside.width > below.width) {
    const used = extent(beside.columns, beside.width);
    const rest = { x: used + GAP, y: 0, width: width - used - GAP, height };
    return [...centred(screens, { x: 0, y: 0, width: used, height }), ...centred(people, rest)];
  }
  const used = extent(below.rows, below.height);
  const rest = { x: 0, y: used + GAP, width, height: height - used - GAP };
  return [...centred(screens, { x: 0, y: 0, width, height: used }), ...centred(people, rest)];
}

function centred(count, box) {
  const { columns, rows, width, height } = grid(count, box.width, box.height);
  const top = box.y + (box.height - extent(rows, height)) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = box.x + (box.width - extent(inRow, width)) / 2;
    return { x: left + (index % columns) * (width + GAP), y: top + row * (height + GAP), width, height };
  });
}

// The length of a row or column of tiles, including the gaps.
function extent(tiles, length) {
  return tiles * length + (tiles - 1) * GAP;
}

const ASPECT = 16 / 9;
const GAP = 8;
// The shares of the box that screens may take, in order of preference: less if faces would become too narrow to recognize.
const SHARES = [3 / 4, 2 / 3, 1 / 2];
const FACE_MIN = 64;
