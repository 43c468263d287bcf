// What the runtime of AssemblyScript calls when an assertion fails or an index is out of range: a line for the
// station's log, then a trap. In a file of its own that the compiler reads by itself.
import { Level, log } from "./portcall/index";

// @ts-ignore: decorator
@global
export function portcall_abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message === null ? "aborted" : message;
  log(`${what}, ${file === null ? "?" : file}:${line.toString()}:${column.toString()}`, Level.ERROR);
  unreachable();
}
