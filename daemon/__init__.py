"""The service: when, to whom, and again?

Knows the other three folders and ties them into a line: receiver, pipeline and delivery, which meet only in the
ledger. SQLAlchemy is imported in `ledger/` alone, APScheduler in `scheduler.py` alone.
"""
