/** Rotary position embedding (Su et al. 2021): the angles of every position, computed in double and stored as f32 cosines and sines. */

import type { Gpu } from "../engine/gpu.ts";
import type { Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { ModelConfig } from "./config.ts";

/** What dimensions i and i + rotaryDims / 2 turn by from one position to the next, in radians. */
export function frequenciesOf({ rotaryDims, ropeTheta }: Pick<ModelConfig, "rotaryDims" | "ropeTheta">): readonly number[] {
  return Array.from({ length: rotaryDims / 2 }, (_, i) => ropeTheta ** (-2 * i / rotaryDims));
}

/** cos and sin of position · theta^(−2i / rotaryDims), for i < rotaryDims / 2: [positions, rotaryDims / 2, 2]. */
export function ropeTable(config: Pick<ModelConfig, "rotaryDims" | "ropeTheta">, positions: number): Float32Array {
  const half = config.rotaryDims / 2;
  const table = new Float32Array(positions * half * 2);
  for (const [i, frequency] of frequenciesOf(config).entries()) {
    for (let position = 0; position < positions; position++) {
      const at = (position * half + i) * 2;
      table[at] = Math.cos(position * frequency);
      table[at + 1] = Math.sin(position * frequency);
    }
  }
  return table;
}

/** Of the table. */
export function ropeShape({ rotaryDims }: Pick<ModelConfig, "rotaryDims">, positions: number): Shape {
  return [positions, rotaryDims / 2, 2];
}

export async function cosSinTable(gpu: Gpu, config: ModelConfig, positions: number): Promise<Tensor> {
  const tensor = await gpu.tensor("activations", ropeShape(config, positions), "f32", "cos sin");
  gpu.upload(tensor.buffer, tensor.offset, ropeTable(config, positions));
  return tensor;
}
