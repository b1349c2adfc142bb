"""The ledger's tables, and Alembic's way from one version of them to the next."""
