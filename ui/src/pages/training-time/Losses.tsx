/** The loss curves over the checkpoints' axis, with the step that is looked at. */
import { type Ref, useMemo } from "react";
import type { RunDetail } from "../../api/queries";
import type { Drawing } from "../../parts/Canvas";
import { Curve, type Series } from "../../parts/Curve";
import { alongCheckpoints } from "./axis";
import { lineOf, type Story } from "../../api/story";

interface Props {
  run: RunDetail;
  story: Story;
  steps: readonly number[];
  step: number;
  go: (step: number) => void;
  drawing: Ref<Drawing>;
}

const LINES = [
  { name: "train/loss", title: "on training text", colour: "--edge", faint: true },
  { name: "val/loss", title: "on held-out text", colour: "--accent", faint: false },
] as const;
const HEIGHT = 140;

export function Losses({ run, story, steps, step, go, drawing }: Props) {
  const series = useMemo(
    () =>
      LINES.flatMap(({ name, title, colour, faint }): Series[] => {
        const line = lineOf(story, name);
        return line.steps.length ? [{ ...line, name: title, colour, faint }] : [];
      }),
    [story],
  );
  const along = useMemo(() => alongCheckpoints(steps), [steps]);
  const floor = useMemo(
    () =>
      run.entropy_nats === null
        ? undefined
        : { value: run.entropy_nats, name: "least possible: the corpus’ own entropy" },
    [run.entropy_nats],
  );
  return (
    <Curve
      label="Loss of the run by step, in nats a token"
      series={series}
      height={HEIGHT}
      along={along}
      stops={steps}
      floor={floor}
      step={step}
      onStep={go}
      drawing={drawing}
      digits={3}
    />
  );
}
