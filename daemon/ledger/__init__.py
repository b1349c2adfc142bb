"""The ledger: jobs, instances, deliveries and events as rows. SQLAlchemy and Alembic are imported here alone."""
