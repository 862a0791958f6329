"""Wire records shared by coordinator, agents and trainer. Light: pydantic only, no torch, no server."""
