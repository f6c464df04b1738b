// Cut-outs: how opaque the edge is, and the object's colours there without those of the ground
// (redoseg/inference/results.py, redoseg/images/foreground.py).
"use strict";

const GUESSED = 2 ** 18; // pixels at which colours of object and ground are guessed, roughly
const SURE = 26; // shares from 0 and up to 255 that count as ground and as object
const NOISE = 130; // squared difference of two colours below which the mask alone says what the share is
const OPAQUE = 250; // of 255; a lossy format makes some of what is opaque a little less so
const FASTER = 4; // how much faster than the soft mask the share of the object rises

// How much of each pixel is the object, 0 to 255: half at the threshold.
function sharesOf(soft) {
  const shares = new Uint8Array(soft.length);
  for (let i = 0; i < soft.length; i++) {
    const share = 0.5 + (soft[i] - THRESHOLD) * FASTER;
    shares[i] = share <= 0 ? 0 : share >= 1 ? 255 : Math.round(255 * share);
  }
  return shares;
}

// What object and ground look like near each pixel: two small pictures; null where nothing is surely either.
function guessColours(photo, shares) {
  const step = Math.max(1, Math.floor(Math.sqrt(Math.floor(shares.length / GUESSED))));
  const size = photo.size.map(side => Math.ceil(side / step));
  const object = surelyOf(photo, shares, step, size, share => share - (255 - SURE));
  const ground = surelyOf(photo, shares, step, size, share => SURE - share);
  if (!object.any || !ground.any) return null;
  const [ofObject, ofGround] = [object, ground].map(({ planes }) => asBytes(spread(planes, size)));
  return { ofObject, ofGround, size, step };
}

// Planes of colour times weight, and weight, of blocks of `step` x `step` pixels; and whether any has a weight.
function surelyOf(photo, shares, step, size, nearness) {
  const [width, height] = photo.size;
  const weightOf = Uint8Array.from({ length: 256 }, (_, share) => 9 * Math.min(SURE, Math.max(0, nearness(share))));
  const planes = new Float32Array(4 * size[0] * size[1]);
  let any = false;
  for (let row = 0; row < size[1]; row++) {
    const [top, bottom] = [row * step, Math.min((row + 1) * step, height)];
    const sure = new Uint8Array(width * (bottom - top));
    const counted = new Uint8Array(3 * sure.length);
    for (let i = 0, at = top * width; i < sure.length; i++, at++) {
      if (photo.alpha && photo.alpha[at] < OPAQUE) continue; // below transparency colours may be anything
      sure[i] = weightOf[shares[at]];
      for (let c = 0; sure[i] && c < 3; c++) counted[3 * i + c] = mixed(0, photo.own[3 * at + c], sure[i]);
    }
    const weights = reduce(sure, [width, bottom - top], 1, step, step).pixels;
    const colours = reduce(counted, [width, bottom - top], 3, step, step).pixels;
    for (let x = 0, to = 4 * row * size[0]; x < size[0]; x++, to += 4) {
      for (let c = 0; c < 3; c++) planes[to + c] = colours[3 * x + c];
      planes[to + 3] = weights[x] * BYTE;
      any ||= weights[x] > 0;
    }
  }
  return { planes, any };
}

function asBytes(values) {
  const bytes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) bytes[i] = asByteValue(values[i]);
  return bytes;
}

function asByteValue(value) {
  return value < 0 ? 0 : value > 255 ? 255 : rounded(value);
}

// Colours of pixels of colour times weight and weight: means of what is near, by a pyramid.
function spread(planes, size) {
  const count = size[0] * size[1];
  const mean = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) mean[3 * i + c] = planes[4 * i + c] / Math.max(planes[4 * i + 3], 1e-6);
  }
  if (Math.max(...size) === 1) return mean;
  const half = size.map(side => (side + 1) >> 1);
  const coarse = resize(spread(resize(planes, size, half, 4, "box"), half), half, size, 3);
  for (let i = 0; i < count; i++) {
    const trust = Math.min(1, 4 * planes[4 * i + 3]);
    for (let c = 0; c < 3; c++) mean[3 * i + c] = mean[3 * i + c] * trust + coarse[3 * i + c] * (1 - trust);
  }
  return mean;
}

// What gives rows `top` to `bottom` of the cut-out, RGBA.
function cutoutOf(photo, soft) {
  const [width] = photo.size;
  const { own, alpha } = photo;
  const inside = new Uint8Array(soft.length);
  for (let i = 0; i < soft.length; i++) inside[i] = soft[i] > THRESHOLD ? 255 : 0;
  const shares = sharesOf(soft);
  const guess = guessColours(photo, shares);
  return (top, bottom) => {
    const opacity = softened(inside, photo.size, 1, top, bottom);
    const result = new Uint8Array(4 * width * (bottom - top));
    const start = top * width;
    for (let i = 0; i < opacity.length; i++) {
      const at = start + i;
      const opaque = !inside[at] ? 0 : alpha ? rounded((opacity[i] * alpha[at]) / 255) : opacity[i];
      if (!opaque) continue; // what is wholly transparent is black, so that nobody can bring the ground back
      for (let c = 0; c < 3; c++) result[4 * i + c] = own[3 * at + c];
      result[4 * i + 3] = opaque;
    }
    const atEdge = i => shares[start + i] > 0 && shares[start + i] < 255 && !(alpha && alpha[start + i] < OPAQUE);
    if (guess) unmix(result, photo.size, guess, top, i => result[4 * i + 3] && atEdge(i), i => shares[start + i] / 255);
    return result;
  };
}

// Take the ground's colour off the pixels of `rows` for which `chosen(i)`, which have at least a `share(i)` of object.
function unmix(rows, [width], guess, top, chosen, share) {
  let [left, right, first, last] = [width, -1, rows.length, -1];
  for (let i = 0; i < rows.length / 4; i++) {
    if (!chosen(i)) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [left, right, first, last] = [Math.min(left, x), Math.max(right, x), Math.min(first, y), Math.max(last, y)];
  }
  if (right < 0) return;
  const box = [left, top + first, right + 1, top + last + 1].map(side => side / guess.step);
  const size = [right + 1 - left, last + 1 - first];
  const [object, ground] = [guess.ofObject, guess.ofGround].map(colours =>
    resize(colours, guess.size, size, 3, "bilinear", box));
  for (let y = first; y <= last; y++) {
    for (let x = left; x <= right; x++) {
      const i = y * width + x;
      if (chosen(i)) unmixPixel(rows, 4 * i, object, ground, 3 * ((y - first) * size[0] + x - left), share(i));
    }
  }
}

// The object's colour in the mixture at `i`, which has at least this share of it; object and ground are at `j`.
function unmixPixel(rows, i, object, ground, j, least) {
  let along = 0;
  let apart = 0;
  for (let c = 0; c < 3; c++) {
    const difference = object[j + c] - ground[j + c];
    along += (rows[i + c] - ground[j + c]) * difference;
    apart += difference * difference;
  }
  const seen = (along + NOISE * least) / (apart + NOISE);
  const missing = 1 - Math.min(1, Math.max(seen, least, 0));
  for (let c = 0; c < 3; c++) rows[i + c] = asByteValue(missing * (object[j + c] - ground[j + c]) + rows[i + c]);
}
