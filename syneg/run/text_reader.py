"""The reader of a run as a judge of written texts over the margin.

text_reader(workspace, reader)      → TrustedReader(identity="gpt-4o-mini@…", count=12), or None
"""

from __future__ import annotations

from syneg.llm.role_settings import reader_settings
from syneg.negatives.reading import passages_in_a_list
from syneg.negatives.text_reading import TrustedReader

from .arms import arms
from .reader import Reader
from .workspace import Workspace


def text_reader(workspace: Workspace, reader: Reader) -> TrustedReader | None:
    """The reader that decides about texts over the margin; None where the margin decides.

    It decides if an arm reads or `reader.use` is on, if an LM grades, and if arms may use its grades.
    """
    config, own = workspace.config, workspace.config.reader
    wanted = own.use == "on" or any(arm.reads for arm in arms(config))
    asks = not own.given and not own.cross_encoder and not workspace.goes_by_batch
    if not (wanted and asks and config.gates.margin) or reader.refusal():
        return None
    lm = workspace.roles.text_reader_lm
    return TrustedReader(lm, reader.grader, lm.identity, passages_in_a_list(own, [reader_settings(config).model]))
