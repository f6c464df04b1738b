// The network, and from its mask to the object's (redoseg/inference/segmenter.py).
"use strict";

const THRESHOLD = 0.5;

// What `export --web` packed into the page under this name: gzip in base64.
async function unpacked(name) {
  const text = atob(document.getElementById(name).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function openNetwork(name) {
  if (!ort.env.wasm.wasmBinary) {
    ort.env.wasm.wasmBinary = await unpacked("runtime");
    ort.env.wasm.numThreads = 1; // several need headers that a file does not have
    ort.env.logLevel = "error";
  }
  return ort.InferenceSession.create(await unpacked(name), { executionProviders: ["wasm"] });
}

class Segmenter {
  // `about` is what the model's file says: size, regions, object region, and factor and offset of a byte.
  static async open(about) {
    const found = new Segmenter();
    found.about = about;
    found.session = await openNetwork("mask-model");
    return found;
  }

  reduced(photo, side = this.about.size) {
    return shrink(photo.shown, photo.size, [side, side], 3);
  }

  // What the network sees of reduced bytes: planes of red, green and blue.
  values(reduced, side = this.about.size) {
    const { factor, offset } = this.about;
    const values = new Float32Array(3 * side * side);
    for (let i = 0; i < side * side; i++) {
      for (let c = 0; c < 3; c++) values[c * side * side + i] = reduced[3 * i + c] * factor + offset;
    }
    return values;
  }

  // Soft masks of all regions, of the network's size, one after another.
  async masks(reduced) {
    const side = this.about.size;
    const picture = new ort.Tensor("float32", this.values(reduced), [1, 3, side, side]);
    const { masks } = await this.session.run({ picture });
    return masks.data;
  }

  // {soft, confidence}: the object's soft mask of the photograph's size, and how decided the network is, 0 to 1.
  async softMask(photo) {
    const { size: side, object } = this.about;
    const reduced = this.reduced(photo);
    const mask = (await this.masks(reduced)).slice(object * side * side, (object + 1) * side * side);
    return { soft: guidedMask(mask, reduced, side, photo.shown, photo.size), confidence: confidenceOf(mask) };
  }
}

// 1 minus the mean entropy of a mask's pixels in bits.
function confidenceOf(mask) {
  let sum = 0;
  for (const value of mask) {
    const p = Math.min(1 - 1e-6, Math.max(1e-6, value));
    sum += p * Math.log2(p) + (1 - p) * Math.log2(1 - p);
  }
  return 1 + sum / mask.length;
}

// The object's mask of 0 and 255, cleaned. In `soft`, what cleaning took away becomes 0 and what it filled becomes 1.
function objectMask(photo, soft) {
  const mask = new Uint8Array(soft.length);
  const opaque = i => !photo.alpha || photo.alpha[i] / 255 > THRESHOLD;
  for (let i = 0; i < soft.length; i++) mask[i] = soft[i] > THRESHOLD && opaque(i) ? 1 : 0;
  const before = mask.slice();
  const changed = clean(mask, photo.size);
  for (let i = 0; i < soft.length; i++) {
    if (changed && mask[i] !== before[i]) soft[i] = mask[i];
    mask[i] = mask[i] && opaque(i) ? 255 : 0; // a filled hole may be transparent
  }
  return mask;
}
