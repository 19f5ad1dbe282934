/** Whether a process is still the one that somebody wrote down. */
import { isAlive, startOf } from "../layers/processes.ts"

/** This process, in one line: pid and start. */
export const ownSignature = async (): Promise<string> => `${process.pid} ${await startOf(process.pid)}`

/** The pid in a signature if that process lives; a pid that was given to somebody else does not count. */
export const livingProcess = async (signature: string): Promise<number | undefined> => {
  const [text = "", started = ""] = signature.trim().split(" ")
  const pid = Number(text)
  if (!Number.isInteger(pid) || pid <= 0 || !(await isAlive(pid))) return undefined
  const now = await startOf(pid)
  return started === "" || now === "" || started === now ? pid : undefined
}
