"""Prompts that others keep in MLflow's prompt registry: read and registered as they are there.

Steelyard's own versions live in the same registry under the store's layout; here it is about the prompts of
applications that use `mlflow.genai` themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.settings import Settings
from steelyard.store.backend import Backend
from steelyard.store.opening import store_uri

__all__ = ["fetch_mlflow_prompt", "register_mlflow_prompt"]


def fetch_mlflow_prompt(settings: Settings, uri: str) -> Any:
    """MLflow's `PromptVersion` of `prompts:/NAME/3` or `prompts:/NAME@alias`.

    Raises:
        NotFound: there is none. StoreUnavailable: the registry cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    backend = Backend.open(store_uri(settings), settings)
    try:
        with backend.guard():
            try:
                found = backend.client.load_prompt(uri, allow_missing=True)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                found = None
    finally:
        backend.close()
    if found is None:
        raise NotFound("MLflow prompt", uri, do="Write prompts:/NAME/VERSION or prompts:/NAME@ALIAS.")
    return found


def register_mlflow_prompt(settings: Settings, prompt: Mapping[str, JSON]) -> str:
    """The address, `prompts:/NAME/3`, of a new version made of the arguments of `register_prompt`.

    Raises:
        InvalidValue: MLflow refuses the name or the template. StoreUnavailable: it cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    backend = Backend.open(store_uri(settings), settings)
    try:
        with backend.guard():
            try:
                made = backend.client.register_prompt(**{**prompt, "name": str(prompt["name"])})
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                raise InvalidValue(
                    f"MLflow refuses the prompt {prompt['name']!r} ({error.message[:160]})",
                    do="Mend it, or rename it.",
                ) from None
    finally:
        backend.close()
    return str(made.uri)
