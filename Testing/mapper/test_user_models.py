"""Published models the user brings: registration, acceptance, digest; nothing wrong is opened, nothing half written."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from HypoxiaMapperLib.errors import InputError, OutputError, RequestError
from HypoxiaMapperLib.inference import user_models

NAME = "mskcc_tbr"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "settings folder" / "settings.json"
    monkeypatch.setenv(user_models.SETTINGS_VARIABLE, str(path))
    return path


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A file that stands for the published one: the digest expected is made its own."""
    path = tmp_path / "latest_net_G.pth"
    path.write_bytes(b"weights")
    model = replace(user_models.MSKCC_TBR, sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(user_models.PUBLISHED_MODELS, NAME, model)
    return path


def test_settings_file_lies_in_the_users_configuration_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(user_models.SETTINGS_VARIABLE, raising=False)
    for platform, variable, folder in (
        ("linux", "XDG_CONFIG_HOME", tmp_path / "xdg"),
        ("win32", "APPDATA", tmp_path / "roaming"),
    ):
        monkeypatch.setattr(user_models.sys, "platform", platform)
        monkeypatch.setenv(variable, str(folder))
        assert user_models.settings_path() == folder / "hypoxia" / "settings.json"
    monkeypatch.setattr(user_models.sys, "platform", "darwin")
    assert user_models.settings_path().parts[-4:] == ("Library", "Application Support", "hypoxia", "settings.json")


def test_nothing_registered_says_how_to_get_it(settings):
    (status,) = user_models.list_models()
    assert (status.model.name, status.available, status.sha256_matches, status.registration) == (
        NAME,
        False,
        None,
        None,
    )
    reason = user_models.unavailable_reason(NAME)
    for words in ("not registered", "https://github.com/cerr/fdg2fmiso_hn_pix2pix", "latest_net_G.pth", "terms"):
        assert words in reason
    with pytest.raises(RequestError, match="No file is registered"):
        user_models.read_weights(NAME)
    assert not settings.exists()


def test_register_and_read_back(settings, copy):
    done = user_models.register(NAME, copy, "  Ann  Muster ", date(2026, 1, 2))
    assert done == user_models.registered(NAME)
    assert (done.path, done.accepted_by, done.accepted_on) == (str(copy), "Ann Muster", "2026-01-02")
    assert done.accepted_terms == user_models.MSKCC_TBR.terms
    (status,) = user_models.list_models()
    assert (status.available, status.reason, status.sha256_matches) == (True, "", True)
    assert user_models.read_weights(NAME) == b"weights"
    assert [path.name for path in settings.parent.iterdir()] == ["settings.json"]


def test_other_entries_of_the_settings_stay(settings, copy):
    settings.parent.mkdir()
    settings.write_text(json.dumps({"other": 1, "user_models": {"later_model": {"path": "x"}}}), encoding="utf-8")
    user_models.register(NAME, copy, "Ann")
    user_models.forget(NAME)
    assert json.loads(settings.read_text(encoding="utf-8")) == {
        "other": 1,
        "user_models": {"later_model": {"path": "x"}},
    }
    assert copy.exists()


def test_terms_are_our_summary_with_a_link():
    terms = user_models.MSKCC_TBR.terms
    for words in ("Summary, not the terms", "research use only", "not approved for clinical use", "written permission"):
        assert words in terms
    assert "YOU MAY NOT DISTRIBUTE" not in terms.upper()


@pytest.mark.parametrize("person", ["", "  \n"])
def test_acceptance_by_nobody_is_refused(settings, copy, person):
    with pytest.raises(RequestError, match="accepted by nobody"):
        user_models.register(NAME, copy, person)
    assert not settings.exists()


def test_another_file_is_refused_and_not_stored(settings, tmp_path):
    wrong = tmp_path / "latest_net_G.pth"
    wrong.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"is not the published .* SHA-256 .* It was not opened"):
        user_models.register(NAME, wrong, "Ann")
    with pytest.raises(InputError, match="cannot be read"):
        user_models.register(NAME, tmp_path / "absent.pth", "Ann")
    with pytest.raises(InputError, match="cannot be read"):
        user_models.register(NAME, tmp_path, "Ann")
    with pytest.raises(RequestError, match="There is no published model 'other'"):
        user_models.register("other", wrong, "Ann")
    assert not settings.exists()


def test_a_file_changed_or_moved_later_is_unavailable(settings, copy):
    user_models.register(NAME, copy, "Ann")
    copy.write_bytes(b"weighty")
    (status,) = user_models.list_models()
    assert (status.available, status.sha256_matches) == (False, False)
    assert "SHA-256" in user_models.unavailable_reason(NAME)
    with pytest.raises(InputError, match="SHA-256"):
        user_models.read_weights(NAME)
    copy.unlink()
    (status,) = user_models.list_models()
    assert (status.available, status.sha256_matches) == (False, None)
    assert "cannot be read" in status.reason


class _Executes:
    """A pickle that runs a command when it is read."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_a_pickle_that_executes_is_refused_unread(settings, tmp_path):
    victim, evil = tmp_path / "executed", tmp_path / "latest_net_G.pth"
    evil.write_bytes(pickle.dumps(_Executes(victim)))
    with pytest.raises(InputError, match="It was not opened"):
        user_models.register(NAME, evil, "Ann")
    assert not victim.exists()
    pickle.loads(evil.read_bytes())  # the trap works, so the check above can fail
    assert victim.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"user_models": 3}', '{"user_models": {"mskcc_tbr": {"path": "x"}}}'])
def test_damaged_settings_are_a_reason_and_stay(settings, copy, text):
    settings.parent.mkdir()
    settings.write_text(text, encoding="utf-8")
    (status,) = user_models.list_models()
    assert not status.available
    assert "settings.json" in status.reason
    if "path" not in text:  # an incomplete entry is replaced, a file nobody can read is not
        with pytest.raises(InputError, match=r"settings\.json"):
            user_models.register(NAME, copy, "Ann")
        assert settings.read_text(encoding="utf-8") == text


def test_a_failing_write_leaves_the_old_settings_whole(settings, copy, monkeypatch):
    user_models.register(NAME, copy, "Ann")
    before = settings.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(user_models.os, "replace", fails)
    with pytest.raises(OutputError, match=r"cannot be written: No space left"):
        user_models.register(NAME, copy, "Bob")
    assert settings.read_bytes() == before
    assert [path.name for path in settings.parent.iterdir()] == ["settings.json"]
