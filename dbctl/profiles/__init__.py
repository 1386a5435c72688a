"""What an app is, as data: the model of a profile, its loader, and the codecs it may name."""
