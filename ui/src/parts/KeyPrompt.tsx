/** Asks for the API key of a server that wants one; it is kept for this tab alone. */
import { type FormEvent, useState } from "react";
import { apiKey } from "../api/client";

export function KeyPrompt() {
  const [key, setKey] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    apiKey.set(key);
    location.reload();
  };
  return (
    <form className="card stack" onSubmit={submit}>
      <h1>This server wants an API key</h1>
      <label className="field">
        <span>API key (one of NANOGPT_JAX_API_KEYS; kept until this tab closes)</span>
        <input
          type="password"
          autoComplete="off"
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
      </label>
      <div>
        <button type="submit" className="button primary" disabled={!key.trim()}>
          Open
        </button>
      </div>
    </form>
  );
}
