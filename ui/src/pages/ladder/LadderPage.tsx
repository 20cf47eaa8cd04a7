/** The four teaching models on one prompt: what each adds to the one before. */
import { useMemo, useState } from "react";
import { useRun, useRuns, useVocabulary } from "../../api/queries";
import { FocusStore } from "../../focus";
import { Select } from "../../parts/Field";
import { ProblemNotice } from "../../parts/Notice";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { SettingFields } from "../../parts/SettingFields";
import { useSettings } from "../../parts/settings";
import { choose, useNumber, useValue } from "../../place";
import { Command } from "../chat/NoChat";
import "./ladder.css";
import { useGuesses } from "./looking";
import { Losses } from "./Losses";
import { RungView } from "./RungView";
import { COMMAND, type Ladder, ladders, MODELS } from "./rungs";

export default function LadderPage() {
  const [again, setAgain] = useState(0);
  const runs = useRuns(again);
  const [name] = useValue("ladder");
  const found = useMemo(() => ladders(runs.value?.runs ?? []), [runs.value]);
  const ladder = found.find((each) => each.name === name) ?? found[0];
  return (
    <>
      <header>
        <h1>What each rung adds</h1>
        <p>
          Four models, from a table to a GPT, trained alike and asked the same. Each has one idea
          more than the one before.
        </p>
      </header>
      <ProblemNotice problem={runs.problem} retry={() => setAgain(again + 1)} />
      {ladder ? (
        <Rungs
          key={ladder.name}
          ladder={ladder}
          all={found}
          again={again}
          onAgain={() => setAgain(again + 1)}
        />
      ) : (
        runs.value && <NoLadder />
      )}
    </>
  );
}

function NoLadder() {
  return (
    <section className="stack card">
      <h2>No ladder on this shelf</h2>
      <p>
        A ladder is runs of embedding, single_head, multi_head and gpt with one tokenizer. All four
        take less than five minutes on two CPU cores:
      </p>
      <Command>{COMMAND}</Command>
      <p className="muted">
        Or train them one by one on the Training page, where each is a recipe on the corpus of the
        served run.
      </p>
    </section>
  );
}

interface Props {
  ladder: Ladder;
  all: readonly Ladder[];
  again: number;
  onAgain: () => void;
}

function Rungs({ ladder, all, again, onAgain }: Props) {
  const top = MODELS.findLast((model) => ladder.rungs[model])!;
  const { value: run, problem } = useRun(ladder.rungs[top]!.name, again);
  const vocabulary = useVocabulary(run);
  const prompt = usePrompt(run);
  const guesses = useGuesses(ladder, prompt, again);
  const [settings] = useSettings("a");
  const [at] = useNumber("at", -1);
  const store = useMemo(() => new FocusStore(), []);
  if (!run || !vocabulary) return <ProblemNotice problem={problem} retry={onAgain} />;
  return (
    <>
      <div className="asked">
        <PromptBar run={run} />
        <div className="settings">
          {all.length > 1 && (
            <Select
              label="Ladder"
              value={ladder.name}
              options={all.map(({ name }) => [name, name] as const)}
              onChange={(ladder) => choose({ ladder })}
            />
          )}
          <SettingFields names={["temperature", "seed"]} seedLabel="Seed, for all rungs" />
        </div>
      </div>
      <Losses ladder={ladder} prompt={prompt} entropy={run.entropy_nats} guesses={guesses} />
      <p className="muted small">
        The darker a token, the surer the rung was of it. Press a token to ask every rung what it
        expects after it, and where it looks from there: a row for each head (of a GPT, layer.head),
        a column for each token, stronger where it looks more.
      </p>
      <div className="rungs">
        {MODELS.map((model, index) => (
          <RungView
            key={model}
            model={model}
            number={index + 1}
            run={ladder.rungs[model]}
            guess={guesses[model]}
            prompt={prompt}
            settings={settings}
            vocabulary={vocabulary}
            store={store}
            pinned={at >= 0 ? at : null}
            onPin={(index) => choose({ at: index === at ? null : index })}
            again={again}
            onAgain={onAgain}
          />
        ))}
      </div>
    </>
  );
}
