/** Asking the server: JSON in, JSON or bytes out, and every failure a sentence that can be shown.
 *
 * Nothing here knows a route. Types of what is asked and answered are those of schema.ts, which is
 * generated from the server's OpenAPI document.
 */
import type { components, paths } from "./schema";
import { connection } from "./connection";

export type Schemas = components["schemas"];
export type Path = keyof paths;

/** Why there is no answer: a sentence for people. `status` 0: the server was not reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly tag: string,
    message: string,
    readonly retrySeconds: number | null = null,
    /** What else the answer told, such as how much was found and how much is required. */
    readonly told: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

const KEY = "nanogpt_jax.api_key";

/** The API key that was typed in this tab, for servers that want one. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key: string) => sessionStorage.setItem(KEY, key.trim()),
};

export interface Asking {
  method?: "GET" | "POST" | "DELETE";
  body?: unknown;
  accept?: string;
  signal?: AbortSignal | undefined;
}

/** The answer of a route; throws Problem, or the AbortError of `signal`. */
export async function ask(path: string, asking: Asking = {}): Promise<Response> {
  const { method = asking.body === undefined ? "GET" : "POST", body, accept, signal } = asking;
  const headers: Record<string, string> = { accept: accept ?? "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (apiKey.get()) headers.authorization = `Bearer ${apiKey.get()}`;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.lost();
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  connection.found();
  return response;
}

export async function askJson<T>(path: string, asking: Asking = {}): Promise<T> {
  const response = await ask(path, asking);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (asking.signal?.aborted) throw error;
    connection.lost();
    throw unreachable();
  }
}

export function unreachable(): Problem {
  return new Problem(
    0,
    "unreachable",
    "The server does not answer. It may be starting again: this page asks until it does.",
  );
}

/** What a refusal says, below /v1 in OpenAI's form and else in ours. */
async function problemOf(response: Response): Promise<Problem> {
  const retry = Number(response.headers.get("retry-after"));
  const content: unknown = await response.json().catch(() => null);
  const { error, message } = isRecord(content) ? content : {};
  const told = isRecord(error) ? error.message : message;
  const tag = isRecord(error) ? error.code : error;
  // A proxy answers so, in place of a server that is away.
  if (told === undefined && [502, 503, 504].includes(response.status)) {
    connection.lost();
    return unreachable();
  }
  return new Problem(
    response.status,
    typeof tag === "string" ? tag : "unknown",
    typeof told === "string" ? sentence(told) : `The server answered ${response.status}.`,
    Number.isFinite(retry) && retry > 0 ? retry : null,
    isRecord(content) ? content : {},
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** With a capital letter and a full stop. */
export function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

const MOST_PATIENCE_SECONDS = 30;

/** What `work` gives, asked again for as long as the server only says that it is busy. */
export async function patiently<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const began = Date.now();
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const busy = error instanceof Problem && (error.status === 429 || error.status === 503);
      const seconds = busy ? error.retrySeconds : null;
      const patient = Date.now() - began < 1000 * MOST_PATIENCE_SECONDS;
      if (!seconds || !patient || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      signal.throwIfAborted();
    }
  }
}

/** Any error as a sentence; null for work that was given up. */
export function problemFrom(error: unknown): Problem | null {
  if (error instanceof Problem) return error;
  if (error instanceof DOMException && error.name === "AbortError") return null;
  const told = error instanceof Error ? error.message : String(error);
  return new Problem(
    -1,
    "page",
    `This page failed: ${told}. Reload it; the address keeps your place.`,
  );
}
