"""What Duetime reaches on this machine, beside what the same machine gives to bare statements."""
