"""Keeps ledger and files in step: backup, rebuilding, verification, upgrade. Takes no part in the service's rounds."""
