/** The film of one run: the transport over it, and all views of the frame that is shown. */
import { useCallback, useMemo, useRef, useState } from "react";
import { useConnection } from "../../api/connection";
import type { RunDetail } from "../../api/queries";
import { FocusStore } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { ProblemNotice } from "../../parts/Notice";
import { choose, useNumber } from "../../place";
import type { Vocabulary } from "../../text/vocabulary";
import { useStories } from "../../api/stories";
import { NOTHING } from "../../api/story";
import { nearest } from "./axis";
import { useChosen, usePosition } from "./chosen";
import { useFilm } from "./film";
import { type Frame, lookOf, meanNats } from "./frame";
import { LayersPanel } from "./LayersPanel";
import { LearnedPanel } from "./LearnedPanel";
import { LookPanel } from "./LookPanel";
import { Losses } from "./Losses";
import { usePlayer } from "./player";
import { RemarkList, Subtitle } from "./RemarkList";
import { remarksOf } from "./remarks";
import { Strip } from "./Strip";
import { Transport } from "./Transport";
import { WrittenPanel } from "./WrittenPanel";

const FOLLOW_MS = 3000;
const NOTHING_READ: readonly number[] = [];

interface Props {
  run: RunDetail;
  vocabulary: Vocabulary;
  steps: readonly number[];
  prompt: string;
}

export function FilmView({ run, vocabulary, steps: all, prompt }: Props) {
  const [again, setAgain] = useState(0);
  const { epoch } = useConnection();
  const [wanted] = useNumber("step-at", all.at(-1)!);
  const { question, layer, head, drawn, seed, speed } = useChosen(run, prompt, all.length);
  const told = useStories([run.name], run.training ? FOLLOW_MS : null, again);
  const story = told.stories.get(run.name) ?? NOTHING;

  const reel = useFilm(question, all, nearest(all, wanted), `${again} ${epoch}`);
  const { frames, missing } = reel;
  const steps = useMemo(() => {
    const left = all.filter((step) => !missing.has(step));
    return left.length > 0 ? left : all;
  }, [all, missing]);
  const gone = missing.size === all.length ? missing.get(all[0]!)! : null;
  const step = nearest(steps, wanted);
  const go = useCallback((step: number) => choose({ "step-at": step }), []);
  const player = usePlayer({ steps, step, ready: (step) => frames.has(step), speed, go });

  // Until a frame is there, the one before stays.
  const found = frames.get(step);
  const [frame, setFrame] = useState<Frame>();
  if (found && found !== frame) setFrame(found);
  const waiting = !found;
  const position = usePosition(frame?.prompt.length ?? 1);

  const read = useMemo(
    () => steps.map((step) => frames.get(step)).filter((each) => each !== undefined),
    [steps, frames],
  );
  const complete = read.length === steps.length;
  const remarks = useMemo(
    () => (complete ? remarksOf(read, { position, layer, head }, vocabulary) : null),
    [complete, read, position, layer, head, vocabulary],
  );
  const store = useMemo(() => new FocusStore(), []);
  const strip = useRef<Drawing>(null);
  const curve = useRef<Drawing>(null);
  const looks = question.looks !== undefined;
  const name = run.name.replace(/\W+/g, "-");
  const shared = { name, frame, waiting, vocabulary, position, store };
  const loss = found ? meanNats(found) : null;

  return (
    <>
      <ProblemNotice
        problem={reel.problem ?? gone ?? told.problem}
        retry={() => setAgain(again + 1)}
      />
      <div className="film">
        <Transport steps={steps} step={step} go={go} player={player} speed={speed}>
          of {(run.total_steps ?? steps.at(-1)!).toLocaleString("en")}
          {loss !== null && `, loss ${loss.toFixed(2)}`}
          {loss !== null && <span className="wide"> on the prompt</span>}
        </Transport>
        <div className="axis">
          {looks && <Strip {...{ steps, step, frames, layer, head, go }} drawing={strip} />}
          <progress
            className={complete ? "reading done" : "reading"}
            aria-label="Checkpoints read"
            value={read.length}
            max={steps.length}
          />
          <Losses run={run} story={story} steps={steps} step={step} go={go} drawing={curve} />
        </div>
        <div className="row below">
          <Subtitle remarks={remarks} step={step} read={read.length} count={steps.length} />
          {looks && (
            <Export
              label="Export strip"
              name={`${name}-strip-${layer}-${head}`}
              drawing={strip}
              json={() =>
                read.map((each) => ({ step: each.step, attention: lookOf(each, layer, head) }))
              }
            />
          )}
          <Export
            label="Export curve"
            name={`${name}-losses`}
            drawing={curve}
            json={() => story.series}
          />
        </div>
        <div className="panels">
          <div className="stack">
            <WrittenPanel {...shared} frames={read} drawn={drawn} seed={seed} />
            {looks && (
              <LookPanel
                {...shared}
                layer={layer}
                head={head}
                layers={run.n_layer}
                heads={run.n_head}
              />
            )}
          </div>
          <div className="stack">
            <LayersPanel {...shared} />
            <LearnedPanel
              {...shared}
              prompt={(read[0] ?? frame)?.prompt ?? NOTHING_READ}
              steps={steps}
              step={step}
              frames={frames}
            />
            <RemarkList remarks={remarks} step={step} go={go} />
          </div>
        </div>
      </div>
    </>
  );
}
