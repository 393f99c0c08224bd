"""Report, plots, JSON and CSV: complete, escaped, self-contained, labelled, and never over an existing file."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from HypoxiaDosePaintLib.pipeline import margins_not_set
from HypoxiaDosePaintLib.plots import histogram_svg, volume_by_threshold_svg
from HypoxiaDosePaintLib.prescription import get_protocol, make_prescription
from HypoxiaDosePaintLib.render import Pictures
from HypoxiaDosePaintLib.report import PICTURE_CAPTIONS, object_check, report_html, write_report
from HypoxiaDosePaintLib.request import Margins, Request, request_from_json
from HypoxiaDosePaintLib.result import Curve, Dropped, ProofRow
from HypoxiaDosePaintLib.sidecar import result_to_json, write_targets_csv
from HypoxiaDosePaintLib.wording import (
    NO_PERSON,
    SURROGATE_LABEL,
    date_text,
    gtv_words,
    label_text,
    ml_text,
    name_text,
    number_text,
    prescribed_text,
    threshold_text,
)
from HypoxiaMapperLib.errors import OutputError
from HypoxiaMapperLib.methods import FitCurve
from result_samples import sample_result

EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/x>--><b>$%"
PICTURES = Pictures({"axial": b"\x89PNG axial", "slices_1": b"\x89PNG slices"})


@pytest.fixture(scope="module")
def result():
    return sample_result(size=48)


class Page(HTMLParser):
    """Tags, addresses and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.hidden = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action")]
        self.hidden += tag in ("style", "title")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "title")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_page_is_self_contained(result):
    html = report_html(result, PICTURES)
    page = Page(html)
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_order_is_banner_state_warnings_numbers_targets_pictures_proof_provenance(result):
    html = report_html(result, PICTURES)
    text = Page(html).text
    assert (
        text.index("Research use only") < text.index("Accepted by Dr A. Example") < text.index("Read first: 1 warning")
    )
    assert re.findall("<h2>(.*?)</h2>", html) == [
        "Read first: 1 warning", "At a glance", "Targets", "Volume left out", "Pictures", "How firm is the threshold?",
        "Patient and series", "What was done", "Registration", "Read-back proof",
        "Against the known truth (digital patient)", "Provenance", "What each number means",
    ]  # fmt: skip


def test_numbers_of_the_prescription_are_the_published_ones(result):
    """VALIDATION row 10 (EQD2 of 77 Gy in 35) and METHODS section 9 (82.7, 93.3, 110 Gy for iso-effect)."""
    text = Page(report_html(result, PICTURES)).text
    assert re.search(r"PTV_7700 PTV [\d.]+ ml 77\.0 Gy 2\.20 Gy 78\.3 Gy 80\.1 Gy", text)
    assert "5.7 Gy missing at 10 mmHg; 16.3 Gy missing at 5 mmHg; 33.0 Gy missing at 2.5 mmHg" in text
    assert f"{ml_text(result.hypoxic_volume_ml)} hypoxic volume" in text
    assert f"{100 * result.hypoxic_fraction:.1f} % of the GTV" in text
    assert "> 1.4 (ratio) counts as hypoxic" in text


def test_choices_of_the_request_are_told(result):
    result = replace(result, details={**result.details, "base_margin": "5 mm", "boost_margin": "4 mm"})
    text = Page(report_html(result, PICTURES)).text
    for part in (
        "Reference sphere of 9 mm at -35, 10, -40 mm LPS", "Organs at risk SpinalCord", "Distance to organs (mm) 3",
        "Subvolume: minimum component (ml) 0.5", "Margin of boost 4 mm on every side",
        "Margin of base 5 mm (the protocol's own)",
    ):  # fmt: skip
        assert part in text
    uneven = replace(result, request=replace(result.request, base_margins=Margins(3, 3, 3, 3, 6, 6)))
    wanted = "left 3, right 3, anterior 3, posterior 3, superior 6, inferior 6 mm"
    assert wanted in Page(report_html(uneven, PICTURES)).text


def test_nothing_accepted_is_said_and_no_proof_is_claimed():
    text = Page(report_html(sample_result(size=48, accepted=False), PICTURES)).text
    assert "NOT ACCEPTED No person has accepted this result. No DICOM was exported." in text
    assert "Nothing was exported, so there is nothing to prove." in text
    assert "passed" not in text


def test_failed_proof_cannot_be_overlooked(result):
    row = replace(result.proof[0], passed=False, reason="Dice 0.91 below 0.99")
    text = Page(report_html(replace(result, proof=(row, *result.proof[1:])), PICTURES)).text
    assert "Read-back proof: FAILED" in text
    assert "NOT every structure came back as shown." in text
    assert "FAILED Dice 0.91 below 0.99" in text


def test_surrogate_is_named_in_every_place(result):
    text = Page(report_html(sample_result(size=48, surrogate=True), PICTURES)).text
    assert SURROGATE_LABEL not in Page(report_html(result, PICTURES)).text
    head, *sections = re.split("At a glance|Pictures|How firm is|Patient and series|What was done|Registration", text)
    glance, pictures, plots, _, method = sections[:5]
    assert SURROGATE_LABEL in head
    assert SURROGATE_LABEL in glance[glance.index("Doses are physical gray") :]
    assert re.search("of the GTV is surrogate volume .* counts as surrogate volume .* to the surrogate volume", glance)
    assert pictures.count(SURROGATE_LABEL) == len(PICTURES)
    assert plots.count(SURROGATE_LABEL) == 2
    assert SURROGATE_LABEL in method


def test_nothing_of_a_surrogate_is_called_hypoxic():
    """But for the general warnings on hypoxia, which hold for a surrogate too."""
    result = sample_result(size=48, surrogate=True)
    html = report_html(replace(result, dropped=(), truth={}), Pictures(dict.fromkeys(PICTURE_CAPTIONS, b"png")))
    for allowed in result.warnings:
        html = html.replace(allowed, "")
    words = re.sub("(?s)<style>.*?</style>|<pre>.*?</pre>|<svg.*?</svg>", "", html)
    assert "surrogate volume" in words
    assert not re.findall(".{20}hypoxic.{20}", words, re.IGNORECASE)


def test_plots_of_a_surrogate_are_not_called_hypoxic(monkeypatch):
    """Letters of the SVG are shapes, so the words are caught where matplotlib gets them."""
    from matplotlib.text import Text

    said = []
    set_text = Text.set_text
    monkeypatch.setattr(Text, "set_text", lambda self, s: (said.append(str(s)), set_text(self, s))[1])
    result = sample_result(size=48, surrogate=True)
    curve = replace(result.volume_by_threshold, y_label="Volume (ml)")
    result = replace(result, volume_by_threshold=curve)
    histogram_svg(result)
    volume_by_threshold_svg(result)
    assert "surrogate volume: > 1.4 (ratio)" in said
    assert not [text for text in said if "hypoxic" in text.lower()]


def test_text_of_others_is_escaped(result):
    evil = replace(
        result,
        patient={"id": EVIL, "name": EVIL},
        warnings=(EVIL,),
        method={**result.method, "title": EVIL, "citation": EVIL, "parameters": {EVIL: EVIL}},
        series=(replace(result.series[0], description=EVIL, facts={EVIL: EVIL}),),
        dropped=(Dropped(EVIL, EVIL, 0.1, (0.0, 0.0, 0.0)),),
        targets=(replace(result.targets[0], name=EVIL, description=EVIL),),
        proof=(replace(result.proof[0], structure=EVIL, reason=EVIL),),
        details={EVIL: {EVIL: [EVIL]}},
        truth={EVIL: EVIL},
        accepted_by=EVIL,
        exported=(EVIL,),
        histogram=Curve(result.histogram.x, result.histogram.y, EVIL, EVIL),
        volume_by_threshold=Curve(result.volume_by_threshold.x, result.volume_by_threshold.y, EVIL, EVIL),
    )
    page = Page(report_html(evil, Pictures(dict(PICTURES), (EVIL,))))
    assert "script" not in page.tags
    assert page.tags.count("img") == len(PICTURES)
    assert not [a for a in page.addresses if "evil" in a]
    assert page.text.count("<script>alert('x')</script>") > 10


def test_warnings_of_the_pictures_and_their_absence_are_shown(result):
    text = Page(report_html(result, Pictures({}, ("The pictures were not rendered by Slicer: no EGL",)))).text
    assert "Read first: 2 warnings" in text
    assert "no EGL" in text
    assert "No pictures could be made" in text


def test_a_demonstration_is_not_shown_as_accepted(result):
    demo = replace(result, accepted_by=f"Demonstration {NO_PERSON}")
    html = report_html(demo, PICTURES)
    assert '<div class="state demo"><strong>DEMONSTRATION, accepted by no person</strong>' in html
    assert '<div class="state ok">' not in html
    assert '<div class="state ok"><strong>Accepted by Dr A. Example</strong>' in report_html(result, PICTURES)


def test_cropped_is_a_number_for_every_planning_target_and_for_nothing_else(result):
    details = {**result.details, "cropped_from_PTV_7000_ml": {"SpinalCord": 0.37}, "packages": {"numpy": "2.4.6"}}
    html = report_html(replace(result, details=details), PICTURES)
    text = Page(html).text
    rows = re.findall(r"<td><b>(\w+)</b></td>.*?<td class=\"n\">([^<]*)</td></tr>", html)
    assert rows == [("GTVp", "–"), ("GTVp_Hyp", "–"), ("PTV_7700", "0.00 ml"), ("PTV_7000", "0.37 ml"), ("Blood", "–")]
    assert "cropped by organ: SpinalCord 0.37 ml" in text
    assert "Cropped from" not in text  # once, beside the target, is enough
    assert "CONTROL is the reference region of the map, neither target nor organ at risk" in text
    assert "of which none was given" not in text
    assert "Python packages numpy 2.4.6" in text
    none = replace(result, request=replace(result.request, organ_rois=()))
    assert "removed in and next to organs at risk, of which none was given" in Page(report_html(none, PICTURES)).text


def test_whole_objects_have_a_table_of_their_own_that_says_what_was_compared(result):
    nan = float("nan")
    whole = [ProofRow(n, nan, nan, nan, nan, True) for n in ("RTSTRUCT", "MAP_UNCERTAINTY", "file RTPLAN.dcm")]
    text = Page(report_html(replace(result, proof=(*result.proof, *whole)), PICTURES)).text
    structures, objects = text.split("Object or file What was compared Result")
    assert "RTSTRUCT" not in structures[structures.rindex("Centre moved") :]
    assert "RTSTRUCT it refers to the slices of the planning CT" in objects
    assert "MAP_UNCERTAINTY quantity, unit and the value of every voxel" in objects
    assert "file RTPLAN.dcm bytes are those delivered" in objects


def test_what_to_import_onto_which_series_is_said_once_there_is_something_to_import(result):
    words = "Import RTSTRUCT.dcm and RTPLAN.dcm together , onto the planning CT of series 1.2.3.10 ."
    exported = replace(result, exported=("dicom/RTSTRUCT.dcm", "dicom/RTPLAN.dcm"))
    assert words.replace(" ,", ",").replace(" .", ".") in Page(report_html(exported, PICTURES)).text.replace(" ,", ",")
    assert "Into the planning system" not in Page(report_html(sample_result(size=48, accepted=False), PICTURES)).text


def test_a_series_of_frames_is_not_called_irregular(result):
    facts = {"time_axis": "20 frames"}
    pet = replace(result.series[1], geometry="21x22, 500 files, no regular grid", facts=facts)
    text = Page(report_html(replace(result, series=(pet,)), PICTURES)).text
    assert "21x22, 500 files, in frames" in text
    still = Page(report_html(replace(result, series=(replace(pet, facts={}),)), PICTURES)).text
    assert "21x22, 500 files, no regular grid" in still


def test_the_stretched_time_of_a_patlak_plot_is_explained(result):
    curve = FitCurve("GTV", (1.0, 2.0), (1.0, 2.1), (1.0, 2.0), "stretched time (min)", "Ct/Cp (mL/mL)")
    shown = replace(result, images=replace(result.images, map=replace(result.images.map, curves=(curve,))))
    assert "Stretched time (Patlak): integral of the plasma curve" in Page(report_html(shown, PICTURES)).text
    assert "Stretched time" not in Page(report_html(result, PICTURES)).text


def test_every_check_of_the_proof_is_explained():
    names = ("identity", "label of the model", "RTSTRUCT", "SEG", "RTPLAN", "MAP", "MAP_ALEATORIC_SD", "PRESCRIPTION",
             "RTDOSE", "file SEG.dcm")  # fmt: skip
    assert [name for name in names if not object_check(name)] == []


def test_the_truth_is_explained_and_has_units(result):
    truth = {"found_ml": 8.592, "blurred_truth_ml": 8.316, "error_against_blurred_percent": 3.319,
             "dice_against_unblurred": 0.82888}  # fmt: skip
    text = Page(report_html(replace(result, truth=truth), PICTURES)).text
    assert "Found by this run 8.59 ml Blurred truth 8.32 ml Error against the blurred truth +3.3 %" in text
    assert "Overlap (Dice) with the unblurred truth, 1 is perfect 0.829" in text
    assert "Blurred truth : the same after the blur of this PET but without its noise" in text


def test_the_deficit_stands_beside_the_one_of_the_other_constant(result):
    text = Page(report_html(result, PICTURES)).text
    assert (
        "m 3 and K 3 mmHg for any patient; with K 2.5 mmHg, as others have it, 16 mmHg and 3.8, 13.0, 28.0 Gy" in text
    )


def test_pictures_have_words_for_those_who_cannot_see_them(result):
    said = "Axial z = 4 mm (slice 3/9). Drawn: GTVp."
    html = report_html(result, Pictures({"axial": b"png"}, (), {"axial": said}))
    assert f'alt="Axial slice of the planning image through the hypoxic volume, with the map. {said}"' in html
    for svg in re.findall("<svg[^>]*>", html):
        assert 'role="img"' in svg
        assert re.search('aria-label="[^"]{20,}"', svg)


def test_every_printed_page_says_research_use_and_whose_it_is(result):
    evil = '"; } body { display: none } </style><b>'
    html = report_html(replace(result, patient={"id": evil, "name": "A"}), PICTURES)
    style = html[html.index("<style>") : html.index("</style>")]
    assert '@bottom-left { content: "Research use only"; }' in style
    assert "display: none" not in style
    assert "@top-center" not in style
    surrogate = report_html(sample_result(size=48, surrogate=True), PICTURES)
    top = re.search(r'@top-center { content: "([^"]*)"; font-weight: bold; }', surrogate).group(1)
    assert re.sub(r"\\([0-9a-f]{6})", lambda m: chr(int(m[1], 16)), top) == SURROGATE_LABEL
    found = re.search(r'@bottom-center { content: "([^"]*)"; }', style).group(1)
    assert re.sub(r"\\([0-9a-f]{6})", lambda m: chr(int(m[1], 16)), found) == f"Patient ID {evil}"


def test_override_is_told(result):
    over = make_prescription("hot", 70.0, 90.0, 35, "Dr B: trial arm")
    assert "Limit overridden by Dr B: trial arm" in Page(report_html(replace(result, prescription=over), {})).text


def test_report_is_deterministic_and_never_overwrites(result, tmp_path):
    path = tmp_path / "report.html"
    write_report(result, PICTURES, path)
    assert path.read_text(encoding="utf-8") == report_html(result, PICTURES)
    with pytest.raises(OutputError, match="exists already"):
        write_report(result, PICTURES, path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(result, PICTURES, tmp_path / "missing" / "report.html")


def test_the_two_plots_share_no_id(result):
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (histogram_svg(result), volume_by_threshold_svg(result))]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for svg in (histogram_svg(result), volume_by_threshold_svg(result)):
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
        assert used <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_plots_without_a_threshold_still_draw(result):
    undefined = replace(result, threshold=float("nan"))
    assert histogram_svg(undefined).startswith("<svg")
    assert volume_by_threshold_svg(undefined).startswith("<svg")


def test_json_holds_everything_but_the_voxels(result):
    odd = replace(result, details={"nan_mm": float("nan"), "array": result.images.map.volume.array[20, 20, :3]})
    data = json.loads(result_to_json(odd), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert "images" not in data
    assert data["details"]["nan_mm"] is None
    assert len(data["details"]["array"]) == 3
    assert request_from_json(json.dumps(data["request"])) == result.request
    assert data["prescription"]["boost"]["eqd2_tumour_gy"] == pytest.approx(78.283, abs=0.01)
    assert data["prescription"]["residual_deficit_gy"]["5_mmhg"] == pytest.approx(16.33, abs=0.01)
    assert [t["name"] for t in data["targets"]] == [t.name for t in result.targets]
    assert data["hypoxic_volume_ml"] == result.hypoxic_volume_ml


def test_csv_comes_back_and_starts_no_formula(result, tmp_path):
    targets = (replace(result.targets[0], description="=cmd()"), *result.targets[1:])
    path = tmp_path / "targets.csv"
    write_targets_csv(replace(result, targets=targets), path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["name"] for r in rows] == [t.name for t in targets]
    boost = next(r for r in rows if r["name"] == "PTV_7700")
    assert (float(boost["dose_gy"]), int(boost["fractions"])) == (77.0, 35)
    assert float(boost["volume_ml"]) == pytest.approx(next(t.volume_ml for t in targets if t.name == "PTV_7700"))
    assert rows[0]["dose_gy"] == ""
    assert rows[0]["description"] == "'=cmd()"
    with pytest.raises(OutputError, match="exists already"):
        write_targets_csv(result, path)


def test_wording():
    assert (ml_text(3.068), ml_text(11.61), ml_text(0.0)) == ("3.07 ml", "11.6 ml", "0.00 ml")
    assert threshold_text(1.4, ">=", "{ratio}") == ">= 1.4 (ratio)"
    assert threshold_text(10, "<", "mm[Hg]") == "< 10 (mmHg)"
    assert label_text("reference_mean_g_ml") == "Reference mean (g/ml)"
    assert label_text("hypoxic_volume_ml") == "Hypoxic volume (ml)"
    assert number_text(True) == "yes"
    assert number_text((1.23456, float("nan"))) == "1.235, undefined"
    assert (name_text("Doe^Jane^M"), name_text("Doe"), name_text("")) == ("Doe, Jane M", "Doe", "")
    assert (date_text("20260227"), date_text("2026-02-27")) == ("2026-02-27", "2026-02-27")


def test_a_share_of_several_gtvs_belongs_to_none_of_them():
    assert [prescribed_text(d) for d in (70.0, 55.05, None)] == ["70.0 Gy", "55.05 Gy", "–"]
    assert [gtv_words(n) for n in (1, 2, 3)] == ["the GTV", "both GTVs together", "all 3 GTVs together"]


def test_only_margins_that_were_not_set_are_said_to_be_the_protocols():
    protocol, own = get_protocol("welz_77_70_35"), Margins.uniform(4)
    request = Request(".", "", "tracer_ratio", protocol.name)
    assert "5 mm (base) and 3 mm (boost)" in margins_not_set(request, protocol)[0]
    assert "3 mm" not in margins_not_set(replace(request, boost_margins=own), protocol)[0]
    assert margins_not_set(replace(request, base_margins=own, boost_margins=own), protocol) == []
