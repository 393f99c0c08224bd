"""Weights that cannot be distributed: the user reads the terms, gives a name and points to the own copy."""

from __future__ import annotations

import textwrap
from pathlib import Path

import qt
import slicer

from ..errors import HypoxiaError
from ..inference.user_models import PUBLISHED_MODELS, PublishedModel, register
from ..methods import Method
from .i18n import _

COLUMNS = 90  # of the text of a dialog


def locate(method: Method) -> str:
    """Show the terms, ask for a name and the file, and register it; what to tell the user."""
    model = PUBLISHED_MODELS[method.name]
    name = qt.QInputDialog.getText(None, model.title, terms_text(model)).strip()
    if not name:
        return _("Nothing was registered: the terms were not accepted.")
    path = qt.QFileDialog.getOpenFileName(None, model.file_name, "", model.file_name)
    if not path:
        return _("Nothing was registered: no file was chosen.")
    with slicer.util.tryWithErrorDisplay(_("The weights could not be registered."), waitCursor=True):
        try:
            register(model.name, Path(path), name)
        except HypoxiaError as error:
            return str(error)
    return _("{title}: registered for {name}.").format(title=model.title, name=name)


def terms_text(model: PublishedModel) -> str:
    """What a person accepts by giving a name."""
    asked = _("If you have read and accept the terms, enter your name:")
    # The dialog does not break lines itself.
    return "\n\n".join(textwrap.fill(text, COLUMNS) for text in (model.terms, model.how_to_get, model.citation, asked))
