// PNG files. The canvas would write masks in colour and change colours that are half transparent.
"use strict";

const CHECKS = Uint32Array.from({ length: 256 }, (_, i) => {
  for (let k = 0; k < 8; k++) i = i & 1 ? (i >>> 1) ^ 0xedb88320 : i >>> 1;
  return i;
});

function crc32(bytes, before = 0) {
  let check = ~before;
  for (let i = 0; i < bytes.length; i++) check = CHECKS[(check ^ bytes[i]) & 255] ^ (check >>> 8);
  return ~check >>> 0;
}

function chunk(type, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(content, 8);
  view.setUint32(content.length + 8, crc32(bytes.subarray(4, content.length + 8)));
  return bytes;
}

// A file of an image whose `rows(top, bottom)` gives bytes of 1 (grey), 3 (RGB) or 4 (RGBA) channels.
async function pngFile(size, channels, rows) {
  const length = size[0] * channels;
  const packer = new CompressionStream("deflate");
  const packed = new Response(packer.readable).arrayBuffer();
  const writer = packer.writable.getWriter();
  let above = new Uint8Array(length);
  for (const [top, bottom] of bands(size)) {
    const pixels = rows(top, bottom);
    const filtered = new Uint8Array((length + 1) * (bottom - top));
    for (let y = 0; y < bottom - top; y++) {
      const row = pixels.subarray(y * length, (y + 1) * length);
      filtered[y * (length + 1)] = 2; // each byte less the one above it
      for (let i = 0; i < length; i++) filtered[y * (length + 1) + 1 + i] = row[i] - above[i];
      above = row;
    }
    await writer.write(filtered);
  }
  writer.close();
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, size[0]);
  new DataView(head.buffer).setUint32(4, size[1]);
  head.set([8, { 1: 0, 3: 2, 4: 6 }[channels]], 8);
  const mark = new TextEncoder().encode("Software\0redoseg result"); // by which redoseg knows its results
  return new Blob([
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", head), chunk("tEXt", mark),
    chunk("IDAT", new Uint8Array(await packed)), chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}
