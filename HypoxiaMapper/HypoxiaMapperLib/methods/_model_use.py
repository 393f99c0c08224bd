"""What a reader must know about the trained model behind a map: shown by the panel, the command line and the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Finding:
    """One comparison of the images at hand with those the model was trained on.

    Parameters
    ----------
    check : str
        What was compared, e.g. ``"FDG 99th percentile in the GTV"``.
    value, allowed : str
        What was found and what the training data spanned, with units.
    passed : bool
        False stops the export until a person overrides this very check by name, with a reason (``distribution``).
    key : str
        Short word that names the check in an override, e.g. ``"fdg-range"``; empty: ``name`` makes one of ``check``.
    """

    check: str
    value: str
    allowed: str
    passed: bool
    key: str = ""

    @property
    def name(self) -> str:
        """The word by which an override names this check: small letters, digits and hyphens."""
        return self.key or re.sub(r"[^a-z0-9]+", "-", self.check.lower()).strip("-")


@dataclass(frozen=True)
class Baseline:
    """A simple map beside the network's: the reader sees what the network adds to it on this patient.

    Parameters
    ----------
    hypoxic_volume_ml : float
        Volume of the GTV that passes the network map's own threshold.
    correlation : float
        Voxel-wise Pearson r with the network's map inside the GTV; NaN where one of both is constant.
    """

    name: str
    description: str
    hypoxic_volume_ml: float
    correlation: float


@dataclass(frozen=True)
class ModelUse:
    """A trained model as it was used for one map.

    Parameters
    ----------
    label : str
        What stands wherever the map stands, e.g. ``"synthetic-trained, not clinically validated"``.
    training_data, intended_use, licence : str
        One sentence each, from the bundle's metadata.
    weights_sha256 : tuple of str
        SHA-256 of every weights file, in the order of the ensemble.
    device : str
        Where it ran, in words, with anything that was changed on the way (tiles halved, CPU after out of memory).
    images_used, images_missing : tuple of str
        Input keys the model was given and those it did without.
    hypoxic_volume_ml : float
        Volume of the GTV whose mean map passes the threshold.
    hypoxic_volume_band_ml : tuple of float
        5th and 95th percentile of that volume; NaN where the model states no uncertainty.
    distribution : tuple of Finding
        The out-of-distribution gate, every check of it.
    baselines : tuple of Baseline
        Never empty.
    occlusion : mapping
        Input key to the mean absolute change of the map in the GTV when that image is left out; empty: not asked for.
    metadata_sha256 : str
        Of the bundle's metadata, which hold the digests of everything else; empty for a model that is no bundle.
    threshold_text : str
        What volume, band and baselines are thresholded at, e.g. ``"> 1.2"``, whatever the subvolume is cut at.
    origin : str
        Whether it is the model this software was released with, e.g. ``"user's bundle, not the shipped one"``.
    """

    name: str
    title: str
    version: str
    label: str
    training_data: str
    intended_use: str
    licence: str
    weights_sha256: tuple[str, ...]
    device: str
    images_used: tuple[str, ...]
    images_missing: tuple[str, ...]
    hypoxic_volume_ml: float
    hypoxic_volume_band_ml: tuple[float, float]
    distribution: tuple[Finding, ...]
    baselines: tuple[Baseline, ...]
    occlusion: Mapping[str, float] = field(default_factory=dict)
    metadata_sha256: str = ""
    threshold_text: str = ""
    origin: str = ""

    @property
    def in_distribution(self) -> bool:
        """True if there were checks and every one of them passed."""
        return bool(self.distribution) and all(finding.passed for finding in self.distribution)

    @property
    def failed_checks(self) -> tuple[str, ...]:
        """Names of the checks that failed, for an override; ``UNCHECKED`` where nothing was checked."""
        if not self.distribution:
            return (UNCHECKED,)
        return tuple(finding.name for finding in self.distribution if not finding.passed)

    @property
    def identity(self) -> str:
        """Whose model it is and the start of its metadata's SHA-256; empty where neither is known."""
        digest = f"metadata SHA-256 {self.metadata_sha256[:12]}" if self.metadata_sha256 else ""
        return "; ".join(part for part in (self.origin, digest) if part)
