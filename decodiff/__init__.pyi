# The public names, once: type checkers read this file, and `__init__.py` makes its names of it.
from .bootstrap import interval as interval
from .bootstrap import resampled as resampled
from .config import Config as Config
from .config import load as load
from .correction import correct as correct
from .errors import InputError as InputError
from .masking import sample_mask as sample_mask
from .masking import sample_noise as sample_noise
from .masking import sample_patch_side as sample_patch_side
from .metrics import ALL_METRICS as ALL_METRICS
from .metrics import FURTHER_METRICS as FURTHER_METRICS
from .metrics import METRICS as METRICS
from .metrics import InBatches as InBatches
from .metrics import evaluate as evaluate
from .metrics import evaluate_batches as evaluate_batches
from .metrics import image_scores as image_scores
from .models.autoencoder import Autoencoder as Autoencoder
from .models.autoencoder import load_autoencoder as load_autoencoder
from .models.reference import load_reference as load_reference
from .models.unet import UNET_SIZES as UNET_SIZES
from .models.unet import DeviationUNet as DeviationUNet
from .models.unet import build_unet as build_unet
from .models.unet import load_unet as load_unet
from .objectives import Example as Example
from .objectives import deviation_example as deviation_example
from .pipeline import DeCoDiffPipeline as DeCoDiffPipeline
from .protocols import PROTOCOLS as PROTOCOLS
from .scheduler import DeviationScheduler as DeviationScheduler
from .scheduler import DeviationSchedulerOutput as DeviationSchedulerOutput
from .scoring import AnomalyMaps as AnomalyMaps
from .scoring import ScoringSettings as ScoringSettings
from .scoring import anomaly_maps as anomaly_maps
from .threshold import choose_threshold as choose_threshold

__version__: str
