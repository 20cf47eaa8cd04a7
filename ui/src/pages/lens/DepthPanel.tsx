/** One position of the text through all depths: how its answer forms, and what else was in question. */
import { useEffect, useState } from "react";
import type { Arrays } from "../../api/arrays";
import { type Focus, type FocusStore, NOWHERE } from "../../focus";
import { Odds } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import { oddsAt, shareIn, shareOfNext } from "./reading";
import { written } from "./PairedOdds";
import type { Cell } from "./score";

interface Props {
  lens: Arrays;
  tokens: readonly number[];
  vocabulary: Vocabulary;
  store: FocusStore;
  /** What is shown while the pointer is on nothing. */
  pinned: Cell;
  onDepth: (position: number, depth: number) => void;
}

const LISTED = 6;

/** Layers are counted from 0, so the state at depth 1 is the one after layer 0. */
export function shortDepth(depth: number): string {
  return depth === 0 ? "in" : String(depth - 1);
}

export function depthInWords(depth: number, depths: number): string {
  if (depth === 0) return "before any layer";
  return depth === depths - 1 ? `after layer ${depth - 1}, the last` : `after layer ${depth - 1}`;
}

/** The cell that the pointer is on, else the pinned one. */
export function usePointed(store: FocusStore, pinned: Cell): Cell {
  const [{ query, key }, setFocus] = useState<Focus>(NOWHERE);
  useEffect(() => store.listen(setFocus), [store]);
  return query === null || key === null ? pinned : { position: query, depth: key };
}

export function DepthPanel({ lens, tokens, vocabulary, store, pinned, onDepth }: Props) {
  const pointed = usePointed(store, pinned);
  const { position, depth } = pointed.position < tokens.length ? pointed : pinned;
  const depths = lens.fields.alternatives!.shape[0]!;
  const answer = oddsAt(lens, depths - 1, position)[0]!;
  const next = tokens[position + 1];
  const word = vocabulary.label(answer.id);
  const shareAt = (at: number) =>
    answer.id === next
      ? { share: shareOfNext(lens, at, position), exact: true }
      : shareIn(oddsAt(lens, at, position), answer.id);
  return (
    <aside className="stack" aria-label="One position, all depths">
      <div>
        <h2>
          After <span className="mono">{vocabulary.label(tokens[position]!)}</span>
        </h2>
        <p className="muted small">
          token {position} of {tokens.length - 1};{" "}
          {next === undefined ? (
            "the text ends here"
          ) : (
            <>
              <span className="mono">{vocabulary.label(next)}</span> follows
            </>
          )}
        </p>
      </div>
      <div className="stack tight">
        <h3>
          How <span className="mono">{word}</span> becomes the answer
        </h3>
        <ol className="depths" start={0}>
          {Array.from({ length: depths }, (_, at) => {
            const known = shareAt(at);
            const best = oddsAt(lens, at, position)[0]!;
            return (
              <li key={at}>
                <button
                  type="button"
                  aria-pressed={at === depth}
                  onClick={() => onDepth(position, at)}
                >
                  <span className="muted" aria-hidden>
                    {shortDepth(at)}
                  </span>
                  <span className="word">
                    <span className="unseen">{depthInWords(at, depths)}: says </span>
                    {vocabulary.label(best.id)}
                  </span>
                  <span className="bar" style={{ "--share": known.exact ? known.share : 0 }} />
                  <span className="number">
                    <span className="unseen">; {word} has </span>
                    {written(known)}
                  </span>
                </button>
              </li>
            );
          })}
        </ol>
        <p className="muted small">
          Each row is a layer: the word it would say, and the chance it gives to{" "}
          <span className="mono">{word}</span>.
        </p>
      </div>
      <div className="stack tight">
        <h3>In question {depthInWords(depth, depths)}</h3>
        <Odds odds={oddsAt(lens, depth, position).slice(0, LISTED)} vocabulary={vocabulary} />
      </div>
    </aside>
  );
}
