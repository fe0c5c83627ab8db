"""How programs are found, saved and shown.

    load_program("multi_attribute")   load_program("mine:Mine")   load_program("runs/python-docs/program.json")
    state_of(program, "multi_attribute", "json") → {"write": {…}, "manifest": {"class": "multi_attribute", …}}

docs/programs.md describes the contract of a program. Its `forward` takes the keywords in `INPUTS` and returns
HardNegatives. It raises only what an LM call raises. It holds no index, corpus or lock, because optimizers copy it.
Gates, retries, the ledger and budgets are outside a program.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import dspy

from syneg.core.errors import ConfigError
from syneg.core.records import MinedNegative, fingerprint
from syneg.core.storage import JsonObject

from .own import built, imported

PROGRAMS: dict[str, type[dspy.Module]] = {}
QUERY_PROGRAMS: dict[str, type[dspy.Module]] = {}  # programs that write queries, not negatives
READER_PROGRAMS: dict[str, type[dspy.Module]] = {}  # programs that grade passages


class ProgramInputs(TypedDict):
    """The keyword arguments of a program's `forward`: one pair, and the negatives wanted for it.

    `task` says what relevant means. `attributes` has one mapping for each negative wanted. `candidates` are mined
    passages that the program may rewrite, the best first.
    """

    query: str
    positive: str
    task: str
    attributes: Sequence[Mapping[str, str]]
    candidates: Sequence[MinedNegative]


INPUTS = tuple(ProgramInputs.__annotations__)
QUERY_INPUTS = ("passage", "task", "kind", "examples")
READER_INPUTS = ("query", "passages", "task")


def name_of(program: dspy.Module) -> str:
    """The name of a program in the registry, or else the name of its class."""
    return next((name for name, known in PROGRAMS.items() if type(program) is known), type(program).__name__)


def load_program(name: str) -> dspy.Module:
    """Build the program `name`: a name of the registry, `module:Class`, or the path of a saved `.json`.

    Raises ConfigError if it is not found, breaks the contract, or was saved with other signatures.
    """
    return _load(name, PROGRAMS, INPUTS)


def load_query_program(name: str) -> dspy.Module:
    """Build a program that writes queries, named in the same ways as for `load_program`."""
    return _load(name, QUERY_PROGRAMS, QUERY_INPUTS)


def load_reader_program(name: str) -> dspy.Module:
    """`load_program` for a program that grades passages."""
    return _load(name, READER_PROGRAMS, READER_INPUTS)


def _load(
    name: str, known: Mapping[str, type[dspy.Module]], inputs: Sequence[str], saved: Path | None = None
) -> dspy.Module:
    """Build a program of one kind: `known` are those of the package. `saved` is the file that names it, if one does."""
    if name in known:
        return known[name]()
    if name.endswith(".json"):
        return _load_state(Path(name), known, inputs)
    module_name, colon, class_name = name.partition(":")
    if not colon and not name.endswith(".py"):
        kinds = (
            (PROGRAMS, "writes negatives"),
            (QUERY_PROGRAMS, "writes queries"),
            (READER_PROGRAMS, "grades passages"),
        )
        does = next((f"the program {name!r} {does}" for kind, does in kinds if name in kind), "")
        raise ConfigError(
            does or f"unknown program {name!r}",
            where=str(saved) if saved else None,
            todo=f"known: {', '.join(known)}, or your own as module:Class, or a saved program.json",
        )
    program_class = imported(module_name, class_name)
    if not (isinstance(program_class, type) and issubclass(program_class, dspy.Module)):
        raise ConfigError(f"{name!r} is not a dspy.Module", todo="derive the class from dspy.Module")
    taken = inspect.signature(getattr(program_class, "forward", program_class.__call__)).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    missing = [key for key in inputs if key not in taken]
    if missing and not open_ended:
        raise ConfigError(
            f"forward of {name!r} does not take {', '.join(missing)}",
            todo=f"it is called with {', '.join(inputs)}",
        )
    program = built(program_class, name)
    program.set_lm(None)  # the run's LM is used, so that its settings, ledger and budget apply
    return program


def signatures_of(program: dspy.Module) -> dict[str, str]:
    """predictor name → fingerprint of its fields: names, in or out, and types. Instructions are not part of it."""
    return {
        name: fingerprint([
            [field, "in" if field in predictor.signature.input_fields else "out", str(info.annotation)]
            for field, info in predictor.signature.fields.items()
        ])
        for name, predictor in program.named_predictors()
    }  # fmt: skip


def state_of(program: dspy.Module, name: str, adapter: str) -> JsonObject:
    """The content of program.json: DSPy's own state, which plain `program.load` reads, and a manifest.

    The manifest holds class, adapter, signatures and versions.
    """
    state = json.loads(json.dumps(program.dump_state(json_mode=True)))
    known = {*PROGRAMS, *QUERY_PROGRAMS, *READER_PROGRAMS}
    manifest: JsonObject = {
        "class": name if name in known or ":" in name else getattr(program, "saved_as", name),
        "adapter": adapter,
        "signatures": signatures_of(program),
        "versions": {package: importlib.metadata.version(package) for package in ("syneg-dspy", "dspy")},
    }
    return {**state, "metadata": {"dependency_versions": {"dspy": manifest["versions"]["dspy"]}}, "manifest": manifest}


def _load_state(path: Path, known: Mapping[str, type[dspy.Module]], inputs: Sequence[str]) -> dspy.Module:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        manifest, name = saved["manifest"], saved["manifest"]["class"]
        signatures = dict(manifest["signatures"])
    except OSError as error:
        raise ConfigError(f"cannot read the program: {error.strerror}", where=str(path)) from error
    except (ValueError, LookupError, TypeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"not a saved program: {why}", where=str(path), todo="give a program.json of a run"
        ) from error
    if str(name).endswith(".json"):
        raise ConfigError("a saved program cannot name another saved program", where=str(path))
    program = _load(str(name), known, inputs, path)
    now = signatures_of(program)
    changed = sorted(key for key in {*now, *signatures} if now.get(key) != signatures.get(key))
    if changed:
        saved_with = manifest.get("versions", {}).get("syneg-dspy")
        raise ConfigError(
            f"the program {name!r} has other signatures than when it was saved: {', '.join(changed)}",
            where=str(path),
            todo=f"compile it again, or use the syneg-dspy it was saved with ({saved_with})",
        )
    try:
        program.load_state(
            {
                key: {**value, "lm": None} if isinstance(value, dict) else value
                for key, value in saved.items()
                if key not in ("manifest", "metadata")
            }
        )  # a saved LM would bypass the run's settings, ledger and budget
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"the state of {name!r} cannot be read: {error}", where=str(path)) from error
    program.saved_as = str(name)
    return program


def program_markdown(program: dspy.Module, name: str) -> str:
    """All prompts of a program as Markdown: instructions, fields and demos of each predictor."""
    lines = [f"# {name}", ""]
    for predictor_name, predictor in program.named_predictors():
        signature = predictor.signature
        lines += [f"## {predictor_name}", "", signature.instructions, ""]
        for kind, fields in (("in", signature.input_fields), ("out", signature.output_fields)):
            for field, info in fields.items():
                lines.append(f"- {kind} `{field}`: {(info.json_schema_extra or {}).get('desc', '')}")
        for number, demo in enumerate(predictor.demos, 1):
            lines += ["", f"### demo {number}", ""]
            lines += [f"- {key}: {value}" for key, value in dict(demo).items()]
        lines.append("")
    return "\n".join(lines)
