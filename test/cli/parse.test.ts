import { resolve } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { fsmHelp, localHelp, nodeHelp, operatorHelp, planHelp, validateHelp } from "../../src/cli/help.ts"
import { label, type OptionTable } from "../../src/cli/OptionSpec.ts"
import { operatorCommands, statusOptions } from "../../src/cli/operator/options.ts"
import { fsmOptions, localOptions, nodeOptions, planOptions, validateOptions } from "../../src/cli/options.ts"
import { bootOf, type Command, parse } from "../../src/cli/parse.ts"
import type { FileProbe } from "../../src/cli/program.ts"
import type { Environment } from "../../src/cli/values.ts"
import type { ComputeParams } from "../../src/domain/ComputeParams.ts"

const programs = new Set(["/pg/bin/postgres", "/usr/bin/postgres", "/srv/rel/postgres"])
const probe: FileProbe = {
  cwd: "/srv",
  program: (path) => (programs.has(path) ? "executable" : path === "/pg/bin/plain" ? "not executable" : "missing")
}
const env: Environment = { PATH: "/nowhere:/usr/bin" }
const required = ["-D", "/data", "-C", "postgresql://cloud_admin@localhost:55433/postgres", "-i", "compute-1"]
const minimal = [...required, "-c", "/etc/config.json"]

const commandOf = (argv: ReadonlyArray<string>, variables: Environment = env): Command =>
  Result.getOrThrowWith(parse(argv, variables, probe), (error) => new Error(error.message))

const nodeOf = (argv: ReadonlyArray<string>, variables: Environment = env): ComputeParams => {
  const command = commandOf(argv, variables)
  if (command._tag !== "Node") throw new Error(`got ${command._tag}`)
  return command.params
}

const localOf = (argv: ReadonlyArray<string>, variables: Environment = env) => {
  const command = commandOf(["local", ...argv], variables)
  if (command._tag !== "Local") throw new Error(`got ${command._tag}`)
  return command.params
}

const planOf = (argv: ReadonlyArray<string>, variables: Environment = env) => {
  const command = commandOf(["plan", ...argv], variables)
  if (command._tag !== "Plan") throw new Error(`got ${command._tag}`)
  return command.params
}

/** Message of a usage error. */
const refusal = (argv: ReadonlyArray<string>, variables: Environment = env): string => {
  const parsed = parse(argv, variables, probe)
  return Result.isFailure(parsed) ? parsed.failure.message : `accepted: ${JSON.stringify(parsed.success)}`
}

/** The minimal command line without one of its options. */
const without = (...flags: ReadonlyArray<string>): ReadonlyArray<string> => {
  const rest = [...minimal]
  for (const flag of flags) rest.splice(rest.indexOf(flag), 2)
  return rest
}

describe("the command line of the node", () => {
  it("S-001 the minimal command line gives every default", () => {
    const params = nodeOf(minimal)
    expect({ ...params, postgres: undefined, environment: undefined }).toEqual({
      computeId: "compute-1",
      pgdata: "/data",
      connstr: "postgresql://cloud_admin@localhost:55433/postgres",
      postgres: undefined,
      pgbin: "/usr/bin/postgres",
      source: { _tag: "ConfigFile", path: "/etc/config.json" },
      externalHttpPort: 3080,
      internalHttpPort: 3081,
      externalHttpHost: undefined,
      internalHttpHost: "localhost",
      privilegedRoleName: "neon_superuser",
      reconcile: "incremental",
      runAs: undefined,
      remoteExtBaseUrl: undefined,
      cgroup: "neon-postgres",
      filecacheConnstr:
        "host=localhost port=5432 dbname=postgres user=cloud_admin sslmode=disable application_name=vm-monitor",
      vmMonitorAddr: "0.0.0.0:10301",
      resizeSwapOnBind: false,
      setDiskQuotaForFs: undefined,
      installedExtensionsCollectionInterval: 3600,
      dev: false,
      pgInitTimeout: undefined,
      lakebaseMode: false,
      instanceId: undefined,
      buildTag: "latest",
      autoscaling: false,
      environment: undefined,
      basebackupRetries: 10,
      failpoints: undefined
    })
    expect(params.postgres).toMatchObject({ host: "localhost", port: 55433, user: "cloud_admin", database: "postgres" })
    expect(params.environment).toEqual(env)
  })

  it("long names mean the same as short ones", () => {
    const long = nodeOf([
      ...["--pgdata", "/data", "--connstr", "postgresql://cloud_admin@localhost:55433/postgres"],
      ...["--compute-id", "compute-1", "--config", "/etc/config.json"]
    ])
    expect(long).toEqual(nodeOf(minimal))
  })

  it.each([
    { form: ["-D", "/data"] },
    { form: ["-D/data"] },
    { form: ["-D=/data"] },
    { form: ["--pgdata", "/data"] },
    { form: ["--pgdata=/data"] }
  ])("$form is the data directory", ({ form }) => {
    expect(nodeOf([...without("-D"), ...form]).pgdata).toBe("/data")
  })

  it("an apply looks into what changed, or with --reconcile full into everything", () => {
    expect(nodeOf([...minimal, "--reconcile", "full"]).reconcile).toBe("full")
    expect(nodeOf([...minimal, "--reconcile=incremental"]).reconcile).toBe("incremental")
    expect(refusal([...minimal, "--reconcile", "always"])).toBe(
      "invalid value for '--reconcile <incremental|full>': possible values are incremental and full"
    )
    expect(nodeHelp()).toContain("--reconcile <incremental|full>")
  })

  it("a value may hold an equals sign", () => {
    expect(nodeOf([...minimal, "--filecache-connstr=host=a port=1"]).filecacheConnstr).toBe("host=a port=1")
    expect(nodeOf([...minimal, "--filecache-connstr", "host=a"]).filecacheConnstr).toBe("host=a")
  })

  it("a value that begins with a dash has to be attached", () => {
    expect(nodeOf([...minimal, "--cgroup=-x"]).cgroup).toBe("-x")
    expect(nodeOf([...without("-i"), "-i-x"]).computeId).toBe("-x")
    expect(nodeOf([...without("-i"), "-i=-x"]).computeId).toBe("-x")
    expect(refusal([...minimal, "--cgroup", "-x"])).toBe(
      "a value is required for '--cgroup <CGROUP>' but none was supplied"
    )
    expect(nodeOf([...minimal, "--cgroup", "-"]).cgroup).toBe("-")
  })

  it("a path that is not absolute starts in the working directory", () => {
    expect(nodeOf([...without("-D"), "-D", "pgdata/"]).pgdata).toBe("/srv/pgdata")
  })

  it.each([
    { argv: [...minimal, "-D", "/other"], message: "the argument '--pgdata <DATADIR>' cannot be used multiple times" },
    { argv: [...minimal, "--dev", "--dev"], message: "the argument '--dev' cannot be used multiple times" },
    { argv: [...minimal, "--pgdta", "/x"], message: "unexpected argument '--pgdta' found, did you mean '--pgdata'?" },
    { argv: [...minimal, "--pgdta=/x"], message: "unexpected argument '--pgdta' found, did you mean '--pgdata'?" },
    { argv: [...minimal, "--something"], message: "unexpected argument '--something' found" },
    { argv: [...minimal, "--PGDATA=/x"], message: "unexpected argument '--PGDATA' found" },
    { argv: [...minimal, "--pgd=/x"], message: "unexpected argument '--pgd' found" },
    { argv: [...minimal, "-x"], message: "unexpected argument '-x' found" },
    { argv: [...minimal, "stray"], message: "unexpected argument 'stray' found" },
    { argv: [...minimal, "--", "stray"], message: "unexpected argument 'stray' found" },
    { argv: [...minimal, "a\nb"], message: "unexpected argument 'a\\u000ab' found" },
    { argv: [...minimal, "--dev=true"], message: "unexpected value 'true' for '--dev' found: it takes none" },
    { argv: ["-D"], message: "a value is required for '--pgdata <DATADIR>' but none was supplied" },
    { argv: [...without("-D"), "--pgdata="], message: "invalid value for '--pgdata <DATADIR>': it is empty" },
    { argv: [...without("-D"), "-D", "a\0b"], message: "invalid value for '--pgdata <DATADIR>': it holds a NUL byte" },
    { argv: ["lcal"], message: "unrecognized command 'lcal', did you mean 'local'?" },
    { argv: ["pln"], message: "unrecognized command 'pln', did you mean 'plan'?" },
    { argv: ["start"], message: "unrecognized command 'start'" }
  ])("refused: $message", ({ argv, message }) => {
    expect(refusal(argv)).toBe(message)
  })

  it("two dashes at the end change nothing", () => {
    expect(nodeOf([...minimal, "--"])).toEqual(nodeOf(minimal))
  })

  it("S-002 options that are missing are named in one line", () => {
    const provided = "the following required arguments were not provided:"
    expect(refusal(without("-i"))).toBe(`${provided} --compute-id <COMPUTE_ID>`)
    expect(refusal(without("-D"))).toBe(`${provided} --pgdata <DATADIR>`)
    expect(refusal(without("-C"))).toBe(`${provided} --connstr <DATABASE_URL>`)
    expect(refusal(required)).toBe(`${provided} one of (--config, --control-plane-uri, --spec-path)`)
    expect(refusal([])).toBe(
      `${provided} --pgdata <DATADIR>, --connstr <DATABASE_URL>, --compute-id <COMPUTE_ID>, ` +
        "one of (--config, --control-plane-uri, --spec-path)"
    )
  })

  it("the configuration comes from a file, a control plane or a spec file", () => {
    const token = { ...env, NEON_CONTROL_PLANE_TOKEN: "secret" }
    const asked = nodeOf([...required, "-p", "http://cplane:1234/api"], token).source
    expect(asked).toMatchObject({ _tag: "ControlPlane", uri: "http://cplane:1234/api" })
    expect(asked._tag === "ControlPlane" && Redacted.value(asked.token)).toBe("secret")
    expect(String(JSON.stringify(asked))).not.toContain("secret")
    const tokenless = nodeOf([...required, "-p", "http://cplane"]).source
    expect(tokenless._tag === "ControlPlane" && Redacted.value(tokenless.token)).toBe("")
    expect(nodeOf([...required, "-S", "spec.json"]).source).toEqual({ _tag: "SpecFile", path: "spec.json" })
    expect(refusal([...required, "-p", "cplane:1234"])).toContain("not an http or https URL")
  })

  it("with a spec file the id of the compute may be missing", () => {
    expect(nodeOf([...without("-i", "-c"), "--spec-path=s.json"]).computeId).toBeUndefined()
  })

  it.each([
    ["--config <CONFIG>", "--control-plane-uri <CONTROL_PLANE_API_BASE_URL>", ["-c", "f", "-p", "http://x"]],
    ["--config <CONFIG>", "--spec-path <FILE>", ["-S", "f", "-c", "f"]],
    ["--control-plane-uri <CONTROL_PLANE_API_BASE_URL>", "--spec-path <FILE>", ["-S", "f", "-p", "http://x"]],
    ["--http-port <PORT>", "--external-http-port <PORT>", ["--http-port=1", "--external-http-port=3080", "-c", "f"]],
    ["--http-port <PORT>", "--internal-http-port <PORT>", ["--internal-http-port=2", "--http-port=1", "-c", "f"]]
  ])("%s excludes %s", (one, other, argv) => {
    expect(refusal([...required, ...argv])).toBe(`the argument '${one}' cannot be used with '${other}'`)
  })

  it("--http-port counts in lakebase mode alone", () => {
    const ports = (argv: ReadonlyArray<string>) => {
      const { externalHttpPort, internalHttpPort } = nodeOf([...minimal, ...argv])
      return [externalHttpPort, internalHttpPort]
    }
    expect(ports(["--http-port", "7000"])).toEqual([3080, 3081])
    expect(ports(["--http-port", "7000", "--lakebase-mode", "true"])).toEqual([7000, 7001])
    expect(ports(["--external-http-port", "0", "--internal-http-port", "65535"])).toEqual([0, 65535])
    expect(refusal([...minimal, "--http-port=65535", "--lakebase-mode=true"])).toContain("no port after it")
  })

  it.each([
    { text: "65536", why: "65536 is not in 0..=65535" },
    { text: "-1", why: "not a whole number" },
    { text: "80.5", why: "not a whole number" },
    { text: "", why: "not a whole number" },
    { text: "0x50", why: "not a whole number" },
    { text: "9".repeat(500), why: "not a whole number" }
  ])("a port is not $text", ({ text, why }) => {
    expect(refusal([...minimal, `--external-http-port=${text}`])).toMatch(
      /^invalid value '.{0,201}' for '--external-http-port <PORT>': /u
    )
    expect(refusal([...minimal, `--external-http-port=${text}`])).toContain(why)
  })

  it("numbers are read as Rust reads them", () => {
    expect(nodeOf([...minimal, "--external-http-port=+0080"]).externalHttpPort).toBe(80)
    expect(nodeOf([...minimal, "--pg-init-timeout=18446744073709551615"]).pgInitTimeout).toBe(2 ** 64)
    expect(refusal([...minimal, "--pg-init-timeout=18446744073709551616"])).toContain(
      "is not in 0..=18446744073709551615"
    )
  })

  it("--lakebase-mode takes true or false, the flags take nothing", () => {
    expect(nodeOf([...minimal, "--lakebase-mode", "true"]).lakebaseMode).toBe(true)
    expect(nodeOf([...minimal, "--lakebase-mode=false"]).lakebaseMode).toBe(false)
    expect(refusal([...minimal, "--lakebase-mode=yes"])).toContain("possible values are true and false")
    expect(refusal([...minimal, "--lakebase-mode"])).toContain("a value is required for '--lakebase-mode <true|false>'")
    expect(nodeOf([...minimal, "--dev", "--resize-swap-on-bind"])).toMatchObject({ dev: true, resizeSwapOnBind: true })
    expect(refusal([...minimal, "--dev", "true"])).toBe("unexpected argument 'true' found")
  })

  it.each([
    ["http://gw/subpath", "http://gw/subpath/"],
    ["http://gw/subpath///", "http://gw/subpath/"],
    ["http://gw//", "http://gw/"],
    ["https://gw", "https://gw/"],
    ["http://gw/a#part", "http://gw/a"]
  ])("S-003 extensions come from %s: %s", (given, url) => {
    expect(nodeOf([...minimal, "-r", given]).remoteExtBaseUrl).toBe(url)
  })

  it("S-004 a base URL of extensions has no query parameters", () => {
    expect(refusal([...minimal, "-r", "https://example.com?hello=world"])).toBe(
      "invalid value for '--remote-ext-base-url <URL>': parameters detected in remote extensions base URL"
    )
    expect(refusal([...minimal, "-r", "example.com"])).toContain("not an http or https URL")
    expect(refusal([...minimal, "-r", "ftp://example.com"])).toContain("not an http or https URL")
  })

  it("S-005 S-006 the name of the privileged role has lowercase letters and underscores", () => {
    expect(nodeOf([...minimal, "--privileged-role-name", "my_superuser"]).privilegedRoleName).toBe("my_superuser")
    for (const name of ["NeonSuperuser", "neon1", "", "a-b", "a\n"]) {
      expect(refusal([...minimal, `--privileged-role-name=${name}`])).toBe(
        "--privileged-role-name can only contain lowercase letters and underscores"
      )
    }
  })

  it("--connstr is a URL, and its password is not repeated in errors", () => {
    for (const connstr of [
      "host=localhost user=me password=hunter2",
      "mysql://me:hunter2@h/db",
      "",
      "postgresql://me:hunter2@h:port/x"
    ]) {
      const message = refusal([...without("-C"), `--connstr=${connstr}`])
      expect(message).toMatch(/^invalid value for '--connstr <DATABASE_URL>': /u)
      expect(message).not.toContain("hunter2")
    }
  })

  it("P3 a bare program name is looked up in PATH, a path starts in the working directory", () => {
    expect(nodeOf([...minimal, "-b", "/pg/bin/postgres"]).pgbin).toBe("/pg/bin/postgres")
    expect(nodeOf([...minimal, "-b", "rel/postgres"]).pgbin).toBe("/srv/rel/postgres")
    expect(nodeOf(minimal, { ...env, POSTGRES_PATH: "/pg/bin/postgres" }).pgbin).toBe("/pg/bin/postgres")
    expect(nodeOf(minimal, { ...env, POSTGRES_PATH: "" }).pgbin).toBe("/usr/bin/postgres")
    expect(nodeOf(minimal, { PATH: "rel" }).pgbin).toBe("/srv/rel/postgres")
    expect(nodeOf([...minimal, "-b", "postgres"], { ...env, POSTGRES_PATH: "/nowhere" }).pgbin).toBe(
      "/usr/bin/postgres"
    )
  })

  it.each([
    { argv: ["-b", "/pg/bin/none"], variables: env, why: "'/pg/bin/none' does not exist" },
    { argv: ["-b", "/pg/bin/plain"], variables: env, why: "'/pg/bin/plain' is not an executable file" },
    { argv: [], variables: { PATH: "/nowhere" }, why: "no program 'postgres' in PATH" },
    { argv: [], variables: {}, why: "no program 'postgres' in PATH" },
    { argv: ["-b", ""], variables: env, why: "it is empty" }
  ])("P3 a program that cannot be run is a usage error: $why", ({ argv, variables, why }) => {
    expect(refusal([...minimal, ...argv], variables)).toBe(`invalid value for '--pgbin <PGBIN>': ${why}`)
  })

  it("P6 H1 the new options reach the parameters", () => {
    const params = nodeOf([
      ...minimal,
      ...["--run-as", "pg", "--internal-http-host", "0.0.0.0", "--external-http-host", "::1"]
    ])
    expect(params).toMatchObject({ runAs: "pg", internalHttpHost: "0.0.0.0", externalHttpHost: "::1" })
  })

  it("the environment says what the command line cannot", () => {
    const variables = { ...env, AUTOSCALING: "", INSTANCE_ID: "i-1", NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES: "0" }
    expect(nodeOf(minimal, variables)).toMatchObject({ autoscaling: true, instanceId: "i-1", basebackupRetries: 0 })
    expect(nodeOf(minimal, { ...env, INSTANCE_ID: "" }).instanceId).toBeUndefined()
    for (const text of ["ten", "", "65536"]) {
      expect(refusal(minimal, { ...env, NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES: text })).toMatch(
        /^invalid value '.*' for 'NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES': /u
      )
    }
  })

  it("logs and traces are set up from the environment", () => {
    const boot = bootOf({
      RUST_LOG: "debug",
      TRACEPARENT: "00-1",
      TRACESTATE: "",
      OTEL_SDK_DISABLED: "true",
      OTEL_X: "",
      PATH: "/"
    })
    expect(boot).toEqual({
      rustLog: "debug",
      traceparent: "00-1",
      tracestate: undefined,
      otel: { OTEL_SDK_DISABLED: "true" }
    })
  })
})

describe("compute_ctl local", () => {
  it("needs no option", () => {
    expect(localOf([])).toEqual({
      dataDir: undefined,
      postgres: { _tag: "Bundled" },
      pageservers: 2,
      port: 55432,
      externalHttpPort: 3080,
      internalHttpPort: 3081,
      runAs: undefined,
      buildTag: "latest",
      environment: env
    })
  })

  it("reads its options", () => {
    const argv = ["--data-dir=d", "--pg-version", "15", "--port", "1", "--http-port", "2", "--internal-http-port", "3"]
    expect(localOf([...argv, "--run-as=me", "--pageservers=3"])).toMatchObject({
      dataDir: "/srv/d",
      pageservers: 3,
      postgres: { _tag: "Version", major: 15 },
      port: 1,
      externalHttpPort: 2,
      internalHttpPort: 3,
      runAs: "me"
    })
  })

  it("runs the Postgres that is asked for; a version wins over the environment", () => {
    const path = { ...env, POSTGRES_PATH: "/pg/bin/postgres" }
    expect(localOf(["-b", "postgres"]).postgres).toEqual({ _tag: "Binary", pgbin: "/usr/bin/postgres" })
    expect(localOf([], path).postgres).toEqual({ _tag: "Binary", pgbin: "/pg/bin/postgres" })
    expect(localOf(["--pg-version=14"], path).postgres).toEqual({ _tag: "Version", major: 14 })
    expect(refusal(["local", "-b", "x", "--pg-version=14"])).toContain("cannot be used with '--pg-version <14..18>'")
    expect(refusal(["local", "--pg-version=13"])).toContain("13 is not one of 14, 15, 16, 17, 18")
  })

  it("does not take options of the node", () => {
    expect(refusal(["local", "--pgdata=/x"])).toBe("unexpected argument '--pgdata' found")
  })

  it("refuses a number of pageservers that is none, and ports that nobody can find", () => {
    for (const value of ["0", "17", "-1", "two", "1.5", ""]) {
      expect(refusal(["local", `--pageservers=${value}`]), value).toMatch(
        /^invalid value .*'--pageservers <1\.\.16>': (?:\d+ is not in 1\.\.=16|not a whole number)$/u
      )
    }
    for (const name of ["port", "http-port", "internal-http-port"]) {
      expect(refusal(["local", `--${name}=0`])).toBe(`invalid value for '--${name} <PORT>': 0 is not in 1..=65535`)
    }
  })
})

describe("compute_ctl local move", () => {
  it("needs no option: the next pageserver, on the usual data directory", () => {
    const move = { _tag: "LocalMove", params: { dataDir: undefined, to: undefined, environment: env } }
    expect(commandOf(["local", "move"])).toEqual(move)
  })

  it("reads its options, and refuses others", () => {
    const { params } = { params: undefined, ...commandOf(["local", "move", "--data-dir", "d", "--to=2"]) }
    expect(params).toMatchObject({ dataDir: "/srv/d", to: 2 })
    expect(refusal(["local", "move", "--to=0"])).toBe("invalid value for '--to <N>': 0 is not in 1..=65535")
    expect(refusal(["local", "move", "--to", "two"])).toBe("invalid value 'two' for '--to <N>': not a whole number")
    expect(refusal(["local", "move", "--port=1"])).toBe("unexpected argument '--port' found")
    expect(refusal(["local", "move", "2"])).toBe("unexpected argument '2' found")
  })
})

describe("compute_ctl plan", () => {
  const needed = ["--config", "c.json", "--connstr", "postgresql://me:pw@h:1/db"]

  it("needs a document and a server", () => {
    expect(planOf(needed)).toEqual({
      config: "c.json",
      postgres: { host: "h", port: 1, user: "me", password: "pw", database: "db", options: undefined },
      privilegedRoleName: "neon_superuser",
      lakebaseMode: false,
      full: false,
      json: false
    })
    expect(refusal(["plan"])).toBe(
      "the following required arguments were not provided: --config <FILE>, --connstr <URL>"
    )
  })

  it("reads its options", () => {
    const argv = ["-c=c.json", "-C=postgresql://me@h", "--privileged-role-name=boss", "--lakebase-mode", "true"]
    expect(planOf([...argv, "--full", "--json"])).toMatchObject({
      config: "c.json",
      privilegedRoleName: "boss",
      lakebaseMode: true,
      full: true,
      json: true
    })
  })

  it("refuses what the node refuses, and does not repeat a password", () => {
    const server = refusal(["plan", "--config=c.json", "--connstr=host=h password=hunter2"])
    expect(server).toMatch(/^invalid value for '--connstr <URL>': /u)
    expect(server).not.toContain("hunter2")
    expect(refusal(["plan", ...needed, "--privileged-role-name=A"])).toBe(
      "--privileged-role-name can only contain lowercase letters and underscores"
    )
    expect(refusal(["plan", ...needed, "--lakebase-mode=yes"])).toContain("possible values are true and false")
    expect(refusal(["plan", ...needed, "--pgdata=/x"])).toBe("unexpected argument '--pgdata' found")
    expect(refusal(["plan", "--config=", "--connstr=postgresql://h"])).toBe(
      "invalid value for '--config <FILE>': it is empty"
    )
  })
})

describe("compute_ctl validate", () => {
  it("needs a document and nothing else", () => {
    const validate = (params: object) => ({ _tag: "Validate", params })
    expect(commandOf(["validate", "--config", "c.json"])).toEqual(validate({ config: "c.json", json: false }))
    expect(commandOf(["validate", "-cc.json", "--json"])).toEqual(validate({ config: "c.json", json: true }))
    expect(refusal(["validate", "--json"])).toBe("the following required arguments were not provided: --config <FILE>")
    expect(refusal(["validate", "c.json"])).toBe("unexpected argument 'c.json' found")
    expect(refusal(["validate", "-c=c.json", "--full"])).toBe("unexpected argument '--full' found")
  })
})

describe("compute_ctl fsm", () => {
  it("needs nothing, and takes nothing but the choice of the language", () => {
    expect(commandOf(["fsm"])).toEqual({ _tag: "Fsm", json: false })
    expect(commandOf(["fsm", "--json"])).toEqual({ _tag: "Fsm", json: true })
    expect(refusal(["fsm", "json"])).toBe("unexpected argument 'json' found")
  })
})

describe("the commands that ask a running node", () => {
  const operatorOf = (argv: ReadonlyArray<string>, variables: Environment = env) => {
    const command = commandOf(argv, variables)
    if (command._tag !== "Operator") throw new Error(`got ${command._tag}`)
    return command.params
  }

  it.each(["timeline", "reconcile", "refresh", "metrics"] as const)("%s needs nothing", (name) => {
    expect(operatorOf([name])).toEqual({
      action: { _tag: name },
      url: "http://127.0.0.1:3080",
      internalUrl: "http://127.0.0.1:3081",
      token: undefined,
      json: false,
      plain: false
    })
  })

  it("have options of their own", () => {
    expect(operatorOf(["status"]).action).toEqual({ _tag: "status", watch: false })
    expect(operatorOf(["status", "-w"]).action).toEqual({ _tag: "status", watch: true })
    expect(operatorOf(["terminate"]).action).toEqual({ _tag: "terminate", mode: "fast" })
    expect(operatorOf(["terminate", "--mode=immediate"]).action).toEqual({ _tag: "terminate", mode: "immediate" })
    expect(operatorOf(["configure", "c.json", "--json"])).toMatchObject({
      action: { _tag: "configure", file: "c.json" },
      json: true
    })
    expect(operatorOf(["configure", "--json", "-"]).action).toEqual({ _tag: "configure", file: "-" })
  })

  it("take the token from the variable, unless one is given", () => {
    const variables = { ...env, COMPUTE_CTL_TOKEN: "of the variable" }
    const tokenOf = (...argv: ReadonlyArray<string>) => operatorOf(["status", ...argv], variables).token
    expect(tokenOf()).toEqual(Redacted.make("of the variable"))
    expect(tokenOf("--token", "given")).toEqual(Redacted.make("given"))
    expect(JSON.stringify(operatorOf(["status"], variables))).not.toContain("of the variable")
  })

  it("have no colours where the environment wants none", () => {
    expect(operatorOf(["status"], { ...env, NO_COLOR: "1" }).plain).toBe(true)
    expect(operatorOf(["status"], { ...env, TERM: "dumb" }).plain).toBe(true)
    expect(operatorOf(["status"], { ...env, NO_COLOR: "", TERM: "xterm" }).plain).toBe(false)
  })

  it("refuse what they cannot use", () => {
    expect(refusal(["configure"])).toBe("the following required arguments were not provided: <FILE>")
    expect(refusal(["configure", "a", "b"])).toBe("unexpected argument 'b' found")
    expect(refusal(["configure", "--file=a"])).toBe("unexpected argument '--file' found")
    expect(refusal(["status", "now"])).toBe("unexpected argument 'now' found")
    expect(refusal(["timeline", "--watch"])).toBe("unexpected argument '--watch' found")
    expect(refusal(["terminate", "--mode=slow"])).toBe(
      "invalid value for '--mode <fast|immediate>': possible values are fast and immediate"
    )
    for (const url of ["nonsense", "ftp://x", "127.0.0.1:3080"]) {
      expect(refusal(["status", "--url", url])).toBe("invalid value for '--url <URL>': not an http or https URL")
    }
    expect(refusal(["stauts"])).toBe("unrecognized command 'stauts', did you mean 'status'?")
    expect(refusal(["help", "terminat"])).toBe("unrecognized command 'terminat', did you mean 'terminate'?")
  })
})

describe("help and version", () => {
  const printed = (argv: ReadonlyArray<string>): string => {
    const command = commandOf(argv)
    return command._tag === "Print" ? command.text : `got ${command._tag}`
  }

  it.each([
    { title: "the node", text: nodeHelp(), table: nodeOptions },
    { title: "local mode", text: localHelp(), table: localOptions },
    { title: "plan", text: planHelp().replace(/^Usage: .*$/mu, ""), table: planOptions },
    { title: "validate", text: validateHelp().replace(/^Usage: .*$/mu, ""), table: validateOptions },
    { title: "fsm", text: fsmHelp().replace(/^Usage: .*$/mu, ""), table: fsmOptions },
    ...operatorCommands.map((command) => {
      const table: OptionTable = command.options
      const named = table.filter((spec) => spec.positional !== true)
      return { title: command.name, text: operatorHelp(command).split("Options:")[1] ?? "", table: named }
    })
  ])("S-001 the help of $title lists every option once, and no short name clashes", ({ table, text }) => {
    for (const spec of table) {
      expect(text.split(new RegExp(`--${spec.name}(?![\\w-])`, "u")), spec.name).toHaveLength(2)
      expect(text).toContain(label(spec))
    }
    const short = table.flatMap((spec) => spec.short ?? [])
    expect(new Set(short).size).toBe(short.length)
    expect(new Set(table.map((spec) => spec.name)).size).toBe(table.length)
    expect(text.split("\n").filter((line) => line.length > 100)).toEqual([])
  })

  it("help is printed wherever it is asked for, even beside what is missing", () => {
    for (const argv of [["--help"], ["-h"], ["help"], ["help", "help"], ["--dev", "--help"], ["-h", "--nonsense"]]) {
      expect(printed(argv)).toBe(nodeHelp())
    }
    const operatorHelps = operatorCommands.map((command) => [command.name, operatorHelp(command)] as const)
    for (const [name, text] of [
      ...Object.entries({ local: localHelp(), plan: planHelp(), validate: validateHelp(), fsm: fsmHelp() }),
      ...operatorHelps
    ]) {
      for (const argv of [
        [name, "--help"],
        [name, "-h"],
        ["help", name]
      ]) {
        expect(printed(argv)).toBe(text)
      }
    }
    expect(refusal(["--nonsense", "--help"])).toContain("'--nonsense'")
    expect(refusal(["help", "nonsense"])).toContain("'nonsense'")
  })

  it("the version names the build", () => {
    expect(printed(["--version"])).toMatch(/^compute_ctl \S+ \(build tag latest\)\n$/u)
    expect(printed(["-V"])).toBe(printed(["--version"]))
  })
})

const words = [
  ...[...nodeOptions, ...localOptions, ...planOptions, ...validateOptions, ...fsmOptions, ...statusOptions].flatMap(
    (spec) => [`--${spec.name}`, `--${spec.name}=`, `-${spec.short ?? "x"}`]
  ),
  ...[
    "local",
    "plan",
    "validate",
    "fsm",
    "status",
    "configure",
    "terminate",
    "help",
    "--",
    "-",
    "",
    "--=",
    "-=",
    "/pg/bin/postgres",
    "postgresql://a@b/c",
    "http://x",
    "true",
    "1",
    "\u{1F600}"
  ]
]
const Word = Schema.Union([Schema.Literals(words), Schema.String])

it.prop(
  "any command line gives parameters, a text or a one-line error",
  [Arbitrary.array(Arbitrary.schema(Word), { maxLength: 12 }), Arbitrary.schema(Schema.Boolean)],
  ([argv, complete]) => {
    const parsed = parse(complete ? [...minimal, ...argv] : argv, env, { ...probe, cwd: resolve("/") })
    return Result.isSuccess(parsed) || /^[^\p{Cc}\p{Zl}\p{Zp}]{1,1000}$/u.test(parsed.failure.message)
  },
  { arbitrary: { runs: 1000 } }
)
