"""Files below the storage root: spool, sidecars, quarantine and their checksums. Knows nothing of the ledger."""
