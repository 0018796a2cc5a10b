// Entry `entry` of a head of `length` entries is in row x, column y of the chunks: chunk c of head h is row c · HEADS + h, and what is left behind
// the full chunks of head h is row CHUNKS · HEADS + h.
fn place(head: u32, entry: u32, length: u32) -> vec2u {
  let chunk = entry / CHUNK;
  return vec2u(select(CHUNKS, chunk, (chunk + 1u) * CHUNK <= length) * HEADS + head, entry % CHUNK);
}
