"""Charts, tables and pages about models: how they measured, compared with each other."""
