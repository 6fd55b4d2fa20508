"""Models by name: `local:smollm2`, `openai:MODEL`, `langchain:PROVIDER:MODEL`, and what plugins add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steelyard.core.errors import InvalidValue
from steelyard.core.plugins import Registry
from steelyard.core.settings import Settings
from steelyard.lm.protocol import LM

__all__ = ["MODELS", "as_lm", "open_lm"]

Opener = Callable[[str, Settings], LM]

MODELS: Registry[Opener] = Registry("kind of model", "steelyard.models")
"""Openers by the word before the colon; a plugin's entry point names a `(rest, settings) -> LM`."""


def open_lm(spec: str, settings: Settings) -> LM:
    """The model of a name.

    Args:
        spec: `kind:rest`; a plugin's kind may stand without a rest.
        settings: Base address and key of endpoints, the home of local state, and the mode: in replay mode a
            model need not be installed.

    Raises:
        NotFound: no such kind (or, in the other modes, no such weights). InvalidValue: a model's name is
            missing.
    """
    kind, _, rest = spec.partition(":")
    return MODELS.get(kind)(rest, settings)


def _local(rest: str, settings: Settings) -> LM:
    from steelyard.lm.local_lm import LocalLM

    path = rest or "smollm2"
    if path != "smollm2" and not path.startswith("~"):
        path = str(settings.root / path)
    model = LocalLM(path, home=settings.home, timeout_s=settings.row_timeout_s)
    if settings.lm_mode != "replay":
        model.require_weights()  # one sentence now instead of one a row
    return model


def _openai(rest: str, settings: Settings) -> LM:
    from steelyard.lm.openai_lm import OpenAILM

    key = settings.openai_api_key
    if key is None and (settings.lm_mode == "replay" or settings.openai_base_url is not None):
        key = "none"  # replay asks nobody, and most servers of one's own want no key
    return OpenAILM(
        rest,
        settings.openai_base_url,
        key,
        timeout_s=settings.row_timeout_s / 2,  # one that hangs leaves time for another
        concurrency=settings.concurrency or 8,
    )


def _langchain(rest: str, settings: Settings) -> LM:
    from steelyard.lm.langchain_lm import open_langchain

    given: dict[str, Any] = {}
    if rest.startswith("openai:"):  # the same settings as for openai:MODEL
        named = {"base_url": settings.openai_base_url, "api_key": settings.openai_api_key}
        given = {k: v for k, v in named.items() if v is not None}
    replay = settings.lm_mode == "replay"
    return open_langchain(rest, concurrency=settings.concurrency or 8, replay=replay, **given)


def as_lm(given: Any) -> LM:
    """The model that was handed over: an `LM` as it is, a LangChain chat model as one.

    Raises:
        InvalidValue: it is neither.
    """
    if isinstance(given, LM):
        return given
    from steelyard.lm.langchain_lm import LangChainLM, is_chat_model

    if is_chat_model(given):
        return LangChainLM(given)
    raise InvalidValue(
        f"lm={given!r:.200} is no language model",
        do="Give a name such as 'openai:gpt-5-mini', a LangChain chat model, or an object with complete(), "
        "acomplete(), close(), name, digest and concurrency.",
    )


MODELS.add("local", lambda: _local)
MODELS.add("openai", lambda: _openai)
MODELS.add("langchain", lambda: _langchain)
