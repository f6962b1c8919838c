"""Networks: the deviation UNet, the autoencoder, and the mapping from the authors' weights."""
