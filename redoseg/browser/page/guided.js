// The network's mask at the size of the photograph, with edges where the photograph has them: a guided filter
// (redoseg/images/guided.py). At the network's size the mask is fitted by a linear function of the three colours within
// a window about each pixel. The functions are enlarged and applied to the photograph.
"use strict";

const WINDOW = 1 / 16; // half a window's side, as a share of the mask's
const EPSILON = 1e-3; // below such variances colours count as noise
const BYTE = Math.fround(1 / 255);
const BAND = 2 ** 18; // pixels that are worked on at a time

// Rows from `top` to `bottom` of bands that cover an image.
function* bands([width, height]) {
  const rows = Math.max(1, Math.floor(BAND / width));
  for (let top = 0; top < height; top += rows) yield [top, Math.min(top + rows, height)];
}

// As Python rounds: a half to the even number.
function rounded(number) {
  const near = Math.round(number);
  return near - number === 0.5 && near % 2 ? near - 1 : near;
}

// Means of a plane over windows of 2 * radius + 1; at the border over what of them is there.
function windowMeans(plane, side, radius) {
  let from = plane;
  for (const [step, along] of [[1, side], [side, 1]]) { // across, then down
    const to = new Float64Array(side * side);
    const sums = new Float64Array(side + 1);
    for (let line = 0; line < side; line++) {
      for (let i = 0; i < side; i++) sums[i + 1] = sums[i] + from[line * along + i * step];
      for (let i = 0; i < side; i++) {
        const last = Math.min(i + radius + 1, side);
        const first = Math.max(i - radius, 0);
        to[line * along + i * step] = (sums[last] - sums[first]) / (last - first);
      }
    }
    from = to;
  }
  return from;
}

// Three slopes and an offset for each pixel of a soft mask (side x side), from the bytes that the network saw.
function fitted(mask, reduced, side) {
  const radius = Math.max(1, rounded(side * WINDOW));
  const count = side * side;
  const plane = of => {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = of(i);
    return values;
  };
  const means = values => windowMeans(values, side, radius);
  const product = (one, other) => means(plane(i => one[i] * other[i]));
  const [red, green, blue] = [0, 1, 2].map(c => plane(i => reduced[3 * i + c] * BYTE));
  const [r, g, b, p] = [red, green, blue, mask].map(means);
  const [rp, gp, bp] = [red, green, blue].map(values => product(values, mask));
  const [rr, rg, rb] = [red, green, blue].map(values => product(red, values));
  const [gg, gb, bb] = [product(green, green), product(green, blue), product(blue, blue)];
  const found = [0, 1, 2, 3].map(() => new Float64Array(count));
  for (let i = 0; i < count; i++) {
    const vrr = rr[i] - r[i] * r[i] + EPSILON;
    const vrg = rg[i] - r[i] * g[i];
    const vrb = rb[i] - r[i] * b[i];
    const vgg = gg[i] - g[i] * g[i] + EPSILON;
    const vgb = gb[i] - g[i] * b[i];
    const vbb = bb[i] - b[i] * b[i] + EPSILON;
    const withR = rp[i] - r[i] * p[i];
    const withG = gp[i] - g[i] * p[i];
    const withB = bp[i] - b[i] * p[i];
    const crr = vgg * vbb - vgb * vgb; // the symmetric system by its cofactors
    const crg = vgb * vrb - vrg * vbb;
    const crb = vrg * vgb - vgg * vrb;
    const cgg = vrr * vbb - vrb * vrb;
    const cgb = vrb * vrg - vrr * vgb;
    const cbb = vrr * vgg - vrg * vrg;
    const determinant = vrr * crr + vrg * crg + vrb * crb;
    found[0][i] = (crr * withR + crg * withG + crb * withB) / determinant;
    found[1][i] = (crg * withR + cgg * withG + cgb * withB) / determinant;
    found[2][i] = (crb * withR + cgb * withG + cbb * withB) / determinant;
    found[3][i] = p[i] - found[0][i] * r[i] - found[1][i] * g[i] - found[2][i] * b[i];
  }
  return found.map(values => Float32Array.from(windowMeans(values, side, radius)));
}

// Row `y` of `height` rows of an enlarged plane (side x side), not yet enlarged across.
function rowBetween(plane, side, y, height, row) {
  const place = Math.min(side - 1, Math.max(0, (y + 0.5) * (side / height) - 0.5));
  const above = Math.floor(place);
  const start = above * side;
  const next = above + 1 < side ? side : 0;
  for (let x = 0; x < side; x++) {
    const one = plane[start + x];
    row[x] = one + (plane[start + next + x] - one) * (place - above);
  }
}

// The soft mask of a photograph, 0 to 1, from the network's (side x side); `colours` are the photograph's over white.
function guidedMask(mask, reduced, side, colours, size) {
  const [width, height] = size;
  const functions = fitted(mask, reduced, side);
  const rows = functions.map(() => new Float32Array(side));
  const [reds, greens, blues, offsets] = rows;
  const { first, used, weights, most } = weightsFor(side, 0, side, width, "bilinear", false);
  const spare = Math.min(...size) >= 2 * side; // enough pixels that the noise of one need not decide
  const soft = new Float32Array(width * height);
  for (const [top, bottom] of bands(size)) {
    const seen = spare
      ? softened(colours, size, 3, top, bottom)
      : colours.subarray(3 * top * width, 3 * bottom * width);
    for (let y = top, from = 0; y < bottom; y++) {
      functions.forEach((plane, i) => rowBetween(plane, side, y, height, rows[i]));
      for (let x = 0; x < width; x++, from += 3) {
        let [red, green, blue, sum] = [0, 0, 0, 0];
        for (let k = 0; k < used[x]; k++) {
          const weight = weights[x * most + k];
          red += reds[first[x] + k] * weight;
          green += greens[first[x] + k] * weight;
          blue += blues[first[x] + k] * weight;
          sum += offsets[first[x] + k] * weight;
        }
        sum += (red * seen[from] + green * seen[from + 1] + blue * seen[from + 2]) * BYTE;
        soft[y * width + x] = sum < 0 ? 0 : sum > 1 ? 1 : sum;
      }
    }
  }
  return soft;
}
