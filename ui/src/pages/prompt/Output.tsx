/** What the model writes with one setting. */
import type { Subject } from "../../api/queries";
import type { FocusStore } from "../../focus";
import { ProblemNotice } from "../../parts/Notice";
import { TokenText } from "../../parts/TokenText";
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
