/** A conversation with a model that was tuned on conversations. */
import type { PageProps } from "../../App";
import { useRuns } from "../../api/queries";
import "./chat.css";
import { NoChat } from "./NoChat";
import { Talk } from "./Talk";

export default function ChatPage({ subject }: PageProps) {
  const runs = useRuns();
  const { run } = subject;
  return (
    <>
      <header>
        <h1>Talk with it</h1>
        <p>
          A tuned model is still one that continues texts: it has learned that after a question
          comes an answer.
        </p>
      </header>
      {run.can_chat ? (
        <Talk key={run.name} subject={subject} />
      ) : (
        <NoChat run={run} runs={runs.value?.runs} />
      )}
    </>
  );
}
