// The object drawn again by the model's generators (redoseg/inference/redraw.py).
"use strict";

const LARGEST = 1024; // longer side of a drawing [pixels]

// Draws from N(0, 1) by a seed; not those of the command line's seed.
function randomNormals(count, seed) {
  let state = seed >>> 0;
  const uniform = () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

class Redrawer {
  static async open(segmenter) {
    const found = new Redrawer();
    found.segmenter = segmenter;
    found.session = await openNetwork("redraw-model");
    return found;
  }

  // {small, soft, seen, masks}: the photograph as drawings show it, and what the generators see.
  async scene(photo) {
    const { redraw: { size: side }, size: fine, regions } = this.segmenter.about;
    const whole = await this.segmenter.masks(this.segmenter.reduced(photo));
    const step = fine / side; // masks of a second stage may be finer than drawings
    const masks = new Float32Array(regions * side * side);
    for (let i = 0; i < whole.length; i++) {
      const row = Math.floor(i / fine / step); // of all regions, one below the other
      masks[row * side + Math.floor((i % fine) / step)] += whole[i] / (step * step);
    }
    const scale = Math.min(1, LARGEST / Math.max(...photo.size));
    const size = photo.size.map(length => Math.max(1, rounded(length * scale)));
    const shown = scale < 1 ? shrink(photo.shown, photo.size, size, 3, "lanczos") : photo.shown;
    const small = { size, own: shown, shown, alpha: null };
    const seen = this.segmenter.values(this.segmenter.reduced(photo, side), side);
    return { small, soft: (await this.segmenter.softMask(small)).soft, seen, masks };
  }

  // RGB bytes of one drawing.
  async draw({ small, soft, seen, masks }, seed) {
    const { redraw: { size: side, latent }, regions, object, factor, offset } = this.segmenter.about;
    const tensor = (values, ...shape) => new ort.Tensor("float32", values, [1, ...shape]);
    const { drawings } = await this.session.run({
      picture: tensor(seen, 3, side, side),
      masks: tensor(masks, regions, side, side),
      latents: tensor(randomNormals(regions * latent, seed), regions, latent),
      read: tensor(new Float32Array(regions), regions),
    }, ["drawings"]);
    const plane = side * side;
    const drawn = new Uint8Array(3 * plane);
    for (let i = 0; i < drawn.length; i++) {
      drawn[i] = asByteValue((drawings.data[(3 * object + (i % 3)) * plane + Math.floor(i / 3)] - offset) / factor);
    }
    const pixels = resize(drawn, [side, side], small.size, 3, "bicubic");
    for (let i = 0; i < pixels.length; i++) {
      const share = soft[Math.floor(i / 3)];
      pixels[i] = rounded((1 - share) * small.shown[i] + share * pixels[i]);
    }
    return pixels;
  }
}
