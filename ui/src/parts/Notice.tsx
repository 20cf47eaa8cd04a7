/** What went wrong, in a sentence, with what can be done; and what is waited for. */
import type { ReactNode } from "react";
import type { Problem } from "../api/client";

export function ProblemNotice({
  problem,
  retry,
}: {
  problem: Problem | null;
  retry?: (() => void) | undefined;
}) {
  if (!problem) return null;
  return (
    <div className="notice problem" role="alert">
      <span>{problem.message}</span>
      {retry && problem.status !== 0 && (
        <button type="button" className="button small" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <div className="empty">{children}</div>;
}
