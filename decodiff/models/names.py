"""Files of a network in its folder, as diffusers names them; apart, as who looks for them need not load diffusers."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
