"""Names from the literature for what is called otherwise here."""

import difflib
import re
from collections.abc import Iterable, Mapping

_ALSO: Mapping[str, str] = {
    "softmax": "lr logreg logistic logistic-regression multinomial",
    "ridge": "linear linear-regression ols least-squares",
    "svm": "svc linear-svm hinge",
    "mlp": "nn dense perceptron fully-connected",
    "cnn": "lenet conv",
    "resnet18": "resnet",
    "vit-tiny": "vit transformer",
    "frozen-features": "pretrained linear-probe",
    "mnist5k": "mnist",
    "fedavgm": "momentum server-momentum",
    "fedadam": "adam fedopt",
    "fedmedian": "median",
    "retrain": "retraining scratch from-scratch exact",
    "rollback": "fats checkpoint",
    "sharded": "sisa shards knot",
    "newton": "influence influence-functions certified-removal",
    "sifu": "informed-unlearning",
    "ascent": "ga gradient-ascent sga negative-gradient",
    "finetune": "ft fine-tune",
    "federaser": "eraser",
    "distil": "kd distill distillation knowledge-distillation",
    "none": "no nothing baseline",
    "inversion": "dlg idlg deep-leakage inverting-gradients ig gradient-inversion gradient-matching geiping",
    "hrec": "bertran",
    "deletion-inference": "mia membership membership-inference",
    "deletion-lira": "lira",
    "dp-sgd": "dp local-dp record-dp opacus",
    "central-dp": "dp-fedavg user-level-dp client-level-dp cdp",
    "dp-statistics": "adassp",
    "output-perturbation": "gaussian noise",
    "rounding": "quantisation quantization",
    "pruning": "compression top-k sparsification",
    "batching": "batch",
}
"""By the name here: what others say, words of one name joined by hyphens."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of the known names that was meant, by what others call it or by its letters; empty where none is near."""
    names = list(known)
    said = _plain(word)
    for name in names:
        if said in (_plain(name), *map(_plain, _ALSO.get(name, "").split())):
            return name
    return next(iter(difflib.get_close_matches(word.lower(), names, n=1)), "")


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
