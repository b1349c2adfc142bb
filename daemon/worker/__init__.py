"""The worker process: the stages of a job, what they read and write, and the executor that runs and supervises them."""
