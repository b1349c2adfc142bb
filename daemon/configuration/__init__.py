"""porta.toml: read, checked, and each fault named by its file, line and key."""
