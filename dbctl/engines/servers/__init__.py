"""What engines of servers have in common: sessions, their transactions and locks, times, values, checks."""
