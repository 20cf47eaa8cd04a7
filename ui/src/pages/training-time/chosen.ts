/** What is chosen on this page, as the address has it, and what that asks of every checkpoint. */
import type { RunDetail } from "../../api/queries";
import { useNumber, useValue } from "../../place";
import { looksOf, type Question } from "./frame";
import { type Speed, SPEEDS } from "./player";

const WRITTEN = 48;

export interface Chosen {
  readonly layer: number;
  readonly head: number;
  /** By chance, and not always the likeliest token. */
  readonly drawn: boolean;
  readonly seed: number;
  readonly speed: Speed;
  readonly question: Question;
}

/** A link may say anything: the whole number below `size` that is nearest. */
function within(value: number, size: number): number {
  return Math.min(Math.max(Math.round(value), 0), Math.max(size - 1, 0));
}

export function useChosen(run: RunDetail, prompt: string, checkpoints: number): Chosen {
  const [wantedLayer] = useNumber("layer", 0);
  const [wantedHead] = useNumber("head", 0);
  const [drawnText] = useValue("drawn");
  const [seed] = useNumber("seed", 1);
  const [temperature] = useNumber("temperature", 0.8);
  const [speed] = useValue("speed");
  const [layer, head] = [within(wantedLayer, run.n_layer), within(wantedHead, run.n_head)];
  const drawn = drawnText !== "";
  return {
    layer,
    head,
    drawn,
    seed,
    speed: speed in SPEEDS ? (speed as Speed) : "usual",
    question: {
      run: run.name,
      prompt,
      temperature: drawn ? temperature : 0,
      seed: drawn ? seed : 0,
      max_tokens: Math.min(WRITTEN, run.max_tokens),
      looks: looksOf(run, prompt, checkpoints, { layer, head }),
      lens: run.sites.includes("residual"),
    },
  };
}

/** The position that is asked about: the pinned one, or the last. */
export function usePosition(length: number): number {
  const [pinned] = useNumber("pin", length - 1);
  return within(pinned, length);
}
