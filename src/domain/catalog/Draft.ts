/** A plan in the making: the catalogs as they will be after the operations so far, and those operations. */
import type { Desired } from "./Desired.ts"
import { type Operation, type OperationOptions, operation } from "./Operation.ts"
import type { DatabaseState, RoleDependents, RoleState, Snapshot } from "./Snapshot.ts"

/** A role as it will be. */
export interface DraftRole {
  readonly verifier: string | undefined
  readonly dependents: RoleDependents | undefined
}

/** A database as it will be. */
export interface DraftDatabase {
  readonly state: DatabaseState
  /** Its name before the first operation. */
  readonly liveName: string
  /** Its owner, renames of roles applied. */
  readonly owner: string
}

export class Draft {
  readonly snapshot: Snapshot
  readonly desired: Desired
  readonly roles: Map<string, DraftRole>
  readonly databases: Map<string, DraftDatabase>
  readonly operations: Array<Operation> = []
  readonly warnings: Array<string> = []

  constructor(snapshot: Snapshot, desired: Desired) {
    this.snapshot = snapshot
    this.desired = desired
    this.roles = new Map(
      [...snapshot.roles].map(([name, role]: readonly [string, RoleState]) => [
        name,
        { verifier: role.verifier, dependents: snapshot.dependents.get(name) }
      ])
    )
    this.databases = new Map(
      [...snapshot.databases].map(([name, state]) => [name, { state, liveName: name, owner: state.owner }])
    )
  }

  add(options: OperationOptions): void {
    this.operations.push(operation(options))
  }
}
