/** Description of one option. Parsing, `--help` and the table in the README are all made from it. */
export interface OptionSpec<Name extends string = string> {
  /** Long name without dashes. */
  readonly name: Name
  readonly short?: string
  /** Variable that holds where the option is absent; an empty one counts as absent. */
  readonly env?: string
  /** Name of the value in help and messages. An option without one takes no value. */
  readonly value?: string
  /** Value where the option is absent, in the form that the command line takes. */
  readonly default?: string
  readonly help: string
  /** Accepted, but not shown. */
  readonly hidden?: true
  /** Must be given; `{ unless }` names the option that lifts this. */
  readonly required?: true | { readonly unless: NoInfer<Name> }
  /** Options that cannot be given together with this one. One side is enough. */
  readonly conflicts?: ReadonlyArray<NoInfer<Name>>
  /** Stands for itself, without its name: the word that is no option. */
  readonly positional?: true
  /** The rest of the command line is not looked at (`--help`). */
  readonly ends?: true
}

export type OptionTable<Name extends string = string> = ReadonlyArray<OptionSpec<Name>>

/** Names of the options of a table. */
export type NamesOf<Table> = Table extends OptionTable<infer Name> ? Name : never

/** Keeps the names of a table as a type. */
export const optionTable = <const Name extends string>(table: OptionTable<Name>): OptionTable<Name> => table

/** An option as messages and help show it: `--pgdata <DATADIR>`, a positional one `<FILE>`. */
export const label = (spec: OptionSpec): string => {
  const value = spec.value === undefined ? "" : `<${spec.value}>`
  return spec.positional === true ? value : `--${spec.name} ${value}`.trimEnd()
}
