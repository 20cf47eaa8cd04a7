/** A prompt, what the model makes of it, and what it might have made of it. */
import { useEffect, useMemo, useState } from "react";
import type { PageProps } from "../../App";
import { FocusStore } from "../../focus";
import { Export } from "../../parts/Export";
import { Check } from "../../parts/Field";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { SettingFields } from "../../parts/SettingFields";
import { type SettingName, type Side, useSettings } from "../../parts/settings";
import { choose, goTo, useValue } from "../../place";
import { TokenPanel } from "./TokenPanel";
import { Output } from "./Output";
import { useWriting, type Writing } from "./writing";

const SETTINGS: readonly SettingName[] = ["temperature", "top_k", "top_p", "seed", "max_tokens"];

interface Pin {
  side: Side;
  index: number;
}

export function PromptPage({ subject }: PageProps) {
  const { run, vocabulary } = subject;
  const prompt = usePrompt(run);
  const [two] = useValue("two");
  const [settings] = useSettings("a");
  const [settingsB] = useSettings("b");
  const sides: Record<Side, Writing> = {
    a: useWriting(subject, settings),
    b: useWriting(subject, settingsB),
  };
  const shown: readonly Side[] = two ? ["a", "b"] : ["a"];
  const writing = shown.some((side) => sides[side].text.status === "writing");
  const stores = useMemo(() => ({ a: new FocusStore(), b: new FocusStore() }), []);
  const [pin, setPin] = useState<Pin | null>(null);
  const [hovered, setHovered] = useState<Pin | null>(null);
  useEffect(() => {
    const ends = (["a", "b"] as const).map((side) =>
      stores[side].listen(({ query }) =>
        setHovered(query === null ? null : { side, index: query }),
      ),
    );
    return () => ends.forEach((end) => end());
  }, [stores]);

  const start = (text: string) => {
    setPin(null);
    for (const side of shown) sides[side].write(text);
  };
  const stop = () => {
    for (const side of shown) sides[side].stop();
  };
  // What is hovered counts the prompt's tokens too.
  const given = (side: Side) =>
    sides[side].text.given.filter((id) => !vocabulary.isSpecial(id)).length;
  const pointed = hovered && { ...hovered, index: hovered.index - given(hovered.side) };
  const at = pointed && pointed.index >= 0 ? pointed : pin;
  const token = at ? sides[at.side].text.tokens[at.index] : undefined;
  const whole = (side: Side) =>
    vocabulary.decode([...sides[side].text.given, ...sides[side].text.tokens.map(({ id }) => id)]);

  return (
    <>
      <header>
        <h1>Let it write</h1>
        <p>The stronger the colour of a token, the surer the model was of it.</p>
      </header>
      <div className="beside">
        <div
          className="stack"
          onKeyDown={(event) => {
            if (event.key === "Escape" && writing) stop();
          }}
        >
          <PromptBar run={run} onSubmit={start} />
          <div className="row write">
            {writing ? (
              <button type="button" className="button primary" onClick={stop}>
                Stop
              </button>
            ) : (
              <button type="button" className="button primary" onClick={() => start(prompt)}>
                Write on
              </button>
            )}
            <Check checked={two !== ""} onChange={(on) => choose({ two: on ? 1 : null })}>
              two settings side by side
            </Check>
            <span className="end row">
              {sides.a.text.tokens.length > 0 && (
                <>
                  <button
                    type="button"
                    className="button small"
                    onClick={() => goTo("attention", { prompt: whole("a") })}
                  >
                    Look inside this text
                  </button>
                  <Export
                    name={`${run.name.replace(/\W+/g, "-")}-text`}
                    json={() =>
                      shown.map((side) => ({
                        run: run.name,
                        step: subject.step ?? run.served_step,
                        settings: side === "a" ? settings : settingsB,
                        text: whole(side),
                        prompt: sides[side].text.given,
                        tokens: sides[side].text.tokens,
                      }))
                    }
                  />
                </>
              )}
            </span>
          </div>
          <div className={two ? "columns" : "stack"}>
            {shown.map((side) => (
              <div key={side} className="stack card">
                <div className="settings">
                  <SettingFields
                    names={SETTINGS}
                    side={side}
                    most={run.max_tokens}
                    vocabularySize={vocabulary.size}
                  />
                </div>
                {sides[side].text.status === "empty" ? (
                  <p className="muted">Nothing is written yet.</p>
                ) : (
                  <Output
                    subject={subject}
                    writing={sides[side]}
                    store={stores[side]}
                    pinned={pin?.side === side ? pin.index : null}
                    onPin={(index) => setPin({ side, index })}
                  />
                )}
              </div>
            ))}
          </div>
        </div>
        <div className="sticky">
          <TokenPanel
            token={token}
            index={at?.index ?? 0}
            vocabulary={vocabulary}
            onBranch={(id) => {
              if (!at) return;
              sides[at.side].branch(at.index, id);
              setPin(at);
            }}
          />
        </div>
      </div>
    </>
  );
}
