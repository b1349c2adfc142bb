"""What is removed of what is done, and what a kill left half: knows the ledger and the storage root, no network."""
