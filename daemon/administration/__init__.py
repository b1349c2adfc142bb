"""What an administrator asks of jobs, rules, peers and disk, and has done: the same for commands and the console."""
