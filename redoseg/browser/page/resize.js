// Pillow's `resize` and `reduce`, so that the network sees what it sees on the command line. Not the canvas's scaling,
// which differs between browsers. Pixels are rows of `channels` numbers: bytes (Uint8Array) or Float32Array.
"use strict";

// How far each filter reaches at the size of the smaller image [pixels], and its weights.
const FILTERS = {
  box: [0.5, x => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, x => cubic(Math.abs(x))],
  lanczos: [3, x => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const PRECISION = 22; // bits of a weight of bytes

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

// Which pixels between `start` and `end` of `length` make each of `count` pixels, and with which weights.
function weightsFor(length, start, end, count, filter, bytes) {
  const [reach, weight] = FILTERS[filter];
  const scale = Math.fround(Math.fround(end) - Math.fround(start)) / count; // Pillow has a box of single precision
  const stretch = Math.max(scale, 1); // a smaller image averages, a larger one does not
  const support = reach * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(count);
  const used = new Int32Array(count);
  const weights = new Float64Array(count * most);
  for (let i = 0; i < count; i++) {
    const centre = Math.fround(start) + (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const to = Math.min(length, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let k = 0; k < to - from; k++) {
      weights[i * most + k] = weight((k + from - centre + 0.5) * (1 / stretch));
      sum += weights[i * most + k];
    }
    for (let k = 0; k < to - from; k++) {
      const share = sum === 0 ? 0 : weights[i * most + k] / sum;
      weights[i * most + k] = bytes ? Math.trunc(share * 2 ** PRECISION + (share < 0 ? -0.5 : 0.5)) : share;
    }
    first[i] = from;
    used[i] = to - from;
  }
  return { first, used, weights, most };
}

// An image of `size` [width, height] at `newSize`. `box` [left, top, right, bottom] is the part that is taken.
function resize(pixels, size, newSize, channels, filter = "bilinear", box = [0, 0, ...size]) {
  const bytes = !(pixels instanceof Float32Array);
  const across = weightsFor(size[0], box[0], box[2], newSize[0], filter, bytes);
  const down = weightsFor(size[1], box[1], box[3], newSize[1], filter, bytes);
  const same = side => newSize[side] === size[side] && box[side] === 0 && box[side + 2] === size[side];
  const top = down.first[0]; // rows that are used
  const bottom = down.first[newSize[1] - 1] + down.used[newSize[1] - 1];
  let rows = pixels.subarray(top * size[0] * channels, bottom * size[0] * channels);
  if (!same(0)) rows = resizeRows(rows, size[0], bottom - top, across, newSize[0], channels, bytes);
  if (same(1)) return rows;
  return resizeColumns(rows, newSize[0] * channels, down, newSize[1], top, bytes);
}

function resizeRows(pixels, width, height, across, newWidth, channels, bytes) {
  const result = new pixels.constructor(newWidth * height * channels);
  const { first, used, weights, most } = across;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const from = (y * width + first[x]) * channels;
      const to = (y * newWidth + x) * channels;
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < used[x]; k++) sum += pixels[from + k * channels + c] * weights[x * most + k];
        result[to + c] = bytes ? asByte(sum) : sum;
      }
    }
  }
  return result;
}

function resizeColumns(pixels, length, down, newHeight, top, bytes) {
  const result = new pixels.constructor(length * newHeight);
  const { first, used, weights, most } = down;
  const sums = new Float64Array(length);
  for (let y = 0; y < newHeight; y++) {
    sums.fill(0);
    for (let k = 0; k < used[y]; k++) {
      const row = (first[y] - top + k) * length;
      const weight = weights[y * most + k];
      for (let i = 0; i < length; i++) sums[i] += pixels[row + i] * weight;
    }
    for (let i = 0; i < length; i++) result[y * length + i] = bytes ? asByte(sums[i]) : sums[i];
  }
  return result;
}

function asByte(sum) {
  return Math.min(255, Math.max(0, Math.floor((sum + 2 ** (PRECISION - 1)) / 2 ** PRECISION)));
}

// Means of blocks of `across` x `down` bytes; those at the right and at the bottom may be smaller.
function reduce(pixels, size, channels, across, down) {
  const [width, height] = size;
  const newSize = [Math.ceil(width / across), Math.ceil(height / down)];
  const result = new Uint8Array(newSize[0] * newSize[1] * channels);
  const sums = new Float64Array(newSize[0] * channels);
  for (let y = 0; y < newSize[1]; y++) {
    const rows = Math.min(down, height - y * down);
    sums.fill(0);
    for (let row = y * down; row < y * down + rows; row++) {
      for (let x = 0, i = row * width * channels; x < newSize[0]; x++) {
        const columns = Math.min(across, width - x * across);
        for (let k = 0; k < columns; k++) {
          for (let c = 0; c < channels; c++) sums[x * channels + c] += pixels[i++];
        }
      }
    }
    for (let x = 0; x < newSize[0]; x++) {
      const count = rows * Math.min(across, width - x * across);
      const factor = Math.floor(2 ** 24 / count); // as Pillow divides
      for (let c = 0; c < channels; c++) {
        const sum = sums[x * channels + c] + Math.floor(count / 2);
        result[(y * newSize[0] + x) * channels + c] = Math.floor((sum * factor) / 2 ** 24);
      }
    }
  }
  return { pixels: result, size: newSize };
}

// `resize` of bytes after means of whole blocks, to three times the new size (Pillow's reducing_gap).
function shrink(pixels, size, newSize, channels, filter = "bilinear") {
  const across = Math.trunc(size[0] / newSize[0] / 3) || 1;
  const down = Math.trunc(size[1] / newSize[1] / 3) || 1;
  if (across === 1 && down === 1) return resize(pixels, size, newSize, channels, filter);
  const blocks = reduce(pixels, size, channels, across, down);
  return resize(blocks.pixels, blocks.size, newSize, channels, filter, [0, 0, size[0] / across, size[1] / down]);
}

// Each pixel averaged with its neighbours, 1 2 1 across, then down: Pillow's BoxBlur(0.5). Rows from `top` to `bottom`.
function softened(pixels, size, channels, top, bottom) {
  const [width, height] = size;
  const length = width * channels;
  const across = y => {
    const row = new Uint8Array(length);
    const start = Math.min(Math.max(y, 0), height - 1) * length;
    for (let i = 0; i < length; i++) {
      const left = i < channels ? i : i - channels;
      const right = i >= length - channels ? i : i + channels;
      row[i] = (2 * pixels[start + i] + pixels[start + left] + pixels[start + right] + 2) >> 2;
    }
    return row;
  };
  const result = new Uint8Array((bottom - top) * length);
  let [above, here, below] = [across(top - 1), across(top), across(top + 1)];
  for (let y = top; y < bottom; y++) {
    const to = (y - top) * length;
    for (let i = 0; i < length; i++) result[to + i] = (2 * here[i] + above[i] + below[i] + 2) >> 2;
    [above, here, below] = [here, below, across(y + 2)];
  }
  return result;
}
