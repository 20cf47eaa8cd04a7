/** One setting and what the model writes with it. */
import type { Subject } from "../../api/queries";
import type { FocusStore } from "../../focus";
import { NumberField, Slider } from "../../parts/Field";
import { ProblemNotice } from "../../parts/Notice";
import { TokenText } from "../../parts/TokenText";
import { useSettings, type Side } from "./settings";
import { type Status, type Writing } from "./writing";

const TOLD: Record<Status, string> = {
  empty: "",
  writing: "writing…",
  stopped: "stopped by you",
  stop: "the model ended the text",
  length: "as long as you asked for",
  abort: "the server ended it",
  error: "",
};

interface SettingsProps {
  side: Side;
  most: number;
  vocabularySize: number;
}

export function SettingsRow({ side, most, vocabularySize }: SettingsProps) {
  const [settings, set] = useSettings(side);
  return (
    <div className="settings">
      <Slider
        label="Temperature"
        value={settings.temperature}
        min={0}
        max={2}
        step={0.05}
        shown={settings.temperature === 0 ? "0, likeliest" : settings.temperature.toFixed(2)}
        onChange={(value) => set("temperature", value)}
      />
      <Slider
        label="Top-k"
        value={settings.top_k}
        min={0}
        max={Math.min(100, vocabularySize)}
        step={1}
        shown={settings.top_k === 0 ? "off" : String(settings.top_k)}
        onChange={(value) => set("top_k", value)}
      />
      <Slider
        label="Top-p"
        value={settings.top_p}
        min={0.05}
        max={1}
        step={0.05}
        shown={settings.top_p === 1 ? "off" : settings.top_p.toFixed(2)}
        onChange={(value) => set("top_p", value)}
      />
      <NumberField
        label="Seed"
        value={settings.seed}
        min={0}
        max={2 ** 32 - 1}
        onChange={(value) => set("seed", value)}
      />
      <NumberField
        label="Tokens at most"
        value={settings.max_tokens}
        min={1}
        max={most}
        onChange={(value) => set("max_tokens", value)}
      />
    </div>
  );
}

interface OutputProps {
  subject: Subject;
  writing: Writing;
  store: FocusStore;
  pinned: number | null;
  onPin: (index: number) => void;
}

export function Output({ subject, writing, store, pinned, onPin }: OutputProps) {
  const { text, undo } = writing;
  const given = text.given.filter((id) => !subject.vocabulary.isSpecial(id));
  const tokens = [
    ...given.map((id) => ({ id, given: true })),
    ...text.tokens.map(({ id, logprob }) => ({ id, shade: Math.exp(logprob) })),
  ];
  return (
    <section className="stack tight output" aria-label="Continuation">
      <TokenText
        tokens={tokens}
        vocabulary={subject.vocabulary}
        label="The text as tokens"
        store={store}
        pinned={pinned === null ? null : pinned + given.length}
        onPin={(index) => {
          if (index >= given.length) onPin(index - given.length);
        }}
      />
      <div className="row small muted">
        <span aria-live="polite">{TOLD[text.status]}</span>
        {text.tokens.length > 0 && <span className="numeric">{text.tokens.length} tokens</span>}
        {text.before.length > 0 && (
          <button type="button" className="button quiet small" onClick={undo}>
            Back to before the branch
          </button>
        )}
      </div>
      <ProblemNotice problem={text.problem} />
    </section>
  );
}
