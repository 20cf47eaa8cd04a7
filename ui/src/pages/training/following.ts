/** The run that is watched: found by the place, or because it is under way, and followed to its end. */
import { useEffect, useState } from "react";
import { ask, askJson, type Problem, type Schemas } from "../../api/client";
import type { Run } from "../../api/queries";
import { renew } from "../../api/resource";
import { choose, useValue } from "../../place";
import { usePolled } from "../../api/polled";
import { idOf } from "./words";

export type Status = Schemas["RunStatus"];
export type Runs = Schemas["Runs"];

export type Phase =
  | "starting" // asked for, or compiling
  | "training"
  | "stopping"
  | "completed"
  | "interrupted"
  | "failed"
  | "elsewhere" // trained by another process
  | "resting" // nobody trains it
  | "unknown"; // no run has the name

export interface Following {
  /** What the place calls it: the id that the server gave it, or a name on the shelf. */
  readonly live: string;
  readonly run: Run | undefined;
  readonly status: Status | undefined;
  readonly phase: Phase;
  readonly under: boolean;
  readonly problem: Problem | null;
  readonly stop: (() => void) | null;
}

const LIVE_MS = 1000;
const RUNS_MS = 2000;
const QUIET_MS = 5000;
const BARE_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The runs on the shelf as they are now; who else shows them asks anew when they have changed. */
export function useShelf(busy: boolean): { runs: Runs | undefined; problem: Problem | null } {
  const polled = usePolled(
    "shelf",
    (signal) => askJson<Runs>("/api/runs", { signal }),
    busy ? RUNS_MS : QUIET_MS,
  );
  const { value } = polled;
  const seen = value && `${value.served} ${value.runs.map((run) => [run.name, run.steps.at(-1)])}`;
  const [first, setFirst] = useState<string | undefined>(undefined);
  if (seen !== undefined && first === undefined) setFirst(seen);
  const changed = seen !== undefined && first !== undefined && seen !== first;
  useEffect(() => {
    if (!changed) return;
    renew("runs");
    renew("run ");
  }, [seen, changed]);
  return { runs: value, problem: polled.problem };
}

export function findRun(runs: readonly Run[], live: string): Run | undefined {
  return runs.find(({ name }) => name === live || (BARE_ID.test(live) && idOf(name) === live));
}

/** The run that somebody trains now, those of this server first. */
export function underWay(runs: readonly Run[]): Run | undefined {
  const training = runs.filter((run) => run.training);
  return training.find(({ name }) => idOf(name)) ?? training[0];
}

export function phaseOf(
  run: Run | undefined,
  status: Status | undefined,
  missing: boolean,
  stopping: boolean,
): Phase {
  if (status && status.status !== "running") return status.status;
  if (status) {
    if (stopping) return "stopping";
    return status.steps_completed > 0 || (run?.steps.length ?? 0) > 0 ? "training" : "starting";
  }
  if (!run) return missing ? "unknown" : "starting";
  return run.training ? "elsewhere" : "resting";
}

export function useFollowing(runs: Runs | undefined): Following | null {
  const [chosen] = useValue("live");
  const found = runs && !chosen ? underWay(runs.runs) : undefined;
  const live = chosen || (found ? (idOf(found.name) ?? found.name) : "");
  useEffect(() => {
    if (live) choose({ live });
  }, [live]);

  const run = runs && findRun(runs.runs, live);
  const id = BARE_ID.test(live) ? live : idOf(live);
  const [ended, setEnded] = useState("");
  const [stopping, setStopping] = useState("");
  const asked = usePolled(
    id && `training ${id}`,
    async (signal) => {
      const status = await askJson<Status>(`/api/train/${id}/status`, { signal });
      if (status.status !== "running") setEnded(live);
      return status;
    },
    ended === live ? null : LIVE_MS,
  );
  const stopped = usePolled(
    stopping && stopping === live ? `stop ${id}` : null,
    (signal) => ask(`/api/train/${id}`, { method: "DELETE", signal }),
    null,
  );
  if (!live) return null;
  const missing = asked.problem?.status === 404;
  const status = asked.value?.status;
  const refused = stopped.problem !== null;
  const phase = phaseOf(run, asked.value, missing || !id, stopping === live && !refused);
  const under = ["starting", "training", "stopping", "elsewhere"].includes(phase);
  return {
    live,
    run,
    status: asked.value,
    phase: runs || asked.value ? phase : "starting",
    under,
    problem: (status === "running" ? stopped.problem : null) ?? (missing ? null : asked.problem),
    stop: status === "running" ? () => setStopping(live) : null,
  };
}
