"""The console: pages and a JSON API over the same ledger and spool as the commands, in a process of its own.

It knows HTTP, users and what a browser shows. It changes nothing but by `daemon.administration` and `daemon.intake`,
and never loads what the worker needs. Patients' names are read from files for who is signed in, and kept nowhere.
"""
