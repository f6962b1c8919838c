# Targets for a part of the way.
rule prepared:
    input:
        [path for dataset in CONFIG.arrays for path in prepared_files(dataset)],


rule encoded:
    input:
        rules.autoencoder.output,
        [f"{MODELS}/latents/{dataset}/{name}.npy" for dataset in CONFIG.arrays for name in ("train_mean", "test_mean")],


rule trained:
    input:
        [path for _, network, _, _ in all_results() for path in network_files(network)],


# What figures and the report show and is too large to be carried: for one who brings all else.
rule shown:
    input:
        [f"{results}/anomaly_maps.npy" for results in shown_results()],


rule measured:
    input:
        [f"{results}/metrics.csv" for results, _, _, _ in all_results()],
        floor_files(PARTS, "metrics.csv"),
        [f"{results}/{name}" for results in SHOWN_PARTS for name in CURVE_FILES],
        f"{RESULTS}/metrics.json",
