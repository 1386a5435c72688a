"""What is the right thing to do? One module per command group; typed values in, typed results out."""
