// ZIP files whose content is stored: pictures are packed already.
"use strict";

// The fields that a file's own head and the list at the end have in common.
function zipFields(name, size, check, time) {
  const bytes = new Uint8Array(26);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 20, true); // version 2.0
  view.setUint16(2, 0x0800, true); // names are UTF-8
  view.setUint16(6, (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1), true);
  view.setUint16(8, ((time.getFullYear() - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate(), true);
  view.setUint32(10, check, true);
  view.setUint32(14, size, true);
  view.setUint32(18, size, true);
  view.setUint16(22, name.length, true);
  return bytes;
}

// A ZIP of [name, Blob] pairs, of less than 4 GB.
async function zipFile(files) {
  const time = new Date();
  const parts = [];
  const list = [];
  let at = 0;
  for (const [path, blob] of files) {
    const name = new TextEncoder().encode(path);
    const fields = zipFields(name, blob.size, crc32(new Uint8Array(await blob.arrayBuffer())), time);
    const place = new Uint8Array(14); // after the fields: no comment, first disk, no attributes
    new DataView(place.buffer).setUint32(10, at, true);
    parts.push(Uint8Array.of(80, 75, 3, 4), fields, name, blob);
    list.push(Uint8Array.of(80, 75, 1, 2, 20, 0), fields, place, name);
    at += 30 + name.length + blob.size;
  }
  const length = list.reduce((sum, part) => sum + part.length, 0);
  if (at + length >= 2 ** 32) throw new UserError("The results have more than 4 GB. Remove some photographs.");
  const end = new Uint8Array(22);
  const view = new DataView(end.buffer);
  end.set([80, 75, 5, 6]);
  view.setUint16(8, files.length, true);
  view.setUint16(10, files.length, true);
  view.setUint32(12, length, true);
  view.setUint32(16, at, true);
  return new Blob([...parts, ...list, end], { type: "application/zip" });
}
