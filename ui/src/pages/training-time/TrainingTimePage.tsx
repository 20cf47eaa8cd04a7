/** A run's checkpoints as a film: the same prompt at every step, its text, its attention and what it
 * expects next as they form, beside the loss.
 */
import { useEffect, useMemo, useState } from "react";
import type { PageProps } from "../../App";
import { type RunDetail, useRun } from "../../api/queries";
import { Empty } from "../../parts/Notice";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { thinned } from "./axis";
import { FilmView } from "./FilmView";
import { TooFew } from "./TooFew";
import "./training-time.css";

const MOST_FRAMES = 48;
const FOLLOW_MS = 3000;

/** The run as it is now; one in training is asked again and again. */
function useFollowed(run: RunDetail): RunDetail {
  const [again, setAgain] = useState(0);
  const now = useRun(run.name, again).value ?? run;
  useEffect(() => {
    if (!now.training) return;
    const timer = setInterval(() => setAgain((count) => count + 1), FOLLOW_MS);
    return () => clearInterval(timer);
  }, [now.training]);
  return now;
}

export default function TrainingTimePage({ subject }: PageProps) {
  const run = useFollowed(subject.run);
  const prompt = usePrompt(run);
  // The list is new with each answer, and mostly the same.
  const listed = run.steps.join(" ");
  const steps = useMemo(
    () => thinned(listed ? listed.split(" ").map(Number) : [], MOST_FRAMES),
    [listed],
  );
  return (
    <>
      <header>
        <h1>Watch it learn</h1>
        <p>
          One prompt, answered by every checkpoint of a training. Press play, or move the slider.
        </p>
      </header>
      {steps.length < 2 ? (
        <TooFew run={run} />
      ) : (
        <>
          <div className="one-line">
            <PromptBar run={run} />
          </div>
          {prompt ? (
            <FilmView
              key={run.name}
              run={run}
              vocabulary={subject.vocabulary}
              steps={steps}
              prompt={prompt}
            />
          ) : (
            <Empty>Type how a text begins, and see how each checkpoint goes on.</Empty>
          )}
        </>
      )}
    </>
  );
}
