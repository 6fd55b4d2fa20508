"""Settings: the only reader of the environment and of `[tool.steelyard]`.

Precedence, highest first: an argument in code or on the command line, `STEELYARD_*` (and the field's own
`MLFLOW_TRACKING_URI`, `OPENAI_BASE_URL`, `OPENAI_API_KEY`), `[tool.steelyard]` in `pyproject.toml`, the
default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from steelyard.core.errors import InvalidFile, InvalidValue, closest, did_you_mean

__all__ = [
    "LM_MODES",
    "PROMPTS_FROM",
    "Settings",
    "TrackingAccess",
    "find_root",
    "load_settings",
    "origins",
    "tracking_access",
]

LM_MODES = ("auto", "live", "replay")
PROMPTS_FROM = ("store", "lock", "files")
_ON_INCONCLUSIVE = ("fail", "warn")
_ON_INCOMPLETE = ("resume", "fresh")
_LANGSMITH = ("auto", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How Steelyard runs here.

    Attributes:
        root: The folder of the `pyproject.toml` with `[tool.steelyard]`, else the working directory.
        prompts: Folder of the prompt files.
        evals: Folder of the evals.
        datasets: Folder where a dataset's name is looked up.
        home: Folder of local state (store, evidence, recordings, reports); not committed.
        lock: The prompt lock file, committed.
        tracking_uri: MLflow's tracking URI; None means SQLite under `home`.
        artifact_uri: Where a store without a server keeps artifacts: `s3://BUCKET/PATH` or a `file:` address;
            None means beside the database.
        experiment: MLflow experiment of the runs.
        lm: Which model answers: `local:smollm2`, `local:/path/model.gguf`, `openai:MODEL`.
        lm_mode: `auto` (replay what is recorded, record the rest), `live`, `replay`.
        openai_base_url: Base address of the OpenAI-compatible endpoint, ending in `/v1`.
        openai_api_key: Its key; never written anywhere.
        baseline: The alias that candidates are compared with.
        anchor: An alias that, where it is set, the report shows the change since: losses that add up.
        on_inconclusive: `fail` or `warn`.
        concurrency: Most rows at once; None lets the model say.
        row_timeout_s: Seconds for one row's task, retries included.
        prompts_from: What `steelyard.prompt` serves versions from: `store`, `lock` (the committed lock file
            pins them), `files` (the working files, for development).
        prompt_ttl_s: Seconds after which `steelyard.prompt` asks the store again, in the background.
        environments: Aliases in the order in which a version goes through them, `("dev", "production")`.
        run_timeout_s: Seconds for all rows of a gate; None sets no limit.
        max_tokens_total: Most tokens, prompt and completion, for the calls of one gate; None: no cap.
        max_cost_usd: Most US dollars that they may cost; None: no cap.
        on_incomplete: `resume` goes on with an interrupted run of the same gate, `fresh` begins anew.
        langsmith: `auto` (results are mirrored to LangSmith when there is a key) or `off`.
        langsmith_api_key: LangSmith's key; never written anywhere.
        langsmith_endpoint: Base address of LangSmith's API; its own default where there is none.
        retention: What `steelyard gc` keeps: `evidence_days`, `keep_last`, `replay_days`, `incomplete_days`.
    """

    root: Path
    prompts: Path
    evals: Path
    datasets: Path
    home: Path
    lock: Path
    tracking_uri: str | None = None
    artifact_uri: str | None = None
    experiment: str = "steelyard"
    lm: str = "local:smollm2"
    lm_mode: str = "auto"
    openai_base_url: str | None = None
    openai_api_key: str | None = None
    baseline: str = "production"
    anchor: str = "anchor"
    on_inconclusive: str = "fail"
    concurrency: int | None = None
    row_timeout_s: float = 120.0
    prompts_from: str = "store"
    prompt_ttl_s: float = 60.0
    environments: tuple[str, ...] = ()
    run_timeout_s: float | None = None
    on_incomplete: str = "resume"
    max_tokens_total: int | None = None
    max_cost_usd: float | None = None
    langsmith: str = "auto"
    langsmith_api_key: str | None = None
    langsmith_endpoint: str | None = None
    retention: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)

    def __repr__(self) -> str:  # the key never shows
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        shown |= {secret: "***" for secret in _SECRETS if shown[secret]}
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def with_(self, **changes: Any) -> Settings:
        """The settings with some values changed, checked like any other."""
        return _checked(replace(self, **changes), "an argument")


_PATHS = {
    "prompts": "prompts",
    "evals": "evals",
    "datasets": "evals/datasets",
    "home": ".steelyard",
    "lock": "prompts/steelyard.lock",
}
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "tracking_uri": str,
    "artifact_uri": str,
    "experiment": str,
    "lm": str,
    "lm_mode": str,
    "openai_base_url": str,
    "baseline": str,
    "anchor": str,
    "on_inconclusive": str,
    "concurrency": int,
    "row_timeout_s": (int, float),
    "prompts_from": str,
    "prompt_ttl_s": (int, float),
    "run_timeout_s": (int, float),
    "on_incomplete": str,
    "max_tokens_total": int,
    "max_cost_usd": (int, float),
    "langsmith": str,
    "langsmith_endpoint": str,
    "retention": dict,
}
_LISTS = ("environments",)  # texts in a list; in the environment split by commas
_RETENTION = ("evidence_days", "keep_last", "replay_days", "incomplete_days")
_SECRETS = ("openai_api_key", "langsmith_api_key")  # from the environment only
_FIELDS_OWN = {
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "experiment": "MLFLOW_EXPERIMENT_NAME",
    "openai_base_url": "OPENAI_BASE_URL",
    "openai_api_key": "OPENAI_API_KEY",
    "langsmith_api_key": "LANGSMITH_API_KEY",
    "langsmith_endpoint": "LANGSMITH_ENDPOINT",
}


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` whose `pyproject.toml` has `[tool.steelyard]`, else `start`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and b"[tool.steelyard" in file.read_bytes():
            return folder
    return here


def load_settings(
    start: Path | None = None, *, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """The settings in force.

    Args:
        start: Where to look for `pyproject.toml`, upwards; the working directory if left out.
        environ: The environment; `os.environ` if left out.
        **overrides: Fields of `Settings`; a None is ignored.

    Raises:
        InvalidFile: `pyproject.toml` cannot be read, or has an unknown key or a wrong value under
            `[tool.steelyard]`.
        InvalidValue: an environment variable or an override has a wrong value.
    """
    env = os.environ if environ is None else environ
    root = find_root(start)
    table = _table(root / "pyproject.toml")
    _check_table(root, table)
    values: dict[str, Any] = {k: root / table.get(k, default) for k, default in _PATHS.items()}
    values |= {k: table[k] for k in _PLAIN if k in table}
    values |= {k: tuple(table[k]) for k in _LISTS if k in table}
    for key in (*_PATHS, *_PLAIN, *_SECRETS):
        if _PLAIN.get(key) is dict:
            continue  # a table is written in pyproject.toml
        own, field_s_own = f"STEELYARD_{key.upper()}", _FIELDS_OWN.get(key)
        text = env.get(own) or (env.get(field_s_own) if field_s_own else None)
        if text:
            values[key] = root / text if key in _PATHS else _number(key, text, own)
    for key in _LISTS:
        if text := env.get(f"STEELYARD_{key.upper()}"):
            values[key] = tuple(part.strip() for part in text.split(","))
    values |= {k: v for k, v in overrides.items() if v is not None}
    for key in _PATHS:
        values[key] = Path(values[key])
    return _checked(Settings(root=root, **values), "the settings")


def origins(start: Path | None = None, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where each setting in force comes from: the environment variable's name, `pyproject.toml` or `default`.

    Args:
        start: Where to look for `pyproject.toml`, upwards; the working directory if left out.
        environ: The environment; `os.environ` if left out.

    Raises:
        InvalidFile: as `load_settings`.
    """
    env = os.environ if environ is None else environ
    table = _table(find_root(start) / "pyproject.toml")
    out: dict[str, str] = {}
    for key in (*_PATHS, *_PLAIN, *_LISTS, *_SECRETS):
        names = (f"STEELYARD_{key.upper()}", _FIELDS_OWN.get(key))
        variable = next((n for n in names if n is not None and env.get(n)), None)
        out[key] = variable or ("pyproject.toml" if key in table else "default")
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingAccess:
    """Credentials and TLS for an MLflow server, by MLflow's own variables; secrets never show.

    Attributes:
        username: `MLFLOW_TRACKING_USERNAME`.
        password: `MLFLOW_TRACKING_PASSWORD`.
        token: `MLFLOW_TRACKING_TOKEN`, used where there is no user and password.
        insecure_tls: `MLFLOW_TRACKING_INSECURE_TLS`.
        ca_file: `MLFLOW_TRACKING_SERVER_CERT_PATH`.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    insecure_tls: bool = False
    ca_file: str | None = None


def tracking_access(environ: Mapping[str, str] | None = None) -> TrackingAccess:
    """How the environment says an MLflow server is to be reached."""
    env = os.environ if environ is None else environ
    return TrackingAccess(
        username=env.get("MLFLOW_TRACKING_USERNAME") or None,
        password=env.get("MLFLOW_TRACKING_PASSWORD") or None,
        token=env.get("MLFLOW_TRACKING_TOKEN") or None,
        insecure_tls=env.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"),
        ca_file=env.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None,
    )


def _number(key: str, text: str, variable: str) -> Any:
    wanted = _PLAIN.get(key, str)
    if wanted is str:
        return text
    try:
        return int(text) if wanted is int else float(text)
    except ValueError:
        raise InvalidValue(f"{variable}={text!r} is no number", do="Set a number, or unset it.") from None


def _table(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    import tomllib  # some ms, and an application often has no such file

    lines: list[str] = []
    try:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        tools = tomllib.loads(text).get("tool", {})
    except RecursionError:
        raise InvalidFile(file, "nested too deeply", do="Flatten it.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidFile(file, "not UTF-8 text", do="Save the file as UTF-8.", line=line) from None
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")  # "line 3, column 8)" or "end of document)"
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else len(lines)
        raise InvalidFile(file, f"not readable as TOML: {what}", do="Mend the line.", line=line) from None
    table = tools.get("steelyard", {}) if isinstance(tools, dict) else None
    if not isinstance(table, dict):
        do = "Write [tool.steelyard] on a line of its own, and the settings below."
        raise InvalidFile(file, "[tool.steelyard] is no table", do=do)
    if "steelyard" not in tools and (misspelt := closest("steelyard", tools, cutoff=0.85)):
        raise InvalidFile(
            file,
            f"[tool.{misspelt}] is read by nobody",
            do="Did you mean [tool.steelyard]?",
            line=_line_of_table(lines, misspelt),
        )
    for key, value in cast("dict[str, Any]", table).items():
        wanted = str if key in _PATHS else list if key in _LISTS else _PLAIN.get(key)
        if wanted is None:
            known = [*_PATHS, *_PLAIN, *_LISTS]
            raise InvalidFile(
                file,
                f"[tool.steelyard] has the unknown key {key!r}",
                do=did_you_mean(key, known, f"Known keys: {', '.join(known)}."),
                line=_line_of(lines, key),
            )
        texts = not isinstance(value, list) or all(isinstance(v, str) for v in cast("list[Any]", value))
        if not isinstance(value, wanted) or isinstance(value, bool) or not texts:
            raise InvalidFile(
                file,
                f"[tool.steelyard] {key} = {value!r} has the wrong type",
                do="Give a text in quotes."
                if wanted is str
                else 'Give a list of texts: ["dev", "production"].'
                if wanted is list
                else "Write a table: { evidence_days = 90 }."
                if wanted is dict
                else "Give a number.",
                line=_line_of(lines, key),
            )
    return table


def _check_table(root: Path, table: Mapping[str, Any]) -> None:
    """Nothing, if every value in the file is one of its kind's; the error names file and line."""
    file = root / "pyproject.toml"
    paths: dict[str, Any] = {k: root / v for k, v in _PATHS.items()}
    plain = Settings(root=root, **paths)
    for key, value in table.items():
        try:
            if key in _PATHS and "\0" in value:
                raise InvalidValue(f"{key} = {value!r:.80} is no path", do="Take the NUL out.")
            if key not in _PATHS:
                _checked(replace(plain, **{key: value}), "[tool.steelyard]")
        except InvalidValue as error:
            lines = file.read_text(encoding="utf-8").splitlines()
            raise InvalidFile(file, error.what, do=error.do, line=_line_of(lines, key)) from None


def _line_of_table(lines: Sequence[str], name: str) -> int | None:
    return next((i for i, text in enumerate(lines, 1) if text.strip().startswith(f"[tool.{name}")), None)


def _line_of(lines: Sequence[str], key: str) -> int | None:
    inside = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("["):
            inside = text.startswith("[tool.steelyard")
        elif inside and text.partition("=")[0].strip().strip("\"'") == key:
            return number
    return None


def _checked(settings: Settings, where: str) -> Settings:
    for key, allowed in (
        ("lm_mode", LM_MODES),
        ("on_inconclusive", _ON_INCONCLUSIVE),
        ("prompts_from", PROMPTS_FROM),
        ("on_incomplete", _ON_INCOMPLETE),
        ("langsmith", _LANGSMITH),
    ):
        if getattr(settings, key) not in allowed:
            raise InvalidValue(
                f"{key} = {getattr(settings, key)!r} in {where} is not one of its values",
                do=f"Use {' or '.join(allowed)}.",
            )
    retention: Any = settings.retention
    if not isinstance(retention, Mapping) or not all(
        k in _RETENTION and type(v) is int and v >= 0
        for k, v in cast("Mapping[str, object]", retention).items()
    ):
        raise InvalidValue(
            f"retention = {retention!r} in {where} is none",
            do=f"Write a table of whole numbers: retention = {{ {' = 90, '.join(_RETENTION)} = 7 }}.",
        )
    if settings.concurrency is not None and settings.concurrency < 1:
        raise InvalidValue(f"concurrency = {settings.concurrency}", do="Give 1 or more.")
    if not settings.row_timeout_s > 0:  # NaN too
        raise InvalidValue(f"row_timeout_s = {settings.row_timeout_s}", do="Give seconds above 0.")
    if settings.prompt_ttl_s <= 0:
        raise InvalidValue(f"prompt_ttl_s = {settings.prompt_ttl_s}", do="Give seconds above 0.")
    if settings.environments:
        from steelyard.core.ref import check_alias

        for alias in settings.environments:
            check_alias(alias)
        if len(set(settings.environments)) < len(settings.environments):
            raise InvalidValue(
                f"environments = {list(settings.environments)} names one twice",
                do="Name each alias once, in the order a version goes through them.",
            )
    for key in ("run_timeout_s", "max_tokens_total", "max_cost_usd"):
        limit = getattr(settings, key)
        if limit is not None and limit <= 0:
            raise InvalidValue(f"{key} = {limit}", do="Give a number above 0, or leave it out.")
    return settings
