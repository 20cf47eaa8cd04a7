/** The real server on really trained runs (tests/inspector_runs.py), for all test files.
 *
 * The runs are kept in e2e/.runs, for the next time; each time a copy is served, because tests train.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** Where the server answers, such as http://127.0.0.1:8787. */
    server: string;
    /** The folder of the runs that it serves. */
    shelf: string;
  }
}

const REPOSITORY = resolve(import.meta.dirname, "../..");
const RUN = join(REPOSITORY, "scripts/run");
const environment = () => ({
  ...process.env,
  NANOGPT_EXTRAS: process.env.NANOGPT_EXTRAS ?? "serve",
});

/** Starts a server on `shelf`/story, or where a flag says; it answers at `url`. */
export async function serve(
  shelf: string,
  ...flags: string[]
): Promise<{ url: string; process: ChildProcess }> {
  const words = ["-m", "nanogpt_jax.serve", "--rate=0"];
  const given = (name: string) => flags.some((flag) => flag.startsWith(name));
  if (!given("--workdir")) words.push(`--workdir=${join(shelf, "story")}`);
  if (!given("--port")) words.push("--port=0");
  const server = spawn(RUN, ["python", ...words, ...flags], {
    cwd: REPOSITORY,
    env: environment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  const url = await new Promise<string>((found, failed) => {
    server.stderr.on("data", (piece: Buffer) => (log += piece.toString()));
    server.stdout.on("data", (piece: Buffer) => {
      log += piece.toString();
      const address = /on (http:\/\/127\.0\.0\.1:\d+) /.exec(log);
      if (address) found(address[1]!);
    });
    server.on("exit", (code) => failed(new Error(`the server ended with ${code}:\n${log}`)));
  });
  return { url, process: server };
}

export async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null) return;
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGTERM");
  await ended;
}

export default async function setup(project: TestProject) {
  const kept = join(import.meta.dirname, ".runs");
  execFileSync(RUN, ["python", "-m", "tests.inspector_runs", kept], {
    cwd: REPOSITORY,
    env: environment(),
    stdio: ["ignore", "inherit", "inherit"],
  });
  const shelf = mkdtempSync(join(tmpdir(), "inspector-"));
  cpSync(kept, shelf, { recursive: true });
  const { url, process } = await serve(shelf);
  project.provide("server", url);
  project.provide("shelf", shelf);
  return async () => {
    await end(process);
    rmSync(shelf, { recursive: true, force: true });
  };
}
