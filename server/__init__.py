"""The coordinator: FastAPI over SQLite or PostgreSQL, leases for agents, and the dashboard."""
