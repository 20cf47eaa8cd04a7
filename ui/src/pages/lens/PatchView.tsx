/** Patching: states of one text's run are put into another's, to see which of them carry the answer. */
import { useMemo, useState } from "react";
import { type Subject, useInspection } from "../../api/queries";
import { FocusStore } from "../../focus";
import { Empty, ProblemNotice } from "../../parts/Notice";
import { PromptBar } from "../../parts/PromptBar";
import { Segments } from "../../parts/Segments";
import { choose, useValue } from "../../place";
import { Aligned } from "./Aligned";
import { asked, oddsAt, sameText, tokensOf } from "./reading";
import { Answers } from "./Answers";
import { exchanged, formatExchanges } from "./exchange";
import { ExchangePanel } from "./ExchangePanel";
import { useTextPair } from "./pair";
import { PatchMaps } from "./PatchMaps";
import { Room } from "./Ramp";
import { LEAST_GAP, recoveryOf } from "./recovery";
import { SITE_NAMES, SITES, type Site } from "./sites";

export function PatchView({ subject }: { subject: Subject }) {
  const { run, vocabulary } = subject;
  const [again, setAgain] = useState(0);
  const [siteText, setSite] = useValue("site", "residual");
  const [picking, setPicking] = useState<number | null>(null);
  const store = useMemo(() => new FocusStore(), []);
  const able = run.sites.includes("head_out");
  const sites = SITE_NAMES.filter((name) => run.sites.includes(name));
  const site: Site = sites.find((name) => name === siteText) ?? "residual";

  const pair = useTextPair(subject, able, again);
  const { clean, other, first, second, settled, suggestion, end, answer } = pair;
  const even = clean.length === other.length;
  const read = [clean.slice(0, end + 1), other.slice(0, end + 1)] as const;
  const ready = settled && even && !sameText(...read);
  const patching = useInspection(
    "patch",
    ready ? { ...asked(subject), clean: read[0], corrupted: read[1], site, answer } : null,
    again,
  );
  const recovery = useMemo(() => patching.value && recoveryOf(patching.value), [patching.value]);
  const gap = recovery ? recovery.clean - recovery.corrupted : 0;

  if (!able) {
    return (
      <>
        <PromptBar run={run} />
        <Empty>{run.name} has no attention heads to patch. Choose another run above.</Empty>
      </>
    );
  }
  const exchange = (position: number, id: number) => {
    const next = exchanged(even ? other : clean, [{ position, id }]);
    const kept = position <= end ? { end, answer } : { end: null, answer: null };
    choose({ exchange: formatExchanges(clean, next), corrupted: null, ...kept });
    setPicking(null);
  };
  // What is suggested becomes chosen once something about it is changed.
  const held = () => (suggestion ? { exchange: formatExchanges(clean, other) } : {});
  return (
    <>
      <div className="columns">
        <PromptBar run={run} label="First text, with the answer" />
        <PromptBar
          run={run}
          label="Second text, which leads elsewhere"
          name="corrupted"
          usual={vocabulary.decode(other)}
        />
      </div>
      <ProblemNotice problem={pair.problem ?? patching.problem} retry={() => setAgain(again + 1)} />
      <section className="stack tight" aria-label="Both texts">
        <div className="row">
          <h2>Token by token</h2>
          <span className="end">
            {suggestion ? (
              <span className="small muted">
                Suggested:{" "}
                <span className="mono">
                  {vocabulary.label(clean[suggestion.exchange.position]!)}
                </span>{" "}
                becomes <span className="mono">{vocabulary.label(suggestion.exchange.id)}</span>
              </span>
            ) : (
              <button
                type="button"
                className="button small"
                disabled={pair.suggesting}
                onClick={() => choose({ corrupted: null, exchange: null, end: null, answer: null })}
              >
                Suggest an exchange
              </button>
            )}
          </span>
        </div>
        <p className="muted small">
          Press a token above to read up to it: the answer is what comes next. Press one below to
          exchange it for another.
        </p>
        {first ? (
          <Aligned
            clean={clean}
            other={other.length ? other : clean}
            vocabulary={vocabulary}
            end={end}
            onEnd={(position) => choose({ end: position, answer: null, ...held() })}
            picking={picking}
            onPick={(position) => setPicking(position === picking ? null : position)}
            store={store}
          />
        ) : (
          <p className="muted">Looking…</p>
        )}
        {picking !== null && first && picking < clean.length && (
          <ExchangePanel
            clean={first}
            position={picking}
            now={other[picking] ?? clean[picking]!}
            vocabulary={vocabulary}
            onExchange={(id) => exchange(picking, id)}
            onClose={() => setPicking(null)}
          />
        )}
        {settled && !even && (
          <div className="notice" role="status">
            The first text has {clean.length} tokens and the second {other.length}. States can be
            put only where the other text has a token too: change one until both have as many, or
            exchange a token.
          </div>
        )}
        {settled && even && sameText(...read) && (
          <div className="notice" role="status">
            Up to there both texts are the same. Exchange a token, or read further.
          </div>
        )}
      </section>
      {!settled && <Room waiting={!pair.problem} />}
      {ready && first && second && (
        <div className="beside">
          <div className={patching.fresh || !recovery ? "stack" : "stack waiting"}>
            <div className="row">
              <Segments
                label="What is put in"
                options={sites.map((name) => [name, SITES[name].title] as const)}
                value={site}
                onChange={setSite}
              />
            </div>
            {!recovery ? (
              <Room waiting={!patching.problem} />
            ) : Math.abs(gap) < LEAST_GAP ? (
              <div className="notice" role="status">
                Both texts make this answer as likely, so there is nothing to bring back. Choose
                another answer, or exchange a token that matters more.
              </div>
            ) : (
              <PatchMaps
                recovery={recovery}
                site={site}
                tokens={tokensOf(patching.value!, "clean_tokens")}
                vocabulary={vocabulary}
                store={store}
                name={`${run.name.replace(/\W+/g, "-")}-patching`}
                json={() => ({ run: run.name, site, ...patching.value?.fields })}
              />
            )}
          </div>
          <div className="sticky">
            <Answers
              first={oddsAt(first, end)}
              second={oddsAt(second, end)}
              after={clean[end]!}
              vocabulary={vocabulary}
              answer={answer ?? recovery?.answer ?? -1}
              onAnswer={(id) => choose({ answer: id, end, ...held() })}
            />
          </div>
        </div>
      )}
    </>
  );
}
