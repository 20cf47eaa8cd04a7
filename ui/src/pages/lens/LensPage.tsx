/** What forms inside the model, and what becomes of its answer when parts of it are changed. */
import type { PageProps } from "../../App";
import { Segments } from "../../parts/Segments";
import { useValue } from "../../place";
import { AblateView } from "./AblateView";
import { LensView } from "./LensView";
import { PatchView } from "./PatchView";
import "./lens.css";

const VIEWS = [
  ["lens", "Lens"],
  ["ablate", "Switch off"],
  ["patch", "Patch"],
] as const;
type View = (typeof VIEWS)[number][0];

const TOLD: Record<View, { title: string; sentence: string }> = {
  lens: {
    title: "What each layer would say",
    sentence:
      "Layer by layer a model turns what it has read into what it says next. The logit lens reads its state at every depth as if it were the last one, so you see the answer form.",
  },
  ablate: {
    title: "What each part is for",
    sentence:
      "Switch an attention head or an MLP off (it then adds nothing) and see what the model says without it.",
  },
  patch: {
    title: "Where the answer comes from",
    sentence:
      "Two texts that differ in a token lead to different answers. Put one state of the first into the run of the second: where that brings the answer back, it was carried.",
  },
};

export default function LensPage({ subject }: PageProps) {
  const [name, setView] = useValue("view", "lens");
  const view = VIEWS.find(([each]) => each === name)?.[0] ?? "lens";
  return (
    <>
      <div className="row">
        <Segments label="View" options={VIEWS} value={view} onChange={setView} />
      </div>
      <header>
        <h1>{TOLD[view].title}</h1>
        <p>{TOLD[view].sentence}</p>
      </header>
      {view === "lens" && <LensView subject={subject} />}
      {view === "ablate" && <AblateView subject={subject} />}
      {view === "patch" && <PatchView subject={subject} />}
    </>
  );
}
