"""The request: exact round trip, and every bad field refused by its name."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import string

import pytest

from HypoxiaDosePaintLib.request import (
    Margins,
    Registration,
    Request,
    Sphere,
    SubvolumeOptions,
    read_request,
    request_from_json,
)
from HypoxiaMapperLib.errors import InputError, RequestError

SMALLEST = {"folder": "in", "output": "out", "method": "tracer_ratio", "protocol": "welz_77_70_35"}


def any_text(generator):
    alphabet = string.printable + "äß€漢字\u2028\\\"'"
    return "".join(generator.choices(alphabet, k=generator.randrange(12)))


def any_json(generator, depth=2):
    kinds = [lambda: None, lambda: generator.random() < 0.5, lambda: generator.randrange(-9, 10**12),
             lambda: generator.uniform(-1e9, 1e9), lambda: any_text(generator)]  # fmt: skip
    if depth:
        kinds += [lambda: [any_json(generator, depth - 1) for _ in range(3)],
                  lambda: {any_text(generator): any_json(generator, depth - 1) for _ in range(3)}]  # fmt: skip
    return generator.choice(kinds)()


def any_request(generator):
    def maybe(value):
        return value if generator.random() < 0.5 else None

    def names():
        return tuple(any_text(generator) for _ in range(generator.randrange(4)))

    def margins():
        return Margins(*(generator.uniform(0, 50) for _ in range(6)))

    def number():
        return generator.uniform(-1, 1) * 10 ** generator.randrange(-300, 300)

    return Request(
        f"x{any_text(generator)}", any_text(generator), method=any_text(generator), protocol=any_text(generator),
        method_params={any_text(generator): any_json(generator) for _ in range(generator.randrange(4))},
        planning_series=any_text(generator), pet_series=any_text(generator), structure_set=any_text(generator),
        gtv_rois=names(), reference_roi=any_text(generator),
        reference_sphere=maybe(Sphere((number(), number(), number()), generator.uniform(1, 50))),
        organ_rois=names(), organ_gap_mm=generator.uniform(0, 10),
        subvolume=SubvolumeOptions(maybe(number()), generator.choice(["", ">", ">=", "<", "<="]),
                                   generator.uniform(0, 3), generator.uniform(0, 9), 1 - generator.random()),
        boost_margins=maybe(margins()), base_margins=maybe(margins()), base_dose_gy=maybe(number()),
        boost_dose_gy=maybe(number()), fractions=maybe(generator.randrange(-5, 60)),
        registration=Registration(generator.choice(["none", "file", "rigid"]), any_text(generator)),
        override=generator.choice(["", "dose Dr A: because", "volume Ärztin : Grund; dose B: c"]),
        accepted_by=generator.choice(["", "Dr Müller^Anna"]),
        write_rtdose=generator.random() < 0.5, holes=generator.choice(["keyhole", "xor"]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(200))
def test_round_trip_is_exact(seed):
    request = any_request(random.Random(seed))
    again = request_from_json(request.to_json())
    assert again == request
    assert again.to_json() == request.to_json()


def test_round_trip_through_a_file(tmp_path):
    request = any_request(random.Random(-1))
    path = tmp_path / "request.json"
    path.write_text(request.to_json(), encoding="utf-8")
    assert read_request(path) == request


def test_left_out_fields_take_their_defaults():
    assert request_from_json(json.dumps(SMALLEST)) == Request(**SMALLEST)


def test_whole_numbers_pass_as_decimal_ones():
    request = request_from_json(json.dumps({**SMALLEST, "organ_gap_mm": 4}))
    assert isinstance(request.organ_gap_mm, float)


@pytest.mark.parametrize("field", SMALLEST)
def test_a_missing_field_is_named(field):
    with pytest.raises(RequestError, match=f"lacks.*{field}"):
        request_from_json(json.dumps({k: v for k, v in SMALLEST.items() if k != field}))


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Request)])
def test_a_wrong_type_is_refused_by_name_for_every_field(field):
    numbers = {"organ_gap_mm", "base_dose_gy", "boost_dose_gy", "fractions", "motion_reference"}
    class_of_wrong = 3 if field not in numbers else "3"
    for wrong in (class_of_wrong, [{"x": 1}]):
        with pytest.raises(RequestError, match=field):
            request_from_json(json.dumps({**SMALLEST, field: wrong}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fractions", 35.0),
        ("fractions", True),
        ("write_rtdose", 1),
        ("write_rtdose", "yes"),
        ("gtv_rois", "GTVp"),
        ("gtv_rois", [1]),
        ("organ_gap_mm", True),
        ("organ_gap_mm", -1),
        ("organ_gap_mm", math.nan),
        ("organ_gap_mm", 10**400),
        ("base_dose_gy", math.inf),
        ("holes", "fill"),
        ("override", "just do it"),
        ("override", "dose Dr A:  "),
        ("override", "Dr A: no limit named"),
        ("override", "dose Dr A: back\\slash"),
        ("method_params", {"a": math.nan}),
        ("accepted_by", "Müller=x"),
        ("accepted_by", "Müller\\y"),
        ("accepted_by", "Müller\nz"),
        ("accepted_by", "A^B^C^D^E^F"),
        ("accepted_by", 65 * "a"),
        ("accepted_by", "^"),
        ("accepted_by", "--"),
        ("registration.mode", "deformable"),
        ("reference_sphere.radius_mm", 0),
        ("reference_sphere.radius_mm", -3),
        ("reference_sphere.centre_mm", [1, 2]),
        ("reference_sphere.centre_mm", [1, 2, "3"]),
        ("reference_sphere.centre_mm", [1, 2, math.nan]),
        ("boost_margins.left_mm", -1),
        ("boost_margins.left_mm", 500),
        ("base_margins.inferior_mm", "3 mm"),
        ("subvolume.threshold", math.nan),
        ("subvolume.threshold", "high"),
        ("subvolume.comparison", "=>"),
        ("subvolume.minimum_component_ml", -0.5),
        ("subvolume.closing_mm", 100),
        ("subvolume.maximum_fraction_of_gtv", 0),
        ("subvolume.maximum_fraction_of_gtv", 80),
    ],
)
def test_bad_values_are_refused_by_name(path, value):
    outer, _, inner = path.partition(".")
    data = {**SMALLEST, "reference_sphere": {"centre_mm": [1, 2, 3], "radius_mm": 5}}
    if inner:
        data[outer] = {**data.get(outer, {}), inner: value}
    else:
        data[outer] = value
    with pytest.raises(RequestError, match=inner or outer) as error:
        request_from_json(json.dumps(data))
    assert error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize("where", ["", "subvolume", "registration", "boost_margins"])
def test_unknown_fields_are_named_with_the_valid_ones(where):
    data = dict(SMALLEST)
    (data.setdefault(where, {}) if where else data)["thresold"] = 1.4
    with pytest.raises(RequestError, match=r"thresold.*Valid: "):
        request_from_json(json.dumps(data))


def test_a_field_given_twice_is_refused():
    text = json.dumps(SMALLEST)[:-1] + ', "method": "fdg_surrogate"}'
    with pytest.raises(RequestError, match="method more than once"):
        request_from_json(text)


@pytest.mark.parametrize("content", [b"", b"{", b"folder: in", b"\xff\xfe\x00\x01", b"[" * 100_000])
def test_files_that_are_no_json_name_the_file(tmp_path, content):
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"request\.json"):
        read_request(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object(text):
    with pytest.raises(RequestError, match="must be an object"):
        request_from_json(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        read_request(tmp_path / "none.json")


def test_parameters_that_json_cannot_give_back_are_refused():
    for params in ({"a": (1, 2)}, {"a": object()}, {1: "a"}):
        with pytest.raises(RequestError, match="method_params"):
            Request(**SMALLEST, method_params=params)


def test_the_next_run_is_accepted_anew_and_its_images_are_judged_anew():
    request = Request(
        **SMALLEST, accepted_by="Dr A", override="dose Dr A: small volume; distribution(ct-range) Dr B: seen the images"
    )
    following = request.for_next_run()
    assert following.accepted_by == ""
    assert following.override == "dose Dr A: small volume"


def test_the_override_of_the_distribution_names_its_checks():
    request = Request(**SMALLEST, override="dose Dr A: x; distribution(ct-range, fdg-smoothness) Dr B: seen: both")
    assert request.override_for("distribution") == "Dr B: seen: both"
    assert request.checks_overridden == ("ct-range", "fdg-smoothness")
    assert request_from_json(request.to_json()).checks_overridden == request.checks_overridden
    assert Request(**SMALLEST, override="distribution Dr B: seen").checks_overridden == ()
    spaced = Request(**SMALLEST, override="distribution (ct-range, fdg-range) Dr B: seen")
    assert spaced.checks_overridden == ("ct-range", "fdg-range")
    for wrong in (
        "dose Dr A: x; dose Dr B: y",
        "distribution(a) Dr A: x; distribution(b) Dr B: y",
        "dose(ct-range) Dr A: x",
        "distribution(a Dr A: x",
        "distribution(a) : x",
        "distribution(a)Dr: x",
    ):
        with pytest.raises(RequestError):
            Request(**SMALLEST, override=wrong)
