"""The tables and figures there are, with the captions they are printed under."""

from __future__ import annotations

from decodiff.config import MADE_TABLE

TRAINING_TABLE = "T12"
TABLES = {
    "T1": "Multi-class anomaly detection, mean over categories, beside published results.",
    "T7": "First data set: detection per category (image metrics); F1max is that of an oracle's threshold.",
    "T8": "First data set: localisation per category (pixel metrics); F1max is that of an oracle's threshold.",
    "T9": "Second data set: detection per category (image metrics); F1max is that of an oracle's threshold.",
    "T10": "Second data set: localisation per category (pixel metrics); F1max is that of an oracle's threshold.",
    "T11": "Further data sets: all metrics per category; F1max is that of an oracle's threshold.",
    TRAINING_TABLE: "Multi-class against per-category training: one network over several categories, and one for each.",
}


def run_tables(datasets: int, has_both_trainings: bool) -> list[str]:
    """Which of `TABLES` a run has, by its number of data sets and whether `decodiff.reporting.trainings.compared` finds any."""
    needs = {"T9": datasets > 1, "T10": datasets > 1, "T11": datasets > 2, TRAINING_TABLE: has_both_trainings}
    return [name for name in TABLES if needs.get(name, True)]


METHODS_TABLE = "T14"
# each compares settings that `sweeps` of the configuration names; the last, methods that `methods` names
SWEEP_TABLES = {
    "T2": "Correcting deviations against standard diffusion, the same network and training otherwise.",
    "T3": "The discrepancy behind the anomaly map.",
    "T4": "The number of correction steps S.",
    "T5": "What is corrupted in training: the largest ratio of patches, and their sides.",
    "T6": "The size of the network; operations and images per second are those of the correction.",
    MADE_TABLE: "What each setting does (made defects): measured on defects made in held-out training images.",
    METHODS_TABLE: "Methods beside each other: trained on the same images, measured alike.",
}

TRAINING_CURVE = "training"
COMPARISON_FIGURE, METHOD_FIGURE, STEPS_FIGURE, ACCURACY_FIGURE = "F1", "F2", "F4", "F5"
SCORES_FIGURE, COMPUTE_FIGURE, DEFECTS_FIGURE, CHANGES_FIGURE = "F6", "F9", "F10", "F11"
FIGURES = {
    METHOD_FIGURE: "The method on one image: what the network is trained on (top) and what it corrects (bottom).",
    "F3": "Input, correction, ground truth and anomaly map: per category the anomalous images of median and of lowest score.",
    STEPS_FIGURE: "Correction step by step: per category the anomalous image of median score, the estimate of its correction "
    "at each timestep, ground truth and anomaly map.",
    SCORES_FIGURE: "Image scores, a point for each image before their density, with the threshold that held-out normal images "
    "give; for pixels, precision over recall and region overlap (PRO) over the false-positive rate.",
    "F7": "Per category and kind of defect, the anomalous image of median score.",
    "F8": "Per category, the normal images of highest and of median score.",
    DEFECTS_FIGURE: "Image scores by kind of defect, below those of the category's normal images, with the threshold that "
    "held-out normal images give; in brackets the number of images.",
}

# of the sweeps' tables
SWEEP_FIGURES = {
    COMPARISON_FIGURE: "Standard diffusion and the correction of deviations on one image, step by step.",
    ACCURACY_FIGURE: "Accuracy against the number of correction steps (left) and against speed (right), with the "
    "95 % interval over images, or with several seeds their standard deviation.",
    CHANGES_FIGURE: "What the settings of each sweep change: the difference of each line to the baseline, on the same images "
    "and with the same seeds, with its 95 % interval, or with several seeds its standard deviation.",
}

# of networks that a training kept on its way
COMPUTE_FIGURES = {
    COMPUTE_FIGURE: "Accuracy over compute: the network of the first seed as it would be the result after some epochs, over "
    "the minutes of training up to each.",
}

# of a network, whatever it is tested on
NETWORK_FIGURES = {TRAINING_CURVE: "Loss over the epochs of the training, and by timestep (first seed)."}
