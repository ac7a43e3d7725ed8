// Reads the digit on a picture: node classify.mjs PICTURE.pgm [MORE.pgm ...] (16×16, white on black)

import { readFile } from "node:fs/promises";
import { load } from "./page/digits.js";

const HEAD = "P5\n16 16\n255\n";
const pictures = process.argv.slice(2);
if (pictures.length === 0) {
  console.error("usage: node classify.mjs PICTURE.pgm [MORE.pgm ...]");
  process.exit(2);
}
try {
  const classify = await load(await readFile(new URL("page/digits.wasm", import.meta.url)));
  for (const path of pictures) {
    const file = await readFile(path);
    if (file.length !== HEAD.length + 256 || file.toString("latin1", 0, HEAD.length) !== HEAD) {
      throw new Error(`${path}: is no binary PGM of 16×16`);
    }
    const { digit, scores } = classify(file.subarray(HEAD.length));
    console.log(`${digit}: ${scores.map((s) => s.toFixed(2)).join(" ")}`);
  }
} catch (e) {
  console.error(`classify: ${e.message}`);
  process.exit(2);
}
