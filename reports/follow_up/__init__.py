"""Earlier studies: their results read, their lesions matched with today's, and the course over all of them."""
