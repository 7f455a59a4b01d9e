"""The commands `data`: list, init, prepare and check datasets."""
