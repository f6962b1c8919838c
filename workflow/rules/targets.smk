# Targets for a part of the way, listed by `snakemake --list-target-rules`.


rule prepared:
    """Data sets, resized to arrays."""
    input:
        [path for dataset in CONFIG.arrays for path in PLACES.prepared_files(dataset)],


rule encoded:
    """The autoencoder, and the latents of all images."""
    input:
        rules.autoencoder.output,
        [f"{MODELS}/latents/{dataset}/{name}.npy" for dataset in CONFIG.arrays for name in ("train_mean", "test_mean")],


rule trained:
    """All networks."""
    input:
        [path for result in PLACES.all_results() for path in network_files(result.unet)],


# What figures and the report show and is too large to be carried: for one who brings all else.
rule shown:
    """Anomaly maps that figures and the report show."""
    input:
        [f"{results}/anomaly_maps.npy" for results in PLACES.all_shown],


rule measured:
    """Metrics of all networks, variants, floors and other methods."""
    input:
        [f"{result.results}/metrics.csv" for result in PLACES.all_results()],
        PLACES.floors(PLACES.parts, "metrics.csv"),
        PLACES.methods("metrics.csv"),
        [f"{results}/{name}" for results in PLACES.shown for name in CURVE_FILES],
        f"{RESULTS}/metrics.json",
