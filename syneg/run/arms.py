"""Arms that a verdict compares. An arm is a way to fill training rows, with settings of its own.

    arm("hybrid@ratio=0.7@temperature=0.02", config) → Arm(name="hybrid@ratio=0.7@…", kind="hybrid", …)

`kind` is one of sampling.ARMS. After each @ comes a setting of [mine], [mix] or [train] without its section, or
`program`. All other settings are those of the run. `seeds=3` means seeds 0, 1 and 2. `calls=100` lets an arm use only
what its first 100 LM calls wrote or graded. `calls=equal` gives all arms with this setting the same number of calls:
the smallest that one of them has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from syneg.core.config import Config, MineConfig, MixConfig, TrainConfig
from syneg.core.errors import ConfigError, collected, nearest
from syneg.core.records import fingerprint
from syneg.core.settings import build_config, read_value
from syneg.training.sampling import ARMS, Filling, filling_of

BASE_TEACHER, READER, CROSS = "base", "reader", "cross-encoder"  # values of `train.teacher` that are not files
EQUAL = 0  # `calls=equal`
_SHARED = ("pairs", "arms", "dev_passages", "index")
_FIRST = ".first"
_MINING = tuple(key for key in MineConfig.model_fields if key not in _SHARED)
_FIELDS = {"mine": _MINING, "mix": tuple(MixConfig.model_fields), "train": tuple(TrainConfig.model_fields)}
SETTINGS = {key: section for section, fields in _FIELDS.items() for key in fields if key not in _SHARED}
SETTINGS["program"] = "generate"
"""Setting that an arm may change → its section."""


@dataclass(frozen=True)
class Arm:
    """One arm. `config` holds the run's settings, changed by the arm's own.

    `calls` limits the LM calls whose results the arm uses: None for no limit, EQUAL for the smallest number of calls
    among all arms with EQUAL. `text` is the arm as it was parsed; `name` shortens the path of a saved program.
    """

    name: str
    kind: str
    config: Config
    calls: int | None = None
    text: str = field(default="", compare=False)

    @property
    def filling(self) -> Filling:
        return filling_of(self.kind, self.config.mix)

    @property
    def reads(self) -> bool:
        """Whether the arm uses the grades of a reader."""
        return self.filling.read or self.teacher == READER

    @property
    def teacher(self) -> str:
        """The teacher whose scores the arm distils (`train.teacher`); "" without distillation."""
        return self.config.train.teacher if self.config.train.distil else ""

    @property
    def wants_synthetic(self) -> bool:
        return (self.filling.synthetic or self.filling.grounded) and self.config.mix.ratio > 0

    @property
    def grounds(self) -> bool:
        """Whether the arm takes real passages near written texts. A reader that may be used grades them first."""
        return self.filling.grounded and self.wants_synthetic

    @property
    def remines(self) -> bool:
        """Whether negatives are mined again during the training (`train.remine`)."""
        return self.config.train.remine > 0 and self.filling.is_mined

    @property
    def first_part(self) -> Arm:
        """The training of an arm that mines again, up to that point. Its weights are those of the last step."""
        train = self.config.train
        part = {"epochs": float(train.remine), "remine": 0, "evals": 1, "patience": 0, "alphas": (1.0,)}
        config = self.config.model_copy(update={"train": train.model_copy(update=part)})
        return replace(self, name=f"{self.name}{_FIRST}", config=config)

    def over(self, config: Config) -> Arm:
        """The same arm with other settings of the run. Its own settings and its name stay."""
        return replace(arm(self.text, config), name=self.name)

    def file_name(self, seed: int) -> str:
        """Return a file name for the arm and seed, unique per arm. A hash is added if characters had to be replaced."""
        safe = re.sub(r"[^A-Za-z0-9@=._-]", "-", self.name)
        return f"{safe if safe == self.name else f'{safe}~{fingerprint(self.name)[:6]}'}-{seed}"


def arm(text: str, config: Config) -> Arm:
    """Parse one arm. Raises ConfigError for an unknown kind or setting, with the nearest known name."""
    kind, *settings = text.split("@")
    if kind not in ARMS:
        raise ConfigError(f"unknown arm {kind!r}", todo=nearest(kind, ARMS))
    tree, calls = config.model_dump(), None
    for setting in settings:
        key, sign, value = setting.partition("=")
        if key == "calls":
            calls = _calls(text, value)
            continue
        if not sign or key not in SETTINGS:
            raise ConfigError(f"arm {text!r}: unknown setting {key!r}", todo=nearest(key, SETTINGS))
        tree[SETTINGS[key]][key] = range(int(value)) if key == "seeds" and value.isdigit() else read_value(value)
    if ARMS[kind].order and not any(setting.startswith("order=") for setting in settings):
        tree["train"]["order"] = ARMS[kind].order
    made = Arm(_shown(text), kind, build_config(tree, where=f"arm {text!r}"), calls, text)
    _check_named(made, {setting.partition("=")[0] for setting in settings}, config)
    if calls is not None and not (made.reads or made.wants_synthetic):
        raise ConfigError(f"arm {text!r} has no LM calls", todo="leave out calls")
    return made


def _check_named(made: Arm, named: set[str], config: Config) -> None:
    """Raise ConfigError if an arm that is not made of mined negatives names a setting of mining, or one names auto, and
    if another arm than hybrid names a base."""
    if "base" in named and made.kind != "hybrid":
        raise ConfigError(f"arm {made.name!r} has no base", todo="give it to hybrid")
    able = [name for name, filling in ARMS.items() if filling.is_mined and name != made.kind]
    if "remine" in named and not made.filling.is_mined:
        raise ConfigError(f"arm {made.name!r} does not mine again", todo=f"give remine to one of: {', '.join(able)}")
    own = sorted(named & {*_MINING})
    if own and not made.filling.is_mined and ("sources" in own or not made.filling.sources):
        raise ConfigError(f"arm {made.name!r} has no {own[0]}", todo=f"give it to one of: {', '.join(able)}")
    if made.config.mine.margin == "auto" != config.mine.margin:
        raise ConfigError(f"arm {made.name!r}: the race of margins is the run's", todo="set mine.margin=auto")


def mining_of_arm(own: MineConfig, shared: MineConfig, chosen: MineConfig) -> MineConfig:
    """The settings by which an arm with the settings `own` is mined.

    `shared` are the settings of the run, and `chosen` the same after the race of margins. An arm that names a margin
    takes nothing from the race.
    """
    if own.margin != "auto" and own != shared:
        return own
    return chosen.model_copy(update={key: value for key, value in own if value != getattr(shared, key)})


def _shown(text: str) -> str:
    """Shorten the path of a saved program to its folder and file name.

    >>> _shown("hybrid@program=/home/me/runs/a/program.json@ratio=1")
    'hybrid@program=a/program.json@ratio=1'
    """
    return re.sub(r"(?<=@program=)/[^@]*?([^/@]+/[^/@]+\.json)(?=@|$)", r"\1", text)


def _calls(text: str, value: str) -> int:
    if value == "equal":
        return EQUAL
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"arm {text!r}: calls={value}", todo="give a number of LM calls, or equal")
    return int(value)


def split_arms(text: str) -> tuple[str, ...]:
    """Split the value of `--arms` at commas, except for commas inside brackets.

    >>> split_arms("mined, hybrid@alphas=[0.5,1.0]@seeds=3")
    ('mined', 'hybrid@alphas=[0.5,1.0]@seeds=3')
    """
    return tuple(part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip())


def arms(config: Config) -> list[Arm]:
    """Parse the arms of `train.arms`. Adds `verified` if the arms are the default ones and a reader can be used.

    Raises one ConfigError with the problems of all arms.
    """
    planned, problems = list[Arm](), list[str]()
    for text in dict.fromkeys((*config.train.arms, *_implied(config))):
        try:
            added = arm(text, config)
            same = any(other.name == added.name for other in planned)  # two saved programs with the same shortened path
            planned.append(replace(added, name=text) if same else added)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems[0] if len(problems) == 1 else collected(f"{len(problems)} wrong arms", problems))
    return planned


def named(name: str, config: Config) -> Arm:
    """Return the arm with the name that a verdict shows. Raises ConfigError for an unknown arm."""
    return next((planned for planned in arms(config) if planned.name == name), None) or arm(name, config)


def _implied(config: Config) -> tuple[str, ...]:
    """Return the arms that a reader adds to the default ones. An embedded LM reads only if `reader.use` is "on"."""
    reader = config.reader
    if config.train.arms != TrainConfig.model_fields["arms"].default or reader.use == "off":
        return ()
    elsewhere = not (reader.model or config.lm.model).startswith("local/")
    return ("verified",) if reader.use == "on" or reader.given or reader.cross_encoder or elsewhere else ()


def ablation(name: str) -> tuple[str, ...]:
    """Return the arms of an ablation as text. Raises ConfigError for an unknown name."""
    if name not in ABLATIONS:
        raise ConfigError(f"unknown ablation {name!r}", todo=nearest(name, ABLATIONS))
    return tuple(ABLATIONS[name])


# The arms that `syneg-dspy ablate NAME` compares, with the values of the paper's tables.
ABLATIONS: dict[str, Sequence[str]] = {
    "ratio": ("mined", *(f"hybrid@ratio={r}" for r in (0.2, 0.5, 0.7, 1.0, 1.7, 2.7))),
    "temperature": tuple(
        f"{kind}@temperature={t}" for t in (0.005, 0.01, 0.02, 0.05, 0.1) for kind in ("mined", "hybrid")
    ),
    "program": ("mined", *(f"hybrid@program={p}" for p in ("single_prompt", "multi_attribute", "no_reflection",
                                                            "no_attributes", "reflective", "neighbour_rewrite"))),
    "loss": ("mined", "hybrid", "hybrid@regulariser=0.1", "hybrid@distil=0.5", "hybrid@distil=0.5@teacher=reader",
             "hybrid@guide=0.95", "hybrid@weight=0.3", "hybrid@confidence=true", "hybrid@curriculum=true",
             "hybrid@order=listwise"),
    "calls": ("mined", *(f"{kind}@calls=equal" for kind in ("verified", "graded", "grounded", "hybrid")),
              "hybrid@base=verified@calls=equal"),
    "mix": ("mined", "synthetic", "dataset-mix", "hybrid"),
    "margin": ("mined@margin=0.95", "mined@margin=0.9", "mined@margin=10", "mined@margin=10@first_rank=11"),
}  # fmt: skip
