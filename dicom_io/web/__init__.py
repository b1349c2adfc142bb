"""DICOMweb (PS3.18): objects stored by STOW-RS, and asked for by QIDO-RS. `httpx` is imported here alone.

Knows bytes, statuses and URLs. Must not know the ledger, jobs or what an object is for. What a service answers is never
quoted: its errors are a status, or the reason that it gives as a number.
"""
