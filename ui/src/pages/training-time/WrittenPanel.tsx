/** The prompt, and what the model made of it at one checkpoint. */
import { useEffect, useRef } from "react";
import type { FocusStore } from "../../focus";
import { Export } from "../../parts/Export";
import { NumberField } from "../../parts/Field";
import { percent } from "../../parts/Odds";
import { Segments } from "../../parts/Segments";
import { TokenText } from "../../parts/TokenText";
import { choose } from "../../place";
import type { Vocabulary } from "../../text/vocabulary";
import type { Frame } from "./frame";

interface Props {
  name: string;
  frame: Frame | undefined;
  waiting: boolean;
  frames: readonly Frame[];
  vocabulary: Vocabulary;
  store: FocusStore;
  position: number;
  drawn: boolean;
  seed: number;
}

const DRAWINGS = [
  ["", "Likeliest"],
  ["1", "By chance"],
] as const;

export function WrittenPanel(props: Props) {
  const { name, frame, waiting, frames, vocabulary, store, position, drawn, seed } = props;
  const written = frame?.written ?? [];
  const box = useRef<HTMLDivElement>(null);
  const length = frame?.prompt.length ?? 0;
  // Of a long prompt the end is shown, and what follows it.
  useEffect(() => {
    const first = box.current?.querySelector<HTMLElement>(`[data-index="${length}"]`);
    if (first) box.current!.scrollTop = first.offsetTop - box.current!.clientHeight / 3;
  }, [length]);
  const sure = written.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0) / written.length;
  return (
    <section className="card stack" aria-labelledby="written" data-step={frame?.step}>
      <div className="row">
        <h2 id="written">What it writes</h2>
        <span className="row end">
          {drawn && (
            <label className="seed">
              <NumberField
                label="Seed"
                value={seed}
                min={0}
                max={2 ** 32 - 1}
                onChange={(seed) => choose({ seed })}
              />
            </label>
          )}
          <Segments
            label="How tokens are chosen"
            options={DRAWINGS}
            value={drawn ? "1" : ""}
            onChange={(drawn) => choose({ drawn })}
          />
          <Export
            name={`${name}-over-training`}
            json={() =>
              frames.map(({ step, prompt, written }) => ({
                step,
                text: vocabulary.decode([...prompt, ...written.map(({ id }) => id)]),
                prompt,
                written,
              }))
            }
          />
        </span>
      </div>
      <p className="muted small">
        The prompt, plain, and how this checkpoint goes on. The stronger its colour, the surer it
        was of a token. Press a token of the prompt to ask what comes after it.
      </p>
      <div ref={box} className={waiting ? "page-text waiting" : "page-text"}>
        {frame && (
          <TokenText
            tokens={[
              ...frame.prompt.map((id) => ({ id, given: true })),
              ...written.map(({ id, logprob }) => ({ id, shade: Math.exp(logprob) })),
            ]}
            vocabulary={vocabulary}
            label="The text as tokens"
            store={store}
            pinned={position}
            onPin={(index) => {
              if (index < frame.prompt.length) choose({ pin: index });
            }}
          />
        )}
      </div>
      <p className="muted small numeric">
        {written.length > 0
          ? `${written.length} tokens, each given ${percent(sure)} on average`
          : frame && "It ends the text at once."}
        {"\u00a0"}
      </p>
    </section>
  );
}
