# Sourced. Sets `node` to the pinned Node below `$root`, else to the one in PATH; ends with an error without one.
# npm installs the package that fits this machine: in the project itself, or beside it where it is a dependency.
for node in "$root"/node_modules/node-linux-*/bin/node "$root"/../node-linux-*/bin/node none; do
  [ -x "$node" ] && break
done
if [ "$node" = none ]; then
  node=node
  version=$(node --version 2>/dev/null)
  major=${version#v}
  if ! [ "${major%%.*}" -ge 24 ] 2>/dev/null; then
    echo "compute_ctl: Node 24 or later is needed, the one in PATH is ${version:-missing}" >&2
    exit 1
  fi
fi
