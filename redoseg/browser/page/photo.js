// From a file to pixels. The browser decodes it, turns it upright as its EXIF data say and makes its colours sRGB.
"use strict";

const MOST_PIXELS = 50e6; // of one photograph, which takes up to 15 bytes for each

class UserError extends Error {}

// {size, own, shown, alpha}: RGB bytes without and with white behind, and opacity or null where all of it is opaque.
async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" });
  } catch {
    throw new UserError("this browser cannot read it as a photograph. Save it as JPEG or PNG.");
  }
  try {
    const size = [bitmap.width, bitmap.height];
    if (size[0] * size[1] > MOST_PIXELS) {
      const millions = Math.ceil((size[0] * size[1]) / 1e6);
      throw new UserError(`it has ${millions} million pixels, but this page takes ${MOST_PIXELS / 1e6} million ` +
        "at most. Make it smaller, or use redoseg on the command line.");
    }
    return withShown(pixelsOf(bitmap, size), size);
  } finally {
    bitmap.close();
  }
}

// By bands, since the canvas of a large photograph is refused on phones.
function pixelsOf(bitmap, size) {
  const own = new Uint8Array(3 * size[0] * size[1]);
  const alpha = new Uint8Array(size[0] * size[1]);
  const canvas = document.createElement("canvas");
  canvas.width = size[0];
  let opaque = true;
  for (const [top, bottom] of bands(size)) {
    canvas.height = bottom - top; // which also clears it
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, size[0], bottom - top);
    for (let i = 0, to = top * size[0]; i < data.length; i += 4, to++) {
      own[3 * to] = data[i];
      own[3 * to + 1] = data[i + 1];
      own[3 * to + 2] = data[i + 2];
      alpha[to] = data[i + 3];
      opaque &&= data[i + 3] === 255;
    }
  }
  return { own, alpha: opaque ? null : alpha };
}

function withShown({ own, alpha }, size) {
  if (!alpha) return { size, own, alpha, shown: own };
  const shown = new Uint8Array(own.length);
  for (let i = 0; i < own.length; i++) shown[i] = mixed(255, own[i], alpha[Math.floor(i / 3)]);
  return { size, own, alpha, shown };
}

// Of two bytes, the second over the first, as Pillow mixes them.
function mixed(below, above, alpha) {
  const sum = below * (255 - alpha) + above * alpha + 128;
  return ((sum >> 8) + sum) >> 8;
}
