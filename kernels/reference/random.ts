/** Scalar twin of randomNormal (kernels/random.ts), in double precision. */

/** pcg3d (Jarzynski and Olano 2020) of (index, seed): two words. */
export function hash(index: number, seed: number): [number, number] {
  const start = [index, seed, 0x9e3779b9].map((word) => (Math.imul(word, 1664525) + 1013904223) >>> 0);
  let [x, y, z] = start as [number, number, number];
  const mix = (): void => {
    x = (x + Math.imul(y, z)) >>> 0;
    y = (y + Math.imul(z, x)) >>> 0;
    z = (z + Math.imul(x, y)) >>> 0;
  };
  mix();
  [x, y, z] = [x, y, z].map((word) => (word ^ (word >>> 16)) >>> 0) as [number, number, number];
  mix();
  return [x, y];
}

/** The pair of normal(0, scale²) numbers of a word of the weight, by Box and Muller (1958). A word of f32 takes the first. */
export function normals(index: number, seed: number, scale: number): [number, number] {
  const [a, b] = hash(index, seed);
  const radius = scale * Math.sqrt(-2 * Math.log(((a >>> 9) + 0.5) * 2 ** -23));
  const angle = 2 * Math.PI * (b >>> 8) * 2 ** -24;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}
