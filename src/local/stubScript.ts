/** Texts of the programs in front of the real Postgres. They need `sh` and coreutils alone. */

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** How long a start and a sync wait for the answer, in seconds. */
const limits = { start: 10, sync: 300 } as const

/**
 * `bin/postgres`. Requests go as one line, `VERB PID PGDATA` with tabs, into a pipe that the store keeps open; the answer
 * comes through a pipe named after the pid: lines `1text` for stdout, `2text` for stderr, and last `xN`, the exit code.
 * File descriptor 3 is left alone: it is how the parent sees the last descendant end.
 */
export const postgresScript = (options: {
  /** Absolute path of the real binary. */
  readonly real: string
  readonly spool: string
  /** Process that answers. */
  readonly storePid: number
}): string => `#!/bin/sh
# Stand-in for postgres: announces starts to the local storage and answers --sync-safekeepers.
real=${quote(options.real)}
spool=${quote(options.spool)}
store=${options.storePid}

refuse() {
  printf 'local storage: %s\\n' "$1" >&2
  exit 1
}

clean() {
  if [ -n "$reader" ]; then
    kill "$reader" 2>/dev/null
    # A signal may come too early for the reader's child: it opens a pipe with a writer, or none, and sees its end.
    { rm -f "$reply"; } 4<>"$reply" 2>/dev/null
  fi
  rm -f "$reply" "$reply.text"
}

# ask VERB LIMIT PGDATA: sets code
ask() {
  case $3 in /*) pgdata=$3 ;; *) pgdata=$PWD/$3 ;; esac
  [ -p "$spool/requests" ] || refuse "it is not running"
  kill -0 "$store" 2>/dev/null || [ -d "/proc/$store" ] || refuse "it is not running"
  reply=$spool/reply.$$
  reader=
  trap 'clean; exit 143' TERM
  trap 'clean; exit 130' INT
  rm -f "$reply"
  mkfifo -m 600 "$reply" || refuse "no way to ask it"
  timeout --foreground "$2" cat "$reply" >"$reply.text" &
  reader=$!
  printf '%s\\t%s\\t%s\\n' "$1" "$$" "$pgdata" 1<>"$spool/requests"
  wait "$reader"
  reader=
  code=
  while IFS= read -r line; do
    case $line in
      1*) printf '%s\\n' "\${line#1}" ;;
      2*) printf '%s\\n' "\${line#2}" >&2 ;;
      x*) code=\${line#x} ;;
    esac
  done <"$reply.text"
  clean
  trap - TERM INT
  [ -n "$code" ] || refuse "it did not answer"
}

if [ $# -eq 1 ] && [ "$1" = --sync-safekeepers ]; then
  ask sync ${limits.sync} "$PGDATA"
  exit "$code"
fi

directory=
server=yes
previous=
for argument in "$@"; do
  case $previous in -D) directory=$argument ;; esac
  case $argument in
    -D) ;;
    -D*) directory=\${argument#-D} ;;
    -C|-V|--version|--single|--boot|--check|--describe-config|--help) server= ;;
  esac
  previous=$argument
done
if [ -n "$server" ] && [ -n "$directory" ]; then
  ask start ${limits.start} "$directory"
  [ "$code" -eq 0 ] || exit "$code"
fi
exec "$real" "$@"
`

/** `bin/pg_config` for installations that come without it: the few values that are asked for. */
export const pgConfigScript = (prefix: string, version: string): string => `#!/bin/sh
prefix=${quote(prefix)}
case $1 in
  --version) echo "PostgreSQL ${version}" ;;
  --bindir) echo "$prefix/bin" ;;
  --libdir) echo "$prefix/lib" ;;
  --pkglibdir) echo "$prefix/lib/postgresql" ;;
  --sharedir) echo "$prefix/share/postgresql" ;;
  *) echo "pg_config: no such value here: $1" >&2; exit 1 ;;
esac
`
