"""From the outbox to the destinations: sent, confirmed, and each tried again until it works or is given up.

Knows what is due from the ledger, and how a destination is spoken to. Must not know what made the objects.
"""
