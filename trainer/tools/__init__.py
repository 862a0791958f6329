"""Tools that a model may call in an episode: a search over local documents, and Python in a sandbox."""
