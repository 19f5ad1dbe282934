/** Builds `dist` where its inputs have changed. */
import { builtHash, inputsHash } from "./inputs.ts"

if (builtHash() !== inputsHash()) {
  const { build } = await import("./build.ts")
  await build()
}
