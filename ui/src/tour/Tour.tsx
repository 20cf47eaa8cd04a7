/** Thirty seconds for who is here for the first time: one thing after another is pointed out. */
import { useEffect, useRef, useState } from "react";
import { goTo, type Page } from "../place";

interface Stop {
  readonly page: Page;
  /** What is pointed out. */
  readonly at: string;
  readonly title: string;
  readonly text: string;
}

const STOPS: readonly Stop[] = [
  {
    page: "prompt",
    at: ".prompt textarea",
    title: "Begin a text",
    text: "All pages look at this prompt. Write your own, or keep the first words of a text that the model never saw.",
  },
  {
    page: "prompt",
    at: ".write",
    title: "Let it write",
    text: "Each token is shaded by its probability. Point at one to see what else could have stood there; press an alternative to go on from it.",
  },
  {
    page: "attention",
    at: "#tab-attention",
    title: "Where it looks",
    text: "A picture for every head of every layer. Choose one: text, arcs and picture follow your pointer together.",
  },
  {
    page: "lens",
    at: "#tab-lens",
    title: "What it thinks on the way",
    text: "What the model would say after each layer, and what changes when you switch a part of it off.",
  },
  {
    page: "training-time",
    at: "#tab-training-time",
    title: "Watch it learn",
    text: "The same prompt at every saved step of training. Drag the slider, or press play.",
  },
];

const SEEN = "nanogpt_jax.tour";

export function TourButton() {
  const [stop, setStop] = useState<number | null>(() => (localStorage.getItem(SEEN) ? null : 0));
  const end = () => {
    localStorage.setItem(SEEN, "yes");
    setStop(null);
  };
  return (
    <>
      <button type="button" className="button quiet" onClick={() => setStop(0)}>
        Tour
      </button>
      {stop !== null && (
        <TourCard
          index={stop}
          onNext={() => (stop + 1 < STOPS.length ? setStop(stop + 1) : end())}
          onEnd={end}
        />
      )}
    </>
  );
}

interface CardProps {
  index: number;
  onNext: () => void;
  onEnd: () => void;
}

function TourCard({ index, onNext, onEnd }: CardProps) {
  const stop = STOPS[index]!;
  const next = useRef<HTMLButtonElement>(null);
  const came = useRef<Element | null>(null);
  const [place, setPlace] = useState<DOMRect | null>(null);
  useEffect(() => {
    came.current ??= document.activeElement;
    const back = came.current;
    return () => (back instanceof HTMLElement ? back.focus() : undefined);
  }, []);
  useEffect(() => {
    goTo(stop.page);
    next.current?.focus();
    let frame = 0;
    const follow = () => {
      const found = document.querySelector(stop.at)?.getBoundingClientRect() ?? null;
      setPlace((before) =>
        before?.top === found?.top && before?.left === found?.left ? before : found,
      );
      frame = requestAnimationFrame(follow);
    };
    follow();
    const escape = (event: KeyboardEvent) => event.key === "Escape" && onEnd();
    addEventListener("keydown", escape);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("keydown", escape);
    };
  }, [stop, onEnd]);
  return (
    <>
      {place && (
        <div
          className="spot"
          aria-hidden
          style={{ top: place.top, left: place.left, width: place.width, height: place.height }}
        />
      )}
      <div
        className="tour card"
        role="dialog"
        aria-label={`Tour, ${index + 1} of ${STOPS.length}`}
        style={{ top: Math.min((place?.bottom ?? 100) + 16, innerHeight - 230) }}
      >
        <h2>{stop.title}</h2>
        <p>{stop.text}</p>
        <div className="row">
          <span className="muted small numeric">
            {index + 1} of {STOPS.length}
          </span>
          <button type="button" className="button quiet end" onClick={onEnd}>
            Skip
          </button>
          <button ref={next} type="button" className="button primary" onClick={onNext}>
            {index + 1 < STOPS.length ? "Next" : "Done"}
          </button>
        </div>
      </div>
    </>
  );
}
