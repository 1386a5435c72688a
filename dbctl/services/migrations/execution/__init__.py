"""Which migrations run and how, their execution in an open database, and the rows that they delete."""
