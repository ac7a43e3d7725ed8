// Prints the scores of each of the demo's digits as the bits of ten `f32`, one line each: node scores.mjs RECORDS

import { readFileSync } from "node:fs";
import { load } from "../page/digits.js";

const classify = await load(readFileSync(new URL("../page/digits.wasm", import.meta.url)));
const records = readFileSync(process.argv[2]);
for (let at = 0; at < records.length; at += 257) {
  const { scores } = classify(records.subarray(at + 1, at + 257));
  console.log([...new Uint32Array(Float32Array.from(scores).buffer)].join(" "));
}
