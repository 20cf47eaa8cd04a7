/** The frames of a run's checkpoints, read in the background and kept.
 *
 * Those nearest to the slider come first; two are read at once. A checkpoint that is gone meanwhile is
 * passed over, any other failure ends the reading until it is asked for again.
 */
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { type Problem, problemFrom } from "../../api/client";
import { type Frame, loadFrame, type Question } from "./frame";

export interface Reel {
  readonly frames: ReadonlyMap<number, Frame>;
  /** Checkpoints that were listed and cannot be read, with the reason. */
  readonly missing: ReadonlyMap<number, Problem>;
  readonly problem: Problem | null;
}

type Load = (step: number, signal: AbortSignal) => Promise<Frame>;

const AT_ONCE = 2;

export class Film {
  private reel: Reel = { frames: new Map(), missing: new Map(), problem: null };
  private steps: readonly number[] = [];
  private step = 0;
  private controller = new AbortController();
  private readonly busy = new Set<number>();
  private readonly listeners = new Set<() => void>();

  constructor(private readonly load: Load) {}

  /** Reads what is not read of `steps`, from `step` outwards. */
  attend(steps: readonly number[], step: number): void {
    [this.steps, this.step] = [steps, step];
    while (this.busy.size < AT_ONCE) if (!this.begin()) return;
  }

  /** Gives up what is under way; `attend` begins again, also after a failure. */
  close(): void {
    this.controller.abort();
    this.controller = new AbortController();
    this.busy.clear();
    if (this.reel.problem) this.become({ problem: null });
  }

  get = (): Reel => this.reel;

  listen = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private begin(): boolean {
    const step = this.reel.problem ? undefined : this.next();
    if (step === undefined) return false;
    const { signal } = this.controller;
    this.busy.add(step);
    const end = (changes: Partial<Reel>) => {
      if (signal.aborted) return;
      this.busy.delete(step);
      this.become(changes);
      this.attend(this.steps, this.step);
    };
    this.load(step, signal).then(
      (frame) => end({ frames: new Map(this.reel.frames).set(step, frame) }),
      (error: unknown) => {
        const problem = problemFrom(error);
        if (!problem) return;
        if (problem.tag === "unknown_step") {
          end({ missing: new Map(this.reel.missing).set(step, problem) });
        } else end({ problem });
      },
    );
    return true;
  }

  private next(): number | undefined {
    const place = this.steps.indexOf(this.step);
    return this.steps
      .map((step, index) => ({ step, away: Math.abs(index - place) }))
      .filter(({ step }) => !this.known(step))
      .sort((one, other) => one.away - other.away)[0]?.step;
  }

  private known(step: number): boolean {
    return this.busy.has(step) || this.reel.frames.has(step) || this.reel.missing.has(step);
  }

  private become(changes: Partial<Reel>): void {
    this.reel = { ...this.reel, ...changes };
    for (const listener of this.listeners) listener();
  }
}

/** The frames of `steps` for a question; `again` reads on after a failure. */
export function useFilm(
  question: Question | null,
  steps: readonly number[],
  step: number,
  again: unknown,
): Reel {
  const key = JSON.stringify(question);
  const film = useMemo(() => {
    const asked = JSON.parse(key) as Question | null;
    return new Film((step, signal) =>
      asked ? loadFrame(asked, step, signal) : Promise.reject(new Error("nothing is asked")),
    );
  }, [key]);
  useEffect(() => () => film.close(), [film, again]);
  useEffect(() => {
    if (key !== "null") film.attend(steps, step);
  }, [film, key, steps, step, again]);
  return useSyncExternalStore(film.listen, film.get);
}
