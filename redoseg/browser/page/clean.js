// Small parts and small holes of a mask (redoseg/images/clean.py). A mask is taken as runs of pixels in rows; runs that
// touch are joined.
"use strict";

const SMALLEST_PART = 0.1; // of the largest part
const LARGEST_HOLE = 0.01; // of the object
const MOST_RUNS = 2 ** 22; // a mask with more is noise and stays unchanged

// The runs of a value as [row, start, end] one after another; null if they are too many.
function runsOf(mask, [width, height], value) {
  const runs = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0, i = y * width; x < width; x++) {
      if (mask[i + x] !== value) continue;
      const start = x;
      while (x < width && mask[i + x] === value) x++;
      runs.push(y, start, x);
    }
    if (runs.length > 3 * MOST_RUNS) return null;
  }
  return Int32Array.from(runs);
}

// For each run the first run of its connected part; those that touch at corners belong together if `corners`.
function partsOf(runs, corners) {
  const count = runs.length / 3;
  const part = Int32Array.from({ length: count }, (_, i) => i);
  const first = i => {
    while (part[i] !== i) i = part[i] = part[part[i]];
    return i;
  };
  const more = corners ? 1 : 0;
  for (let upper = 0, lower = 0; lower < count; lower++) {
    // runs of the row above that end before this one starts touch no later run either
    while (upper < lower && (runs[3 * upper] < runs[3 * lower] - 1 ||
      (runs[3 * upper] === runs[3 * lower] - 1 && runs[3 * upper + 2] + more <= runs[3 * lower + 1]))) upper++;
    for (let i = upper; i < lower && runs[3 * i] < runs[3 * lower]; i++) {
      if (runs[3 * i + 1] >= runs[3 * lower + 2] + more) break;
      const [one, other] = [first(i), first(lower)];
      part[Math.max(one, other)] = Math.min(one, other);
    }
  }
  return part.map((_, i) => first(i));
}

// Give the parts for which `chosen(pixels, at the border)` another value; whether there were any.
function repaint(mask, size, value, corners, chosen) {
  const runs = runsOf(mask, size, value);
  if (runs === null || !runs.length) return false;
  const part = partsOf(runs, corners);
  const pixels = new Float64Array(part.length);
  const border = new Uint8Array(part.length);
  for (let i = 0; i < part.length; i++) {
    const row = runs[3 * i];
    const start = runs[3 * i + 1];
    const end = runs[3 * i + 2];
    pixels[part[i]] += end - start;
    if (row === 0 || row === size[1] - 1 || start === 0 || end === size[0]) border[part[i]] = 1;
  }
  const largest = pixels.reduce((most, one) => Math.max(most, one), 0);
  let changed = false;
  for (let i = 0; i < part.length; i++) {
    if (!chosen(pixels[part[i]], border[part[i]], largest)) continue;
    const row = runs[3 * i] * size[0];
    mask.fill(1 - value, row + runs[3 * i + 1], row + runs[3 * i + 2]);
    changed = true;
  }
  return changed;
}

// Clean a mask of 0 and 1 in place: first crumbs, then holes; whether that changed it.
function clean(mask, size) {
  const crumbs = repaint(mask, size, 1, true, (pixels, _, largest) => pixels < SMALLEST_PART * largest);
  let object = 0;
  for (let i = 0; i < mask.length; i++) object += mask[i];
  const holes = repaint(mask, size, 0, false, (pixels, border) => !border && pixels < LARGEST_HOLE * object);
  return crumbs || holes;
}
