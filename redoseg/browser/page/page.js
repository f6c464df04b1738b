// The page: photographs come in one after another, each gets a card, and all results can be saved as one ZIP.
"use strict";

const DRAWINGS = 4; // for each press of the button
const DOUBTFUL = 0.7; // confidence below which a mask should be looked at
const ABOUT = JSON.parse(document.getElementById("about-model").textContent);
const part = name => document.getElementById(name);
const results = []; // {card, stem, mask, cutout}, masks and cut-outs as Blobs
const queue = []; // jobs, done one after another: a photograph takes much memory
let segmenter = null;
let redrawer = null;
let working = false;

function say(text) {
  part("said").textContent = text;
}

function fail(name, error) {
  const line = document.createElement("li");
  line.textContent = error instanceof UserError ? `${name}: ${error.message}` : `${name}: ${error}`;
  part("failed").append(line);
}

// Let the browser show what has changed before the next work.
function pause() {
  return new Promise(done => setTimeout(done, 30));
}

async function work() {
  if (working) return;
  working = true;
  while (queue.length) {
    const { name, what, run } = queue[0];
    say(`${what} ${name} (${queue.length} left) ...`);
    await pause();
    try {
      await run();
    } catch (error) {
      fail(name, error);
    }
    queue.shift();
  }
  working = false;
  part("zip").hidden = part("clear").hidden = !results.length;
  say(results.length === 1 ? "1 photograph is cut out." : `${results.length} photographs are cut out.`);
}

function add(files) {
  part("failed").replaceChildren();
  for (const file of files) queue.push({ name: file.name, what: "Cutting out", run: () => cutOut(file) });
  if (files.length) work();
}

async function cutOut(file) {
  const started = performance.now();
  segmenter ??= await Segmenter.open(ABOUT);
  const photo = await readPhoto(file);
  const { soft, confidence } = await segmenter.softMask(photo);
  const mask = objectMask(photo, soft);
  const [width] = photo.size;
  const maskFile = await pngFile(photo.size, 1, (top, bottom) => mask.subarray(top * width, bottom * width));
  const cutoutFile = await pngFile(photo.size, 4, cutoutOf(photo, soft));
  const addresses = await previewsOf(photo, mask);
  let object = 0;
  for (let i = 0; i < mask.length; i++) object += mask[i] && 1;
  const share = (100 * object) / mask.length;
  const result = { file, stem: freeStem(file.name), mask: maskFile, cutout: cutoutFile };
  result.seconds = (performance.now() - started) / 1000;
  result.card = cardOf(result, addresses, `${photo.size.join(" × ")} pixels; ` +
    `the object covers ${share.toFixed(1)}\u00a0%; confidence ${confidence.toFixed(2)}; ${result.seconds.toFixed(1)} s.` +
    (confidence < DOUBTFUL ? " This mask looks doubtful." : ""));
  results.push(result);
}

// The name without its suffix, which no other result has.
function freeStem(name) {
  const stem = name.replace(/\.[^.]*$/, "") || "photograph";
  const taken = new Set(results.map(result => result.stem));
  for (let number = 1; ; number++) {
    const found = number === 1 ? stem : `${stem}-${number}`;
    if (!taken.has(found)) return found;
  }
}

function cardOf(result, addresses, about) {
  const card = part("card").content.cloneNode(true).firstElementChild;
  card.querySelector("h2").textContent = result.file.name;
  card.querySelector(".about").textContent = about;
  ["overlay", "cutout", "mask"].forEach((kind, i) => { card.querySelector(`.${kind}`).src = addresses[i]; });
  link(card.querySelector(".save-mask"), result.mask, `${result.stem}.png`);
  link(card.querySelector(".save-cutout"), result.cutout, `${result.stem}-cutout.png`);
  card.querySelector(".remove").onclick = () => remove(result);
  const button = card.querySelector(".redraw");
  button.hidden = !ABOUT.redraw;
  button.onclick = () => {
    button.disabled = true;
    const run = () => redraw(result).finally(() => { button.disabled = false; });
    queue.push({ name: result.file.name, what: "Redrawing", run });
    work();
  };
  part("cards").prepend(card);
  return card;
}

function link(anchor, blob, name) {
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
}

function remove(result) {
  result.card.querySelectorAll("img, a[download]").forEach(one => URL.revokeObjectURL(one.src || one.href));
  result.card.remove();
  results.splice(results.indexOf(result), 1);
  if (!working) work(); // which says how many are left
}

async function redraw(result) {
  segmenter ??= await Segmenter.open(ABOUT);
  redrawer ??= await Redrawer.open(segmenter);
  const scene = await redrawer.scene(await readPhoto(result.file));
  const drawings = result.card.querySelector(".drawings");
  for (let i = 0; i < DRAWINGS; i++) {
    result.drawn = (result.drawn ?? 0) + 1;
    const pixels = await redrawer.draw(scene, result.drawn);
    const [width] = scene.small.size;
    const file = await pngFile(scene.small.size, 3, (top, bottom) =>
      pixels.subarray(3 * top * width, 3 * bottom * width));
    const anchor = document.createElement("a");
    link(anchor, file, `${result.stem}-redrawn-${result.drawn}.png`);
    const image = new Image();
    image.src = anchor.href;
    image.alt = `Drawing ${result.drawn}; press to save`;
    anchor.append(image);
    drawings.append(anchor);
    await pause();
  }
}

async function saveAll() {
  part("zip").disabled = true;
  try {
    const files = results.flatMap(({ stem, mask, cutout }) =>
      [[`mask/${stem}.png`, mask], [`cutout/${stem}.png`, cutout]]);
    const anchor = document.createElement("a");
    link(anchor, await zipFile(files), "redoseg.zip");
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
  } catch (error) {
    fail("redoseg.zip", error);
  }
  part("zip").disabled = false;
}

function listen() {
  part("files").onchange = event => {
    add([...event.target.files]);
    event.target.value = ""; // the same file may be chosen again
  };
  part("zip").onclick = saveAll;
  part("clear").onclick = () => [...results].forEach(remove);
  document.addEventListener("paste", event => add([...event.clipboardData.files]));
  document.addEventListener("dragover", event => {
    event.preventDefault();
    part("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => part("drop").classList.remove("over"));
  document.addEventListener("drop", event => {
    event.preventDefault();
    part("drop").classList.remove("over");
    add([...event.dataTransfer.files]);
  });
  // from a web server the page is kept, so that it works without internet the next time
  if (location.protocol.startsWith("http")) navigator.serviceWorker?.register("worker.js").catch(() => {});
  say("Ready.");
}

listen();
