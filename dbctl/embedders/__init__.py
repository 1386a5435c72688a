"""What makes a vector of words: services, programs and packages, each behind one small contract."""
