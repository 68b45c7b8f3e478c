/** What the compiler says of programs of somebody who uses the package. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/**
 * Compiles programs, each in a file of its own by its name, in a project of which the package and its peers are
 * dependencies. Returns what is said of each, in their order.
 */
export const compile = async (
  programs: { readonly [name: string]: string }
): Promise<ReadonlyArray<ReadonlyArray<string>>> => {
  const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "absurd-types-"))
  try {
    await Fs.mkdir(Path.join(folder, "node_modules", "@types"), { recursive: true })
    const link = (name: string, target: string) =>
      Fs.symlink(Path.join(root, target), Path.join(folder, "node_modules", name), "dir")
    await Promise.all([
      link("effect-absurd", "."),
      ...["effect", "@effect", "vitest", "@types/node"].map((name) => link(name, `node_modules/${name}`)),
      Fs.writeFile(Path.join(folder, "package.json"), `{ "type": "module" }`),
      Fs.writeFile(
        Path.join(folder, "tsconfig.json"),
        JSON.stringify({
          extends: Path.join(root, "tsconfig.json"),
          compilerOptions: { noUnusedLocals: false, noUnusedParameters: false },
          include: ["*.ts"]
        })
      ),
      ...Object.entries(programs).map(([name, program]) => Fs.writeFile(Path.join(folder, `${name}.ts`), program))
    ])
    const output = await new Promise<string>((resolve) =>
      execFile(
        process.execPath,
        [Path.join(root, "node_modules/typescript/bin/tsc"), "-p", folder, "--pretty", "false"],
        { cwd: folder, maxBuffer: 64 * 1024 * 1024 },
        // It exits with an error when it has found one.
        (_, stdout, stderr) => resolve(stdout + stderr)
      )
    )
    const messages = output.split(/^(?=\S)/m).filter((message) => message !== "")
    const of = (name: string) => messages.filter((message) => message.startsWith(`${name}.ts(`))
    const names = Object.keys(programs)
    const strange = messages.filter((message) => !names.some((name) => message.startsWith(`${name}.ts(`)))
    if (strange.length > 0) throw new Error(`The compiler says of no program: ${strange.join("")}`)
    return names.map(of)
  } finally {
    await Fs.rm(folder, { recursive: true, force: true })
  }
}
