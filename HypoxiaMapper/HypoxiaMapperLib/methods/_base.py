"""The contract of a hypoxia method: one file, one class, everything a front end needs to know.

Slicer panel, ``hypoxia methods``, ``--help`` and report are rendered from these attributes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ..errors import RequestError
from ..volume import Region, Volume
from ._model_use import ModelUse

Progress = Callable[[float, str], None]
"""Called with the fraction done (0..1) and a line of text; may raise to cancel."""


def no_progress(fraction: float, text: str) -> None:
    """A progress sink that does nothing."""


@dataclass(frozen=True)
class InputSpec:
    """An image a method needs: the key in ``inputs``, what it must measure, and why.

    Parameters
    ----------
    tracers : tuple of str
        PET tracers it may show; empty: any.
    kind : str
        ``"volume"`` (a ``Volume``), ``"time"`` (a ``TimeSeries``) or a parameter of ``timeseries.PARAMETERS`` such as
        ``"echo time"`` (a ``ParameterSeries``).
    modality : str
        DICOM modality, ``"PT"`` or ``"MR"``.
    mr_kinds : tuple of str
        Kinds of MR (as a scan names them) that are taken without being named by the user.
    """

    key: str
    quantity: str
    description: str
    tracers: tuple[str, ...] = ()
    required: bool = True
    kind: str = "volume"
    modality: str = "PT"
    mr_kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegionSpec:
    """A region a method needs: the key in ``regions`` and what it is.

    ``only_checked``: a wrong one is refused, and any other gives the very same map.
    """

    key: str
    description: str
    required: bool = True
    only_checked: bool = False


@dataclass(frozen=True)
class FitCurve:
    """A measured curve of a region with the model's curve through it, for plots and reports.

    Parameters
    ----------
    name : str
        The region.
    x, measured, fitted : tuple of float
        One value per frame.
    """

    name: str
    x: tuple[float, ...]
    measured: tuple[float, ...]
    fitted: tuple[float, ...]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class HypoxiaMap:
    """What a method returns.

    Parameters
    ----------
    volume : Volume
        The map on the grid of the inputs, NaN where it is undefined.
    threshold : float
        Value that parts hypoxic from not, in the map's unit; NaN when the method has none.
    comparison : str
        ``">"`` or ``">="`` (``"<"``, ``"<="`` for quantities that fall with hypoxia).
    threshold_source : str
        Where the threshold comes from (protocol name and citation, or "set by the user").
    surrogate : bool
        True when the map is not a measurement of hypoxia (FDG, predicted): every display says so.
    uncertainty : Volume or None
        Standard deviation of the map in the same unit.
    quality : numpy.ndarray or None
        uint8 code per voxel (0 = ok), shape (z, y, x).
    warnings : tuple of str
        What a physicist must read before using the map.
    details : mapping
        Numbers worth reporting (reference mean, voxels used ...), names carrying units.
    extra : mapping
        Further maps by name (other parameters, standard errors), on the grid of the inputs.
    curves : tuple of FitCurve
        Measured and fitted curves of regions.
    model : ModelUse or None
        The trained model behind the map, if one is.
    """

    volume: Volume
    threshold: float
    comparison: str
    threshold_source: str
    surrogate: bool = False
    uncertainty: Volume | None = None
    quality: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Volume] = field(default_factory=dict)
    curves: tuple[FitCurve, ...] = ()
    model: ModelUse | None = None


def parameter(
    default: Any = MISSING,
    *,
    label: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    source: str,
) -> Any:
    """A field of a method's ``Params`` with label, unit, range and source of its default."""
    metadata = {
        "label": label, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices, "source": source,
    }  # fmt: skip
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


class Method:
    """Base of every hypoxia method. Subclasses set the class attributes and implement ``compute``.

    With ``on_native_grid`` images and regions come on the grid of the first image, not on the planning image's, and
    the map is brought from there to the planning image. A ``learned`` method's map always tells of its model
    (``HypoxiaMap.model``): without it nobody could check the images against the training.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    quantity: ClassVar[str]
    unit: ClassVar[str]
    citation: ClassVar[str]
    inputs: ClassVar[tuple[InputSpec, ...]]
    regions: ClassVar[tuple[RegionSpec, ...]] = ()
    surrogate: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    on_native_grid: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    Params: ClassVar[type]

    def unavailable_reason(self) -> str:
        """Empty when the method can run here, else what is missing and how to get it."""
        missing = [p for p in self.packages if importlib.util.find_spec(p) is None]
        return f"needs the Python package(s) {', '.join(missing)}: pip install {' '.join(missing)}" if missing else ""

    def make_params(self, values: Mapping[str, Any]) -> Any:
        """Build ``Params`` from a mapping, checking names, ranges and choices.

        Raises
        ------
        RequestError
            Naming the parameter, its value and what is allowed.
        """
        known = {f.name: f for f in fields(self.Params)}
        for key, value in values.items():
            if key not in known:
                raise RequestError(
                    f"Method {self.name} has no parameter {key!r}.", f"Valid parameters: {', '.join(known) or 'none'}."
                )
            _check_parameter(self.name, key, value, known[key])
        return self.Params(**values)

    def compute(
        self,
        inputs: Mapping[str, Any],
        regions: Mapping[str, Region],
        params: Any,
        progress: Progress = no_progress,
    ) -> HypoxiaMap:
        """Compute the map on the common grid of ``inputs`` (see ``InputSpec.kind``) and ``regions``."""
        raise NotImplementedError


def _same_kind(value: Any, default: bool | str | int | float) -> bool:
    """True if a value has the type of a default; a whole number serves as a float."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def _check_parameter(method: str, key: str, value: Any, declared: Field[Any]) -> None:
    """Refuse a value of another type than the default's, or outside the declared range or choices."""
    metadata, default = declared.metadata, declared.default
    if isinstance(default, bool | str | int | float) and not _same_kind(value, default):
        raise RequestError(f"{method}: {key} is {value!r}.", f"It must be of the kind of its default, {default!r}.")
    choices, low, high = metadata.get("choices"), metadata.get("minimum"), metadata.get("maximum")
    unit = f" {metadata['unit']}" if metadata.get("unit") else ""
    if choices and value not in choices:
        raise RequestError(f"{method}: {key} is {value!r}.", f"Valid values: {', '.join(choices)}.")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not np.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
        raise RequestError(
            f"{method}: {key} is {value}{unit}.", f"Allowed range: {low} to {high}{unit} ({metadata['label']})."
        )
