/** How a run stands, in words. */
import type { Phase } from "./following";

export const TITLES: Record<Phase, string> = {
  starting: "Starting",
  training: "Training",
  stopping: "Stopping",
  completed: "Trained",
  interrupted: "Stopped",
  failed: "Failed",
  elsewhere: "Training",
  resting: "At rest",
  unknown: "Not found",
};

/** `served`: it is what the server serves now. */
export function toldOf(
  phase: Phase,
  step: number,
  served: boolean,
  error: string | null | undefined,
): string {
  const at = step.toLocaleString("en");
  switch (phase) {
    case "starting":
      return "The corpus is read and the model compiled; the first steps follow.";
    case "training":
      return "It learns while this page watches. You may leave: it goes on, and is found here again.";
    case "stopping":
      return "It finishes its step and saves what it has learnt.";
    case "completed":
      return served
        ? "It is trained, and is what this server serves from now on."
        : "It is trained. Another run is what this server serves now.";
    case "interrupted":
      return `It was stopped at step ${at}. What it had learnt is saved and can be looked at.`;
    case "failed":
      return `It failed at step ${at}: ${error ?? "its process.log says why"}.`;
    case "elsewhere":
      return "Another process trains it: it can be watched here, and is stopped where it was started.";
    case "resting":
      return `Nobody trains it now. It has come to step ${at}.`;
    case "unknown":
      return "The server has no run of this name any more. Close this, and choose or start another.";
  }
}
