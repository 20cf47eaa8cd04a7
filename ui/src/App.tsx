/** The frame: what is looked at, the pages as tabs, and the page that is open. */
import { type ComponentType, type KeyboardEvent, lazy, Suspense, useEffect, useRef } from "react";
import { useConnection } from "./api/connection";
import { type Subject, useRuns, useSubject } from "./api/queries";
import icon from "./icon.svg";
import { KeyPrompt } from "./parts/KeyPrompt";
import { ProblemNotice } from "./parts/Notice";
import { RunChooser } from "./parts/RunChooser";
import { arrowed } from "./parts/Segments";
import { ThemeButton } from "./parts/ThemeButton";
import { formatPlace, goTo, type Page, PAGES, usePlace } from "./place";
import { TourButton } from "./tour/Tour";
import { PromptPage } from "./pages/prompt/PromptPage";

export interface PageProps {
  readonly subject: Subject;
}

/** The first page is in the first script; the others come when they are opened. */
const SHOWN: Record<Page, { title: string; page: ComponentType<PageProps> }> = {
  prompt: { title: "Prompt", page: PromptPage },
  attention: {
    title: "Attention",
    page: lazy(() => import("./pages/attention/AttentionPage")),
  },
  lens: { title: "Lens and edits", page: lazy(() => import("./pages/lens/LensPage")) },
  "training-time": {
    title: "Over training",
    page: lazy(() => import("./pages/training-time/TrainingTimePage")),
  },
  training: { title: "Training", page: lazy(() => import("./pages/training/TrainingPage")) },
  chat: { title: "Chat", page: lazy(() => import("./pages/chat/ChatPage")) },
  ladder: { title: "Ladder", page: lazy(() => import("./pages/ladder/LadderPage")) },
};

export function App() {
  const place = usePlace();
  const { here } = useConnection();
  const { subject, problem } = useSubject();
  const runs = useRuns();
  const Shown = SHOWN[place.page].page;
  return (
    <div className="frame">
      <a className="skip" href="#page">
        Skip to the page
      </a>
      <header className="header">
        <a className="wordmark" href={formatPlace({ page: "prompt", values: {} })}>
          <img src={icon} alt="" width={22} height={22} />
          nanogpt_jax
        </a>
        <div className="chosen">
          {subject && runs.value && (
            <RunChooser
              runs={runs.value.runs}
              served={runs.value.served}
              run={subject.run}
              step={subject.step}
            />
          )}
        </div>
        <div className="tools">
          <TourButton />
          <ThemeButton />
        </div>
      </header>
      <Tabs page={place.page} />
      <main
        id="page"
        className="page"
        role="tabpanel"
        aria-labelledby={`tab-${place.page}`}
        tabIndex={-1}
      >
        {!here && (
          <div className="notice problem" role="alert">
            The server went away. This page asks until it is back; nothing that you see is lost.
          </div>
        )}
        {problem?.status === 401 ? <KeyPrompt /> : here && <ProblemNotice problem={problem} />}
        {subject && (
          <Suspense fallback={<p className="muted">Opening…</p>}>
            <Shown subject={subject} />
          </Suspense>
        )}
      </main>
    </div>
  );
}

function Tabs({ page }: { page: Page }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // On a narrow screen not all tabs have room.
    const strip = box.current!;
    const tab = strip.querySelector<HTMLElement>("[aria-selected=true]")!;
    strip.scrollLeft = tab.offsetLeft - (strip.clientWidth - tab.offsetWidth) / 2;
  }, [page]);
  const move = (event: KeyboardEvent) => {
    const next = arrowed(event.key, PAGES.indexOf(page), PAGES.length);
    if (next === null) return;
    event.preventDefault();
    goTo(PAGES[next]!);
    box.current?.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus();
  };
  return (
    <div ref={box} className="tabs" role="tablist" aria-label="Pages" onKeyDown={move}>
      {PAGES.map((name) => (
        <button
          key={name}
          id={`tab-${name}`}
          type="button"
          role="tab"
          aria-selected={name === page}
          aria-controls="page"
          tabIndex={name === page ? 0 : -1}
          onClick={() => goTo(name)}
        >
          {SHOWN[name].title}
        </button>
      ))}
    </div>
  );
}
