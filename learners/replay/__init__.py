"""What is new, and what is learned from again."""
