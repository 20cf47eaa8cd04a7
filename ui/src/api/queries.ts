/** The questions that pages ask, each a hook. */
import { useMemo } from "react";
import { useValue } from "../place";
import { Vocabulary } from "../text/vocabulary";
import { type Arrays, decodeArrays } from "./arrays";
import { ask, askJson, patiently, type Schemas } from "./client";
import { fetchKept, type Resource, useResource } from "./resource";
import { inTurn } from "./turns";

export type Run = Schemas["Run"];
export type RunDetail = Schemas["RunInFull"];
export type Checkpoint = Schemas["Checkpoint"];

/** `path` with those of `values` that there are, as its query. */
export function withQuery(path: string, values: Record<string, string | number | null>): string {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return given.length ? `${path}?${query}` : path;
}

/** All runs on the shelf; asked anew when `again` changes. */
export function useRuns(again: unknown = 0): Resource<Schemas["Runs"]> {
  return useResource("runs", (signal) => askJson("/api/runs", { signal }), again);
}

/** One run in full; "" is the one that is served. */
export function useRun(name: string, again: unknown = 0): Resource<RunDetail> {
  const path = withQuery("/api/run", { run: name });
  return useResource(`run ${name}`, (signal) => askJson(path, { signal }), again);
}

export function useVocabulary(run: RunDetail | undefined): Vocabulary | undefined {
  const path = withQuery("/api/vocabulary", { run: run?.name ?? "" });
  const found = useResource<Schemas["Vocabulary"]>(
    // Runs with one tokenizer share it.
    run ? `vocabulary ${run.tokenizer_sha256}` : null,
    (signal) => askJson(path, { signal }),
  );
  const { value } = found;
  return useMemo(() => value && new Vocabulary(value.bytes, value.special), [value]);
}

/** What is looked at: a run, one of its checkpoints, and the words that its tokens stand for. */
export interface Subject {
  readonly run: RunDetail;
  readonly vocabulary: Vocabulary;
  /** null: the newest, or as it is served. */
  readonly step: number | null;
  /** Whether this is what the engine serves, which alone can stream. */
  readonly served: boolean;
}

/** Which parameters these are. What else is told of a run is news, and comes while it is looked at. */
export function nameOf({ run, step }: Subject): string {
  return `${run.name} ${step ?? run.served_step}`;
}

export interface Choice {
  readonly subject: Subject | undefined;
  readonly problem: Resource<unknown>["problem"];
}

/** The subject that the place names. */
export function useSubject(again: unknown = 0): Choice {
  const [name] = useValue("run");
  const [stepText] = useValue("step");
  const { value: run, problem } = useRun(name, again);
  const vocabulary = useVocabulary(run);
  const wanted = stepText === "" ? null : Number(stepText);
  const step = wanted !== null && run?.steps.includes(wanted) ? wanted : null;
  const subject = useMemo(() => {
    if (!run || !vocabulary) return undefined;
    const served = run.served_step !== null && (step === null || step === run.served_step);
    return { run, vocabulary, step, served };
  }, [run, vocabulary, step]);
  return { subject, problem };
}

/** What an inspection is asked besides the run. */
export type Question = Readonly<Record<string, unknown>> & { readonly run: string | null };
export type Inspection = "tokens" | "lens" | "attention" | "ablate" | "patch" | "silence";

export function inspectionKey(what: Inspection, question: Question): string {
  return `${what} ${JSON.stringify(question)}`;
}

export async function inspect(
  what: Inspection,
  question: Question,
  signal: AbortSignal,
): Promise<Arrays> {
  const accept = "application/octet-stream, application/json;q=0.1";
  const asking = { body: question, accept, signal };
  const work = () => patiently(() => ask(`/api/inspect/${what}`, asking), signal);
  const response = await inTurn(work, signal);
  return decodeArrays(await response.arrayBuffer());
}

/** The same from what is kept, for who asks for many. */
export function inspectKept(
  what: Inspection,
  question: Question,
  signal: AbortSignal,
): Promise<Arrays> {
  const load = (signal: AbortSignal) => inspect(what, question, signal);
  return fetchKept(inspectionKey(what, question), load, signal);
}

/** The answer to a question; null asks nothing. */
export function useInspection(
  what: Inspection,
  question: Question | null,
  again: unknown = 0,
): Resource<Arrays> {
  const key = question && inspectionKey(what, question);
  return useResource(key, (signal) => inspect(what, question!, signal), again);
}
