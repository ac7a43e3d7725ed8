// The network in digits.wasm, and how a drawing becomes what it takes. Runs in browsers and in Node.

const SIDE = 16;

/** The network of a module's bytes: a function from 256 pixels (rows of 16, white on black, 0 to 255) to the digit and ten scores. */
export async function load(bytes) {
  const { exports } = (await WebAssembly.instantiate(bytes)).instance;
  return (pixels) => {
    if (pixels.length !== SIDE * SIDE) throw new Error(`${pixels.length} pixels instead of ${SIDE}×${SIDE}`);
    new Uint8Array(exports.memory.buffer, exports.pixels(), pixels.length).set(pixels);
    if (!exports.classify()) throw new Error("the network refuses the picture");
    const scores = [...new Float32Array(exports.memory.buffer, exports.scores(), 10)];
    return { digit: scores.indexOf(Math.max(...scores)), scores };
  };
}

/**
 * The 16×16 pixels of a drawing of any size, made as those that the network has learnt from: what is drawn fills the height, 8×8 means
 * of areas, enlarged by a bilinear filter. `null` if nothing is drawn.
 * @param ink brightness of each pixel of the drawing, row by row, 0 to 255
 */
export function shrink(ink, width, height) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (ink[y * width + x] > 127) {
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
    }
  }
  if (right < 0) return null;
  const side = Math.max(right - left, bottom - top) + 1;
  const [x0, y0] = [(left + right + 1 - side) / 2, (top + bottom + 1 - side) / 2];
  const small = new Float32Array(64);
  for (let k = 0; k < 64; k++) {
    // 8×8 points of each area are enough for a mean.
    for (let p = 0; p < 64; p++) {
      const x = Math.floor(x0 + (side * ((k % 8) + ((p % 8) + 0.5) / 8)) / 8);
      const y = Math.floor(y0 + (side * (Math.floor(k / 8) + (Math.floor(p / 8) + 0.5) / 8)) / 8);
      if (x >= 0 && x < width && y >= 0 && y < height) small[k] += ink[y * width + x] / 64;
    }
  }
  const at = (x, y) => small[Math.min(Math.max(y, 0), 7) * 8 + Math.min(Math.max(x, 0), 7)];
  return Uint8Array.from({ length: SIDE * SIDE }, (_, k) => {
    const [x, y] = [((k % SIDE) - 0.5) / 2, (Math.floor(k / SIDE) - 0.5) / 2];
    const [i, j] = [Math.floor(x), Math.floor(y)];
    const row = (j) => at(i, j) * (i + 1 - x) + at(i + 1, j) * (x - i);
    return Math.round(((row(j) * (j + 1 - y) + row(j + 1) * (y - j)) * 240) / 255);
  });
}
