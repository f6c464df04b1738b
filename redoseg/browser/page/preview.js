// Small pictures for the page.
"use strict";

const PREVIEW = 640; // longer side [pixels]
const LINE = [255, 64, 129]; // outline of an object
const DIM = 0.55; // how much darker all but the object is

// Addresses of three small pictures: the photograph with the outline, the cut-out and the mask.
async function previewsOf(photo, mask) {
  const scale = Math.min(1, PREVIEW / Math.max(...photo.size));
  const size = photo.size.map(side => Math.max(1, Math.round(side * scale)));
  const [colours, share] = [shrink(photo.shown, photo.size, size, 3), shrink(mask, photo.size, size, 1)];
  const blurred = softened(softened(share, size, 1, 0, size[1]), size, 1, 0, size[1]);
  const [outlined, cut, white] = [0, 1, 2].map(() => new ImageData(...size));
  for (let i = 0; i < share.length; i++) {
    const line = Math.max(0, Math.min(1, 2 - 2 * Math.abs((2 * blurred[i]) / 255 - 1))); // where the mean is near half
    for (let c = 0; c < 3; c++) {
      const value = colours[3 * i + c] * (1 - DIM * (1 - share[i] / 255));
      outlined.data[4 * i + c] = value + (LINE[c] - value) * line;
      cut.data[4 * i + c] = colours[3 * i + c];
      white.data[4 * i + c] = share[i];
    }
    outlined.data[4 * i + 3] = white.data[4 * i + 3] = 255;
    cut.data[4 * i + 3] = share[i];
  }
  return Promise.all([addressOf(outlined, "image/jpeg"), addressOf(cut), addressOf(white)]);
}

async function addressOf(image, type = "image/png") {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return URL.createObjectURL(await new Promise(done => canvas.toBlob(done, type, 0.9)));
}
