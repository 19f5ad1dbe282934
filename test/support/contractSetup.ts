/** After each test: what our servers have answered is what openapi.json promises. */
import { afterEach } from "vitest"
import { take } from "./exchanges.ts"

afterEach(async () => {
  const exchanges = take()
  if (exchanges.length === 0) return
  const { problems } = await import("./contract.ts")
  const found = problems(exchanges)
  if (found.length > 0) throw new Error(`not what openapi.json promises:\n${found.join("\n")}`)
})
