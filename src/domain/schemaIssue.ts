/**
 * One line about why a document was refused: `spec.cluster.roles[1].name: Expected string`.
 *
 * The rejected value is never part of it, whatever the decoder was told to report: documents carry passwords.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"

const plain = /^[A-Za-z_][A-Za-z0-9_]*$/u

const step = (path: string, key: PropertyKey): string => {
  if (typeof key === "number") return `${path}[${key}]`
  const name = String(key)
  if (!plain.test(name)) return `${path}[${JSON.stringify(name)}]`
  return path === "" ? name : `${path}.${name}`
}

/** What a schema wants, in JSON's own words where it has them. */
const expected = (schema: SchemaAST.AST): string => {
  const ast = SchemaAST.toEncoded(schema)
  if (SchemaAST.isObjects(ast)) return "an object"
  if (SchemaAST.isArrays(ast)) return "an array"
  if (SchemaAST.isString(ast)) return "string"
  if (SchemaAST.isUnion(ast)) return [...new Set(ast.types.map(expected))].join(" | ")
  return SchemaIssue.defaultLeafHook(new SchemaIssue.InvalidType(ast)).replace(/^Expected /u, "")
}

const annotated = (annotations: object | undefined): string | undefined =>
  annotations !== undefined && "message" in annotations && typeof annotations.message === "string"
    ? annotations.message
    : undefined

/** Issues are rebuilt without their input before the library words them. */
const leaf = (issue: SchemaIssue.Leaf): string => {
  switch (issue._tag) {
    case "InvalidType":
      return annotated(issue.ast.annotations) ?? `Expected ${expected(issue.ast)}`
    case "InvalidValue":
      return SchemaIssue.defaultLeafHook(new SchemaIssue.InvalidValue(issue.annotations))
    case "Forbidden":
      return SchemaIssue.defaultLeafHook(new SchemaIssue.Forbidden(issue.annotations))
    case "UnexpectedKey":
      return SchemaIssue.defaultLeafHook(new SchemaIssue.UnexpectedKey(issue.ast))
    case "OneOf":
      return SchemaIssue.defaultLeafHook(new SchemaIssue.OneOf(issue.ast, issue.successes))
    case "MissingKey":
      return SchemaIssue.defaultLeafHook(issue)
  }
}

/** Words of a failed check; undefined when the issue inside knows better, with a path of its own. */
const check = (issue: SchemaIssue.Filter): string | undefined => {
  const message = SchemaIssue.defaultCheckHook(issue)
  if (message !== undefined || issue.issue._tag !== "InvalidValue") return message
  const { expected: wanted = issue.filter.annotations?.expected } = issue.issue.annotations ?? {}
  return `Expected ${typeof wanted === "string" ? wanted : "a valid value"}`
}

const render = (issue: SchemaIssue.Issue, path: string): string => {
  const at = (message: string): string => (path === "" ? message : `${path}: ${message}`)
  switch (issue._tag) {
    case "Pointer":
      return render(issue.issue, issue.path.reduce<string>(step, path))
    case "Encoding":
      return render(issue.issue, path)
    case "Composite":
      return render(issue.issues[0], path)
    case "AnyOf": {
      const [first] = issue.issues
      return first === undefined
        ? at(annotated(issue.ast.annotations) ?? `Expected ${expected(issue.ast)}`)
        : render(first, path)
    }
    case "Filter": {
      const message = check(issue)
      return message === undefined ? render(issue.issue, path) : at(message)
    }
    default:
      return at(leaf(issue))
  }
}

/** The first problem, with the way to it in front; no path for the document itself. */
export const firstIssue = (error: Schema.SchemaError | SchemaIssue.Issue): string =>
  render(Schema.isSchemaError(error) ? error.issue : error, "")
