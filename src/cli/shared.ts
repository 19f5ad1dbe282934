/** Options that several commands have. */

export const helpOption = { name: "help", short: "h", help: "Print help", ends: true } as const
