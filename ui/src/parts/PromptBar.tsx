/** The text that all pages look at: typed once, kept in the address. */
import { useEffect, useState } from "react";
import { choose, useValue } from "../place";
import type { RunDetail } from "../api/queries";

const PAUSE_MS = 350;

/** The prompt of the place, or a sensible first one: how a text of the run's own corpus begins. */
export function usePrompt(run: RunDetail | undefined): string {
  const [prompt] = useValue("prompt");
  return prompt || run?.opening || "";
}

interface Props {
  run: RunDetail;
  label?: string;
  /** The value of the place that it is, and what it is while the place has none. */
  name?: string;
  usual?: string;
  onSubmit?: (prompt: string) => void;
}

export function PromptBar(props: Props) {
  const { run, label = "Prompt", name = "prompt", usual = run.opening, onSubmit } = props;
  const [chosen] = useValue(name);
  const prompt = chosen || usual;
  const [typed, setTyped] = useState<string | null>(null);
  useEffect(() => {
    if (typed === null) return;
    const timer = setTimeout(() => {
      choose({ [name]: typed });
      if (typed) setTyped(null);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed, name]);
  return (
    <label className="field prompt">
      <span>{label}</span>
      <textarea
        value={typed ?? prompt}
        rows={2}
        spellCheck={false}
        maxLength={run.max_prompt_bytes}
        onChange={(event) => setTyped(event.target.value)}
        // Emptied, it stands for the usual text again.
        onBlur={() => {
          if (typed !== "") return;
          choose({ [name]: null });
          setTyped(null);
        }}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          choose({ [name]: typed ?? prompt });
          onSubmit?.(typed ?? prompt);
        }}
      />
    </label>
  );
}
