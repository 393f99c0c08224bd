"""The prose of the model card; numbers come in through the braces."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..inference.contract import HYPOXIA_FIELDS, MONAI_FIELDS
from ..inference.user_models import PUBLISHED_MODELS
from .config import TrainingConfig

PAGE_HEAD = """
<!-- Written by tools/update-model-card from the shipped bundle; do not edit. -->
# Models

The card of the network that comes with the software, how to train your own, and published models you can bring.
"""

WHAT_IT_IS = """
## {title}

**{label}.** Bundle `{name}`, version {version}, licence {licence}.

{description} The map is the {quantity} in the GTV; hypoxic where it is {comparison} {threshold}. It is predicted, also
where a hypoxia PET is among the images, and is never to be read as a measurement.

**Intended use.** {intended_use}

**Not for:** any decision about a patient; choosing who is treated how; replacing a hypoxia scan; tumours, tracers,
scanners or sequences other than those below; images the gate stops; brain (no network here has seen one).

**Images.** Any subset with at least one of {needed}, and a GTV. What is missing is told to the network, not made
up. Every image is brought to {spacing} mm voxels in the GTV's box and {margin} mm around it. Body site: {sites}.

{inputs}
"""

TRAINING = """
### Training

{data} Patients trained on: {patients}; seed {seed}. Images were left out at random while it was trained, so that one
network serves every subset.

`{target}` of MONAI {monai} (torch {torch}): {arguments}. {members} members of {parameters} parameters each,
{megabytes} MB of weights in total. Each gives the ratio and its variance; the map is the mean of all members on all
eight mirror images of the box. Trained on: {machine}. Last line of every member's log (minutes on the clock, with
the members trained at one time):

{log}
"""

VERDICT = """
## Is it better than simple maps?

Measured with version {version} (SHA-256 of its metadata `{digest}`) on simulated patients whose seeds no training may
use: {patients}; evaluation seed {seed}. All maps are judged on the same voxels of the same patients, inside the GTV,
against the true ratio. The baselines:

- *tracer ratio*: the hypoxia PET as it was measured (a ratio to blood), where there is one;
- *scaled FDG*: FDG SUV times one factor for all patients, fitted on the training patients;
- *linear regression*: the least squares line through the same images the network sees, fitted on the training patients.

A comparison is one cohort, set of images and baseline. *Better* and *worse* mean that the 95 % interval of the mean
paired difference (bootstrap over patients, not corrected for the number of comparisons) leaves out zero:

{lines}

These are simulated patients. Nothing here says how well the network does on a real one.
"""

COHORT = """
### {name}: {title}

{patients} patients; GTV {gtv} ml and hypoxic fraction {fraction} % (5th, 50th, 95th percentile); {without} without
any hypoxic voxel. Voxel r, mean absolute error (MAE) and Dice are means over patients (Dice where truth or map has
a hypoxic voxel); HV is the hypoxic volume with its Bland–Altman bias and limits; the slope is that of truth on
prediction, all voxels (ideal 1). Last column: is the network's MAE better than this map's, with the 95 % interval
of the difference.

{table}
"""

UNCERTAINTY = """
### Can its uncertainty be believed?

ECE: expected calibration error of the probability that a voxel is hypoxic, 15 bins. The 90 % interval of the ratio
should hold 90 % of the voxels. Error slope: spread of the standardised errors within a patient over that of a
normal distribution; it is below 1 as far as a whole tumour errs alike ({shared} % of the squared error on the
validation patients, which the band allows for). The volume band is the 5th to 95th percentile of the hypoxic volume
and should hold the true volume in 90 % of the patients.

{table}

{words}

![Calibration]({pictures}/calibration.png)

![Bland–Altman of the hypoxic volume]({pictures}/bland_altman.png)
"""

GATE = """
### What does the gate stop?

The gate compares images with those of the training: body site in the tags; values in the GTV; contrast in and around
it, smoothness, uptake of the GTV over that around it (PET), air, fat and bone (CT); voxel sizes, tracer, scan time, GTV
volume; distance of the network's features. Ranges are the lowest and highest of the training patients. It blocks the
export until a person overrides the failed checks by name. The body site is compared by Body Part Examined (0018,0015)
and Anatomic Region Sequence (0008,2218) of the images and of the planning CT: another site does not pass, and neither
do images whose tags name none. A tag of a part, such as LARYNX, passes for HEADNECK, and so does HEAD, also on a brain.
All simulated images are tagged HEADNECK. Patients as they are, all sets of images together; stops in the held-out
cohort are false alarms, stops in the shifted ones are what the gate is for:

{alarms}

Images of held-out patients made wrong on purpose (FDG + CT, and hypoxia PET + FDG + CT where it is the hypoxia PET):

{mistakes}

{missed}

These brains are drawn, not scanned: whether the gate tells a patient's brain from a neck was not tried. The one real
tumour it was tried on (FDG, CT and T1 of a sarcoma of a limb) passes every check of values, contrast, smoothness,
surroundings and tissues: by its voxels the gate does not tell a limb from a neck. It is stopped by its tags (EXTREMITY)
and by voxel sizes. Tags can be wrong: look at the images.
"""

PLANNING = """
### Through the planning grid

A run brings every image to the planning CT's voxels before the network brings them to its own. The first {patients}
held-out patients both ways: *native*, images on their own grids, map judged on the network's grid; *planning*, images
and GTV on a planning grid of {spacing} mm, map judged there, where a run cuts out the hypoxic volume. Means over
patients; the error of the hypoxic volume (HV) is absolute. Last columns: mean absolute difference of the hypoxic volume
between both ways, and false alarms of the gate on the planning way.

{table}
"""

MISSED = "**The gate does not reliably stop: {names}.** Look at the images; the gate is no replacement for that."
NONE_MISSED = (
    "Each of these mistakes is stopped in at least 95 % of the patients. There are other mistakes: look at the images."
)

SIMULATOR = """
## How far are the simulated patients from real ones?

The same statistics of the simulated patients and, where a number was found, of patients:

{table}
"""

LIMITATIONS = """
## Limitations

- It learned a simulator. Where the simulator is wrong about tumours, so is the network, and no table here can show it.
- The relation between FDG, perfusion, diffusion and hypoxia is drawn at random within wide ranges; in patients it
  depends on site and biology. The network's spread holds within the simulated ranges only.
- The truth is the ratio a perfect PET of 6 mm resolution would show: no hypoxia below that scale is seen.
- Necrosis has low uptake in the simulator as in patients; a low ratio does not prove oxygenation.
- Anatomy is simple (head-and-neck-like shapes); misregistration is a shift of up to 3 mm, with no deformation.
- Test–retest voxel correlation of a hypoxia PET in patients is about 0.65 (EF5): higher agreement than that with a
  single real scan would be suspect.
- The band of hypoxic volume assumes how errors correlate between voxels, and one share of common error for all.
"""


def own_model() -> str:
    """How to train, judge and describe a model of one's own."""
    example = {
        "bundle": {
            "name": "our_site_v1", "title": "...", "label": "trained on our patients, not clinically validated",
            "training_data": "...", "intended_use": "...", "licence": "...", "body_parts": ["HEADNECK"],
        },
        "data": {"source": "pairs", "folder": "patients"},
    }  # fmt: skip
    keys = ", ".join(f"`{key}`" for key in asdict(TrainingConfig(bundle=None)))  # type: ignore[arg-type]
    fields = ", ".join(f"`{key}`" for key in HYPOXIA_FIELDS)
    monai = ", ".join(f"`{key}`" for key in MONAI_FIELDS)
    return OWN_MODEL.format(example=json.dumps(example, indent=2), keys=keys, fields=fields, monai=monai)


OWN_MODEL = """
## Train your own

    hypoxia train our_site.json --output run1
    hypoxia evaluate run1/bundle --output evaluation1
    hypoxia models

One folder per patient, with `ratio.nii.gz` (the measured tissue-to-blood ratio to learn), `gtv.nii.gz` and any of
the images as `<key>.nii.gz` (`fdg`, `hypoxia_pet`, `ct`, `t1`, `adc`, `ktrans`, `r2star`), registered, each with a
JSON sidecar that states `Quantity` and `Units`. The configuration needs no more than this; `body_parts` are the body
sites of the patients in DICOM's terms for Body Part Examined (PS3.16 Annex L):

```json
{example}
```

Further keys: {keys}; the shipped network's own configuration lies in its bundle as `configs/train.json`. An
interrupted training goes on with `--resume`; `torchrun` starts it on several GPUs. Patients are split once, by
name. `hypoxia evaluate` judges a bundle on simulated patients and writes a card like the one above; keep patients
of your own aside to judge it on people. In Python, `HypoxiaMapperLib.training.gate.complete_bundle` fits gate and
baselines of a bundle anew; its weights stay.

### What a bundle holds

A MONAI bundle: `configs/metadata.json`, `configs/inference.json` (`network_def`: a network of `monai.networks.nets` by
its plain name and plain arguments, nothing is executed), `models/*.safetensors`, `docs/`, `LICENSE`. The metadata hold
MONAI's fields ({monai}) and, under `hypoxia`: {fields}; also `distribution` (file of the gate, or null), `structure`
(ranges of contrast, smoothness and tissues, see `inference/structure.py`), `regression` and `scaled_fdg` (coefficients
of the baselines, see `inference/baselines.py`), `body_parts` (DICOM's terms of the body sites trained on, see
`inference/body_site.py`; without them the gate's check `body-site` never passes). Every weights file stands there with
its SHA-256 and is refused if it differs. A `.pt`, `.pth` or `.pkl` file is refused, with the way to convert it.
"""


def published_models() -> str:
    """Models of others that a user can bring."""
    parts = ["## Published models you can bring"]
    for model in PUBLISHED_MODELS.values():
        parts.append(
            f"### {model.title}\n\n{model.citation}. Repository: <{model.repository}>.\n\n"
            "Neither its weights nor a line of its code is in this software: its terms forbid passing them on. The "
            "network was written anew from the publication, and takes the published file only.\n\n"
            f"{model.how_to_get}\n\n{model.terms}\n\n"
            f"File `{model.file_name}`, SHA-256 `{model.sha256}`. Without it the method is listed as unavailable, "
            "with the way to get it. Its map is a prediction from FDG, not measured hypoxia."
        )
    return "\n\n".join(parts)
