"""The command line: one module a command or group of commands. What a person starts, and what it prints."""
