"""Events: what happened to a study, stored and streamed (SSE)."""
