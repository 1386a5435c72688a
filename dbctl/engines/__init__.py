"""One open database each, behind one contract; the only room that imports a driver or quotes a name."""
